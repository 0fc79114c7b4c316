"""Flips as a campaign asks for them: by a coordinator of its own process, that may die at any step and is begun again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.holdings import Reader
from tests.faults.record import now
from tests.faults.scene import ROOT, Scene

_DEADLINE: Final = 60.0
_LOOK: Final = 0.05


@dataclass(frozen=True, slots=True)
class Flip:
    """One flip as it went: from when writes were held until they went on, or it was taken back."""

    fenced: float
    ended: float
    done: bool
    said: str


class Coordinator:
    def __init__(self, scene: Scene, reader: Reader) -> None:
        self._scene = scene
        self._reader = reader
        self._process: asyncio.subprocess.Process | None = None

    async def flip(
        self, entity: str, to: str, *, dies_at: str | None = None, fenced: Callable[[], None] | None = None
    ) -> Flip:
        """Begin a flip and see it end: done, taken back, or left where its coordinator died, and then ended by whoever finds
        it. `fenced` is called as soon as writes are held."""
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        order = {"entity": entity, "to": to, "dies_at": dies_at}
        process.stdin.write(json.dumps(order).encode() + b"\n")
        began, held, line = now(), 0.0, ""
        async with asyncio.timeout(_DEADLINE):
            while read := await process.stdout.readline():
                line = read.decode().rstrip()
                if "fenced at" in line:
                    held = now()
                    if fenced is not None:
                        fenced()
                if line == "done" or line.startswith("refused"):
                    ended = now()
                    return Flip(held or began, ended, line == "done" or await self.stands(entity, to), line)
        await process.wait()
        self._process = None
        done = await self.stands(entity, to)
        return Flip(held or began, now(), done, f"died when {dies_at}, {'done' if done else 'taken back'}")

    async def stands(self, entity: str, at: str) -> bool:
        """Whether the entity is at that stage, once nobody holds its writes any more."""
        async with asyncio.timeout(_DEADLINE):
            while (flag := await self._flag(entity))["target"] is not None:
                await asyncio.sleep(_LOOK)
        return bool(flag["stage"] == at)

    async def _flag(self, entity: str) -> dict[str, Any]:
        """The newest that either store holds, by their own drivers."""
        rows = await self._reader.sql(
            f"""SELECT "stage", "target", "epoch"::int AS epoch FROM "strangler_flag" WHERE "entity" = '{entity}'"""
        )
        found = await self._reader.legacy["strangler_flags"].find_one({"_id": entity})
        both = [*rows, *([found] if found else [])]
        if not both:
            return {"stage": self._scene.layout.stages[entity], "target": None}
        newest = max(both, key=lambda flag: int(flag["epoch"]))
        return {"stage": newest["stage"], "target": newest.get("target")}

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.coordinator"),
                cwd=ROOT,
                env={**os.environ, **self._scene.environment},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert self._process.stdout is not None
            async with asyncio.timeout(_DEADLINE):
                await self._process.stdout.readline()
        return self._process


@asynccontextmanager
async def coordinating(scene: Scene, reader: Reader) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(scene, reader)
    try:
        yield coordinator
    finally:
        await coordinator.stop()
