"""Starts real programs for the demo, the tests and the bench, waits until each is ready, and leaves none behind."""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from examples.commands import Account

_GUARD = Path(__file__).with_name("guard.py")
_POLL = 0.02  # seconds between two looks at a program that is coming up
_GRACE = 5.0  # seconds that a program has to end when asked, before it is killed


class NotReady(Exception):
    """A program ended or stayed silent before it was ready. One line: which, how, and the end of its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program and its log.

    `pid` is its process id and its group's; `greeting` the line of the log that said it was ready, if one was awaited.
    """

    name: str
    pid: int
    log: Path
    greeting: str
    _guard: asyncio.subprocess.Process

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and everything it started: SIGSTOP hangs it, SIGKILL ends it."""
        if self._guard.returncode is None:
            os.killpg(self.pid, number)

    async def exited(self, seconds: float = 10.0) -> int:
        """Wait for the program to end; its status, 128 + n for signal n. TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            return await self._guard.wait()


@contextlib.asynccontextmanager
async def program(
    name: str,
    argv: Sequence[str | os.PathLike[str]],
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
    ready_url: str | None = None,
    ready_line: str | None = None,
    cwd: Path | None = None,
    stop: signal.Signals = signal.SIGTERM,
    account: Account | None = None,
    seconds: float = 30.0,
) -> AsyncIterator[Program]:
    """Run a program until the block ends; it is ready when the block begins.

    Ready means: `ready_url` answers with a status below 500, or a line of its output holds `ready_line`.
    Its output goes to `folder/name.log`; `env` is added to this process's environment. At the end, and also when this
    process is killed, the program's whole process group is sent `stop`, and killed 5 s later.
    Raises NotReady when it is not ready within `seconds`.
    """
    log = folder / f"{name}.log"
    begin = log.stat().st_size if log.exists() else 0
    order = {
        "argv": [os.fspath(part) for part in argv],
        "stop": stop,
        "grace": _GRACE,
        "user": account.user if account else None,
        "group": account.group if account else None,
    }
    with _appending(log) as output:
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _GUARD, json.dumps(order)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            cwd=cwd or folder,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        greeting = await _ready(name, guard, log, begin, ready_url, ready_line, seconds)
        assert guard.stdout is not None
        yield Program(name, int(await guard.stdout.readline()), log, greeting, guard)
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        async with asyncio.timeout(_GRACE + 5):
            await guard.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on.

    It lies below the ports that systems give to outgoing connections, so that traffic does not take it in the
    moment before the server that it is for binds it.
    """
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NotReady("no free port found between 20000 and 32000 in 100 tries")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for servers and their logs, removed at the end, that any account may pass through but not list.

    What earlier processes left because they were killed is removed too: a folder's lock ends with its process.
    """
    parent = Path(tempfile.gettempdir())
    _prune(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"strangler-{os.getuid()}-", dir=parent))
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(handle)


def _prune(parent: Path) -> None:
    for old in parent.glob(f"strangler-{os.getuid()}-*"):
        with contextlib.suppress(
            FileNotFoundError, BlockingIOError
        ):  # another process removed it first, or is using it
            # A folder younger than this may not have been locked yet.
            if time.time() - old.stat().st_mtime < 60:
                continue
            handle = os.open(old, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _appending(log: Path) -> Iterator[int]:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


async def _ready(
    name: str,
    guard: asyncio.subprocess.Process,
    log: Path,
    begin: int,
    url: str | None,
    line: str | None,
    seconds: float,
) -> str:
    try:
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            while guard.returncode is None:
                greeting = "" if line is None else _line_with(line, log, begin)
                if greeting is not None and (url is None or await _answers(session, url)):
                    return greeting
                await asyncio.sleep(_POLL)
        how = f"ended with status {guard.returncode}"
    except TimeoutError:
        how = f"was not ready within {seconds:g} s"
    raise NotReady(f"{name} {how}; its log {log} ends: {_last_lines(log, begin)}")


def _written(log: Path, begin: int) -> list[str]:
    return log.read_bytes()[begin:].decode(errors="replace").splitlines(keepends=True)


def _line_with(text: str, log: Path, begin: int) -> str | None:
    whole = [line for line in _written(log, begin) if line.endswith("\n")]  # the last one may still be being written
    return next((line.strip() for line in whole if text in line), None)


def _last_lines(log: Path, begin: int) -> str:
    lines = [line.strip() for line in _written(log, begin) if line.strip()]
    return " | ".join(lines[-5:]) or "(empty)"


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status < 500
    except (aiohttp.ClientError, TimeoutError):
        return False
