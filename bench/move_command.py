"""Commands of ours as an engineer runs them, as processes of their own: how fast they say they were, and what they occupied."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from examples.proxim8.stand import ROOT

_LOOK: Final = 0.05  # seconds between two looks at the memory of a process
_DEADLINE: Final = 600.0  # seconds
_LINE: Final = 2**20


@dataclass(slots=True)
class Peak:
    """The most bytes that a command and its engine have occupied, each; 0 where this system does not tell."""

    command: int = 0
    engine: int = 0

    def look(self, pid: int) -> None:
        self.command = max(self.command, _peak_of(pid))
        for child in _children_of(pid):
            self.engine = max(self.engine, _peak_of(child))


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended well: how many documents it was about, in seconds of work, and of the whole process."""

    documents: int
    seconds: float
    whole: float
    peak: Peak = field(default_factory=Peak)

    @property
    def per_second(self) -> float:
        return self.documents / self.seconds


async def done(environment: Mapping[str, str], *arguments: str) -> Done:
    """Run `strangler …` to its end. Raises RuntimeError unless its exit status is 0."""
    begun, peak = time.perf_counter(), Peak()
    ended: dict[str, dict[str, Any]] = {}
    async with asyncio.timeout(_DEADLINE), _running(environment, arguments) as command:
        watch = asyncio.create_task(_watched(command.pid, peak))
        try:
            async for said in _lines(command):
                if said.get("event") == "done":
                    ended[said["entity"]] = said
            status = await command.wait()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
    whole = time.perf_counter() - begun
    if status != 0 or not ended:
        raise RuntimeError(f"strangler {' '.join(arguments)} ended with status {status}, having done {sorted(ended)}")
    documents = sum(each["documents"] for each in ended.values())
    return Done(documents, sum(each["seconds"] for each in ended.values()), whole, peak)


@contextlib.asynccontextmanager
async def under_way(environment: Mapping[str, str], *arguments: str) -> AsyncIterator[None]:
    """`strangler …` at work for the length of the block, and then asked to end. It goes on from there the next time."""
    async with _running(environment, arguments) as command:
        async with asyncio.timeout(_DEADLINE):
            said = await anext(_lines(command))
        rest = asyncio.create_task(_drained(command))
        yield
        if command.returncode is not None:
            raise RuntimeError(f"strangler {' '.join(arguments)} ended while it was measured; it said first: {said}")
        command.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_DEADLINE):
            await command.wait()
            await rest


@contextlib.asynccontextmanager
async def _running(
    environment: Mapping[str, str], arguments: tuple[str, ...]
) -> AsyncIterator[asyncio.subprocess.Process]:
    command = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("strangler"),
        *arguments,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE,
    )
    try:
        yield command
    finally:
        if command.returncode is None:
            command.kill()
            await command.wait()


async def _lines(command: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert command.stdout is not None
    async for line in command.stdout:
        yield orjson.loads(line)


async def _drained(command: asyncio.subprocess.Process) -> None:
    assert command.stdout is not None
    while await command.stdout.read(_LINE):
        pass


async def _watched(pid: int, peak: Peak) -> None:
    while True:
        peak.look(pid)
        await asyncio.sleep(_LOOK)


def _peak_of(pid: int) -> int:
    """The most bytes that a process has occupied since it began; 0 where it has gone, or the system has no such file."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _children_of(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for each in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # The name, which is in parentheses, may hold anything.
                if int(each.read_text().rpartition(")")[2].split()[1]) == pid:
                    yield int(each.parent.name)
