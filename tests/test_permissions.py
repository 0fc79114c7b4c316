"""What the runbook says of MongoDB users is enough: `readWrite` on the one database for the proxy and every command that
writes, `read` for inspect."""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from pymongo import AsyncMongoClient

from config.model import Stage
from examples.servers import drop_database, fresh_database, mongod_server, temporary_folder
from tests.conftest import fresh_name
from tests.proxy_case import Databases, Running, running
from tests.subjects import ACCOUNT, PROFILE, SUBJECTS
from tests.test_flags import strangler

ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A database of a server that wants to know who asks, as two users reach it."""

    name: str
    writer: str
    reader: str


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[Guarded]:
    name, password = fresh_name(), secrets.token_hex(16)
    with temporary_folder() as folder:
        key = folder / "keyfile"
        key.touch(0o600)
        key.write_text(secrets.token_hex(32))
        async with mongod_server(folder, options={"--keyFile": str(key)}) as server:
            async with AsyncMongoClient[dict[str, object]](server.url, directConnection=True) as client:
                await client.admin.command("createUser", "root", pwd=password, roles=["root"])
            host = server.url.removeprefix("mongodb://")
            admin = f"mongodb://root:{password}@{host}?authSource=admin&directConnection=true"
            async with AsyncMongoClient[dict[str, object]](admin) as client:
                for role in ("readWrite", "read"):
                    roles = [{"role": role, "db": name}]
                    await client.admin.command("createUser", role, pwd=password, roles=roles)
            urls = [f"mongodb://{role}:{password}@{host}{name}?authSource=admin" for role in ("readWrite", "read")]
            yield Guarded(name, *urls)


@pytest.fixture(scope="module")
async def proxim8(
    server_folder: Path, guarded: Guarded, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    """Everything is at `dualwrite`."""
    database = fresh_name()
    stores = Databases(guarded.writer, await fresh_database(postgres_url, database, migrated_template))
    async with running(server_folder, stores, via="collection") as found:
        await found.move(Stage.DUALWRITE)
        yield found
    await drop_database(postgres_url, database)


@pytest.fixture(scope="module")
async def profile(proxim8: Running) -> str:
    """The key of one, beside which there is one of everything else."""
    wallet, account = await proxim8.account()
    keys = {one.entity: await proxim8.create(one, wallet, account) for one in SUBJECTS if one is not ACCOUNT}
    await proxim8.quiet()
    return keys["profile"]


@pytest.mark.parametrize("command", ["check", "backfill", "verify"])
@pytest.mark.usefixtures("profile")
async def test_commands_need_no_more_than_to_read_and_write(proxim8: Running, command: str) -> None:
    said = await strangler(environment(proxim8), command)
    assert said.status == 0, said


@pytest.mark.usefixtures("profile")
async def test_inspect_only_reads(proxim8: Running, guarded: Guarded) -> None:
    said = await strangler({**environment(proxim8), "MONGO_URL": guarded.reader}, "inspect", "--all")
    assert said.status == 0, said


async def test_the_proxy_needs_no_more_than_to_read_and_write(proxim8: Running, profile: str) -> None:
    assert proxim8.proxy.follower.leads
    await proxim8.move(Stage.LIVE)
    change, held = PROFILE.change("x")
    answer = await proxim8.ask("PATCH", PROFILE.update.format(profile), change)
    assert answer.status == 200
    await proxim8.quiet()
    document = await proxim8.on_legacy("profile", profile)
    assert document is not None
    assert held.items() <= document.items()
    assert [event for event in proxim8.events if "nauthori" in str(event)] == []


def environment(proxim8: Running) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/", "PYTHONPATH": str(ROOT), **proxim8.environment}
