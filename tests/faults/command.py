"""The command line as an engineer runs it: `strangler quarantine list`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults.scene import ROOT, Scene

_DEADLINE: Final = 60.0


class Command:
    """A running command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def lines(self) -> AsyncIterator[str]:
        """What it prints, as it does; ends when it ends."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_DEADLINE):
            while line := await self._process.stdout.readline():
                yield line.decode().rstrip()

    async def ended(self) -> tuple[int, str]:
        """Its status, and the end of what it complained of."""
        assert self._process.stderr is not None
        async with asyncio.timeout(_DEADLINE):
            complaint = (await self._process.stderr.read()).decode().strip()
            return await self._process.wait(), complaint[-400:]


@asynccontextmanager
async def commanded(scene: Scene, *arguments: str) -> AsyncIterator[Command]:
    """`strangler` with these arguments, straight to the stores of the scene."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("strangler"),
        *arguments,
        cwd=ROOT,
        env={**os.environ, **scene.environment, "COLUMNS": "200"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
