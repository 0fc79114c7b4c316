"""The line between a campaign and its replicas: it tells one to die when it reaches a step, and hears what they reach."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

_DEADLINE: Final = 30.0


@dataclass(slots=True)
class _Line:
    """One replica's connection: what it acknowledged of what it was told, None once it is gone."""

    writer: asyncio.StreamWriter
    answers: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)


class Control:
    """Listens for replicas that say their name."""

    def __init__(self) -> None:
        self.address = ""
        self._lines: dict[str, _Line] = {}
        self._came = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncIterator[Control]:
        control = cls()
        server = await asyncio.start_server(control._accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        control.address = f"{host}:{port}"
        try:
            yield control
        finally:
            server.close()
            for line in control._lines.values():
                line.writer.close()

    async def die_at(self, replica: str, step: str, after: int) -> bool:
        """Tell it to kill itself when it reaches this step for that many times more; 0: not to. False: it has died."""
        async with asyncio.timeout(_DEADLINE):
            async with self._came:
                await self._came.wait_for(lambda: replica in self._lines)
            line = self._lines[replica]
            line.writer.write(json.dumps({"step": step, "after": after}).encode() + b"\n")
            return await line.answers.get() is not None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        line = _Line(writer)
        async with self._came:
            self._lines[name] = line
            self._came.notify_all()
        try:
            while answer := await reader.readline():
                line.answers.put_nowait(answer)
        except ConnectionError:
            pass  # killed: that is what it is for
        finally:
            line.answers.put_nowait(None)
            writer.close()
