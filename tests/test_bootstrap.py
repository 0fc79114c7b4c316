"""Set-up, run for real on a small clone: its own venv, pip and npm, but nothing to download."""

import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap
from adapters.node import NodeMissing, find_node, npm_command

ROOT = Path(bootstrap.__file__).parent

PYPROJECT = """
[project]
name = "strangler"
version = "1"
[tool.setuptools]
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = """
import zipfile

FILES = {
    "METADATA": "Metadata-Version: 2.1\\nName: strangler\\nVersion: 1\\n",
    "WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "entry_points.txt": "[console_scripts]\\nstrangler = this:main\\n",
    "RECORD": "",
}

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "strangler-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for file, text in FILES.items():
            wheel.writestr(f"strangler-1.dist-info/{file}", text)
    return name

build_wheel = build_editable
"""

PACKAGE = '{"name": "small", "version": "1.0.0", "scripts": {"db:generate": "node generate.mjs"}}'
PACKAGE_LOCK = '{"name": "small", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "small"}}}'
GENERATE = """
import fs from 'node:fs'
fs.appendFileSync('runs', 'x')
if (fs.existsSync('broken')) { console.error('the schema is broken'); process.exit(1) }
if (fs.existsSync('hang')) { fs.writeFileSync('hang', 'hanging'); setInterval(() => {}, 1000) }
else fs.mkdirSync('generated', { recursive: true })
"""


class Clone:
    """A small clone and the commands of set-up in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.prisma = root / "prisma"
        for folder in (self.prisma, root / "adapters", root / "requirements"):
            folder.mkdir()
        for copied in ("bootstrap.py", "adapters/__init__.py", "adapters/node.py"):
            shutil.copy(ROOT / copied, root / copied)
        (root / "requirements" / "dev.txt").write_text("# nothing\n")
        (root / "pyproject.toml").write_text(PYPROJECT)
        (root / "backend.py").write_text(BACKEND)
        (self.prisma / "package.json").write_text(PACKAGE)
        (self.prisma / "package-lock.json").write_text(PACKAGE_LOCK)
        (self.prisma / "generate.mjs").write_text(GENERATE)
        # Node and npm on PATH, wherever this machine's are.
        self.bin = root / "bin"
        self.bin.mkdir()
        (self.bin / "node").symlink_to(find_node())
        program(self.bin / "npm", f'exec {shlex.join(npm_command())} "$@"')

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        servers = {"MONGO_URL": "mongodb://elsewhere", "DATABASE_URL": "postgresql://elsewhere"}
        return subprocess.Popen(
            [sys.executable, self.root / "bootstrap.py", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **servers, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", **env},
            start_new_session=True,
        )

    def set_up(self, *arguments: str, **env: str) -> tuple[int, list[str]]:
        """Exit status and the lines that set-up printed."""
        process = self.start(*arguments, **env)
        printed, _ = process.communicate(timeout=100)
        return process.returncode, printed.splitlines()

    @property
    def runs(self) -> int:
        """How often the clients were generated."""
        return len((self.prisma / "runs").read_text())


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that has been set up."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    status, lines = clone.set_up()
    assert (status, lines) == (
        0,
        [
            "set-up: making .venv",
            "set-up: installing Python packages",
            "set-up: installing strangler itself",
            "set-up: installing npm packages of prisma",
            "set-up: generating the Prisma clients",
        ],
    )
    return clone


def test_nothing_changed_is_nothing_done(clone: Clone) -> None:
    assert clone.set_up() == (0, [])


def test_only_what_changed_is_done_again(clone: Clone) -> None:
    (clone.prisma / "package-lock.json").write_text(PACKAGE_LOCK + "\n")
    npm, generating = "set-up: installing npm packages of prisma", "set-up: generating the Prisma clients"
    assert clone.set_up() == (0, [npm, generating])
    (clone.prisma / "generated").rmdir()
    assert clone.set_up() == (0, [generating])
    shutil.rmtree(clone.prisma / "node_modules")
    assert clone.set_up() == (0, [npm])
    assert clone.set_up() == (0, [])


def test_a_killed_set_up_goes_on_where_it_was(clone: Clone) -> None:
    (clone.prisma / "generated").rmdir()
    os.mkfifo(clone.prisma / "hang")
    process = clone.start()
    assert (clone.prisma / "hang").read_text() == "hanging"  # waits for its writer
    (clone.prisma / "generated").mkdir()  # what it left half made does not count
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    (clone.prisma / "hang").unlink()
    assert clone.set_up() == (0, ["set-up: generating the Prisma clients"])


def test_two_at_once_take_turns(clone: Clone) -> None:
    (clone.prisma / "generated").rmdir()
    before = clone.runs
    both = [clone.start(), clone.start()]
    assert [process.communicate(timeout=100) and process.returncode for process in both] == [0, 0]
    assert clone.runs == before + 1


def test_a_tool_that_fails_is_heard(clone: Clone) -> None:
    (clone.prisma / "broken").touch()
    (clone.prisma / "generated").rmdir()
    status, lines = clone.set_up()
    (clone.prisma / "broken").unlink()
    assert status == 1
    assert "the schema is broken" in lines
    assert lines[-1].endswith("run --silent db:generate ended with status 1; see above")
    assert clone.set_up() == (0, ["set-up: generating the Prisma clients"])


def test_mistakes_are_one_line_and_status_2(clone: Clone) -> None:
    assert clone.set_up("benhc") == (2, ["set-up: unknown argument benhc: expected nothing, or bench"])
    status, lines = clone.set_up(STRANGLER_NODE="/no/such/node")
    assert (status, len(lines)) == (2, 1)
    assert lines[0].startswith("set-up: STRANGLER_NODE=/no/such/node is not a Node that Prisma supports: install Node")


def test_a_python_without_venv_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    with pytest.raises(bootstrap.CannotSetUp, match=r"has no venv module: .* apt install python3\.\d+-venv\)$"):
        bootstrap.make_venv()


@pytest.mark.parametrize(
    ("place", "version", "whole"), [("", "3.11.7", True), ("elsewhere/", "3.11.7", False), ("", "3.10.13", False)]
)
def test_a_venv_that_was_moved_or_is_too_old_is_made_anew(
    place: str, version: str, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "bin" / "pip").write_text(f"#!{tmp_path}/{place}.venv/bin/python\n")
    (venv / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "PYTHON", venv / "bin" / "python")
    assert bootstrap.venv_is_whole() is whole


@pytest.mark.parametrize(
    ("machine", "libc"), [("riscv64", ("glibc", "2.36")), ("x86_64", ("glibc", "2.31")), ("x86_64", ("", ""))]
)
def test_a_platform_without_mongod_says_what_to_do(
    machine: str, libc: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("MONGO_URL", raising=False)
    with pytest.raises(bootstrap.CannotSetUp, match=rf"^no mongod .* Linux {machine}.* PATH, or set MONGO_URL$"):
        bootstrap.refuse_what_cannot_work([])
    monkeypatch.setenv("MONGO_URL", "mongodb://elsewhere")
    bootstrap.refuse_what_cannot_work([])


def test_servers_that_the_machine_has_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGO_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.servers_to_install() == ["mongod", "postgres"]
    for name in ("mongod", "postgres", "initdb"):
        program(tmp_path / name, "exit 0")
    assert bootstrap.servers_to_install() == []


def test_an_old_node_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRANGLER_NODE", raising=False)
    program(tmp_path / "node", "echo v20.18.3")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [step.name for step in bootstrap.node_wheel_steps()] == ["installing node for Python"]
    monkeypatch.setenv("STRANGLER_NODE", str(tmp_path / "node"))
    with pytest.raises(NodeMissing, match=r"is not a Node that Prisma supports: install Node 20\.19"):
        find_node()
    program(tmp_path / "node2219", "echo v22.19.0")
    monkeypatch.setenv("STRANGLER_NODE", str(tmp_path / "node2219"))
    assert find_node() == tmp_path / "node2219"


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
