"""A difference that is planted in one row, behind the proxy's back."""

import asyncio
from dataclasses import dataclass

from adapters.side import Operation
from examples.proxim8.client import Client
from proxy.app import Stores

_WALLET = "0xplanted"
_BIO = "as it was written"


@dataclass(frozen=True, slots=True)
class Planted:
    """The profile whose row was changed."""

    client: Client
    key: str

    async def read(self) -> None:
        await self.client.call("profile", "GET /api/profiles/{}", self.key)

    async def heal(self) -> None:
        """Write it through the proxy: settling makes the row right again."""
        await self.client.call("profile", "PATCH /api/profiles/{}", self.key, body={"bio": f"{_BIO}, and changed"})


async def plant(client: Client, stores: Stores) -> Planted:
    """Create a profile through the proxy, wait until its row is there, and change that row. Raises TimeoutError."""
    body = {"username": "planted", "bio": _BIO}
    made = await client.call("profile", "POST /api/profiles", body=body, wallet=_WALLET, expect=201)
    key = made["data"]["_id"]
    async with asyncio.timeout(10):
        while not (await stores.prisma.perform(Operation("profile", "read", {"id": key}))).documents:
            await asyncio.sleep(0.02)
    await stores.engine.call("Profile", "update", {"where": {"id": key}, "data": {"bio": "changed behind its back"}})
    return Planted(client, key)
