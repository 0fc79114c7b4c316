"""A person whom two collections know: one account, whose changes after the cutover go back to both."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from bson import ObjectId
from pymongo import AsyncMongoClient

from examples.proxim8.client import Client

_WALLET: Final = "0xmet"
_RENAMED: Final = "0xmet-again"


@dataclass(frozen=True, slots=True)
class Met:
    """Core has met this person: it is in its `users`, under another `_id` than in `accounts`."""

    key: str
    user: ObjectId
    url: str

    async def rename(self, client: Client) -> bool:
        """Change the wallet through the proxy. Whether both collections say so in the end, each under its own `_id`, and
        what only core keeps of a user is still there. Raises TimeoutError."""
        await client.call("account", "PATCH /api/accounts/{}", self.key, body={"walletAddress": _RENAMED})
        async with asyncio.timeout(10), AsyncMongoClient[dict[str, Any]](self.url) as mongo:
            database = mongo.get_default_database()
            while True:
                account = await database["accounts"].find_one({"walletAddress": _RENAMED})
                user = await database["users"].find_one({"walletAddress": _RENAMED})
                if account is not None and user is not None:
                    break
                await asyncio.sleep(0.02)
        return (str(account["_id"]), user["_id"], user["metBy"]) == (self.key, self.user, "core")


async def meet(client: Client, url: str) -> Met:
    """Create an account through the old server, by way of the proxy; `url` is that of the legacy database."""
    made = await client.call("account", "POST /api/accounts", body={"walletAddress": _WALLET}, expect=201)
    async with AsyncMongoClient[dict[str, Any]](url) as mongo:
        user = await mongo.get_default_database()["users"].find_one({"walletAddress": _WALLET})
    if user is None:
        raise LookupError("core did not add the person to its users")
    return Met(made["data"]["_id"], user["_id"], url)
