"""The peer of `bench.migrator`: a service that writes both stores with LaunchDarkly's migrator, as its users do.

`python -m bench.peer_migrator PORT MONGO_URL DATABASE_URL` serves `POST /api/accounts` at the stage `dualwrite`.
"""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

import uvloop
from aiohttp import web
from bson import ObjectId
from ldclient import Context, LDClient, Result
from ldclient.config import Config
from ldclient.migrations import MigratorBuilder, Stage
from pymongo import MongoClient

from adapters.engine import Engine


async def serve(port: int, mongo_url: str, database_url: str) -> None:
    engine = Engine(database_url)
    await engine.connect()
    loop = asyncio.get_running_loop()
    accounts = MongoClient[dict[str, Any]](mongo_url).get_default_database()["accounts"]
    accounts.create_index("walletAddress", unique=True)  # as the old server makes it on ours

    def write_old(account: dict[str, Any]) -> Result:
        accounts.insert_one(dict(account))
        return Result.success(account)

    def write_new(account: dict[str, Any]) -> Result:
        row = {"id": str(account["_id"]), **{name: value for name, value in account.items() if name != "_id"}}
        created = engine.call("Account", "create", {"data": row})
        return Result.success(asyncio.run_coroutine_threadsafe(created, loop).result())

    migrator = (
        MigratorBuilder(LDClient(Config("offline", offline=True)))
        .read(write_old, write_new)
        .write(write_old, write_new)
        .build()
    )
    somebody = Context.create("bench")

    async def create(request: web.Request) -> web.Response:
        body, now = await request.json(), datetime.now(UTC)
        account = {"_id": ObjectId(), "walletAddress": body["walletAddress"], "createdAt": now, "updatedAt": now}
        written = await asyncio.to_thread(migrator.write, "account", somebody, Stage.DUALWRITE, account)
        for side in (written.authoritative, written.nonauthoritative):
            if not side.is_success():
                raise RuntimeError(f"{side.error}: {side.exception!r}")
        return web.json_response({"success": True, "data": {"_id": str(account["_id"])}}, status=201)

    app = web.Application()
    app.router.add_post("/api/accounts", create)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
