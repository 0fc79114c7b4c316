"""Servers that can be killed, hung, and brought back at the same port with the same data."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from examples.processes import NotReady, Program


class Restartable:
    """A program that `begin` runs for the length of a block, begun and ended at will."""

    def __init__(self, name: str, begin: Callable[[], AbstractAsyncContextManager[Program]], *, tries: int = 1) -> None:
        self.name = name
        self._begin = begin
        self._tries = tries
        self._block = AsyncExitStack()
        self._program: Program | None = None
        self._paused: list[int] = []

    @property
    def program(self) -> Program:
        assert self._program is not None, f"{self.name} is not running"
        return self._program

    @property
    def runs(self) -> bool:
        return self._program is not None

    async def start(self) -> None:
        """Ready when it returns. Where what the last run left may need a moment to go, it is tried again."""
        for left in reversed(range(self._tries)):
            try:
                self._program = await self._block.enter_async_context(self._begin())
                return
            except NotReady:
                if not left:
                    raise

    async def kill(self) -> None:
        """SIGKILL to it and to all that it started, sessions of their own or not; none is left when this returns."""
        for pid in (self.program.pid, *descendants(self.program.pid)):
            send(pid, signal.SIGKILL)
        await self.gone()

    async def kill_alone(self) -> None:
        """SIGKILL to the process itself: what it started finds out by itself."""
        send(self.program.pid, signal.SIGKILL)
        await self.gone()

    async def gone(self) -> None:
        """Wait for a program that ends by itself, or by a signal of ours."""
        program, self._program, self._paused = self.program, None, []
        await program.exited(20)
        await self._block.aclose()

    async def stop(self) -> None:
        """Ask it to end, and wait for it."""
        if self._program is not None:
            self.resume()
            self._program = None
            await self._block.aclose()

    def pause(self) -> None:
        """Hang it and all that it started."""
        self._paused = [self.program.pid, *descendants(self.program.pid)]
        for pid in self._paused:
            send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._paused:
            send(pid, signal.SIGCONT)
        self._paused = []


def send(pid: int, number: signal.Signals) -> bool:
    """False: there is no such process any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def descendants(pid: int) -> list[int]:
    """The processes that this one started, and theirs, as the kernel lists them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        todo += (mine := children.get(todo.pop(), []))
        found += mine
    return found


def command_of(pid: int) -> str:
    """Its command line; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def resident(pid: int) -> int:
    """The bytes of memory that the process occupies."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _parent(entry: Path) -> int | None:
    try:
        stat = (entry / "stat").read_text()
    except OSError:
        return None  # it has just ended
    return int(stat.rpartition(")")[2].split()[1])
