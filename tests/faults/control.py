"""The line between a campaign and its replicas: it tells all of them to die when they reach a step, and hears who does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_DEADLINE: Final = 30.0


class Control:
    """Listens for replicas that say their name, each as soon as its process begins: what is ordered counts for those that
    come back later as well, for it may be one of these that reaches the step."""

    def __init__(self) -> None:
        self.address = ""
        self._order = _order("", 0)
        self._lines: dict[str, asyncio.StreamWriter] = {}
        self._heard: dict[str, asyncio.Queue[bytes]] = {}
        self._dead: asyncio.Queue[str] = asyncio.Queue()

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
            for writer in control._lines.values():
                writer.close()

    async def death_at(self, step: str, after: int) -> set[str]:
        """Who has died: the first to reach the step for that many times, and whoever reached it before hearing of that.
        Raises TimeoutError where nobody does."""
        self._order = _order(step, after)
        for writer in self._lines.values():
            writer.write(self._order)
        try:
            async with asyncio.timeout(_DEADLINE):
                dead = {await self._dead.get()}
        except TimeoutError:
            raise TimeoutError(f"no replica reached {step} within {_DEADLINE:g} s") from None
        self._order = _order("", 0)
        for name in list(self._lines):
            await self._withdrawn(name)
        while not self._dead.empty():
            dead.add(self._dead.get_nowait())
        return dead

    async def _withdrawn(self, name: str) -> None:
        """Return once it will not die any more, or has died."""
        heard = self._heard[name]
        self._lines[name].write(self._order)
        async with asyncio.timeout(_DEADLINE):
            while await heard.get() not in (self._order, b""):
                pass

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._lines[name], self._heard[name] = writer, heard
        writer.write(self._order)
        try:
            while answer := await reader.readline():
                heard.put_nowait(answer)
        except ConnectionError:
            pass  # killed: that is what it is for
        finally:
            if self._lines.get(name) is writer:
                del self._lines[name]
            heard.put_nowait(b"")
            self._dead.put_nowait(name)
            writer.close()


def _order(step: str, after: int) -> bytes:
    return json.dumps({"step": step, "after": after}).encode() + b"\n"
