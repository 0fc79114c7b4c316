"""`npm run db:seed` and `npm run db:migrate`: sample data in a legacy database, and its way to Prisma."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from adapters.node import npm_command
from config.model import Stage
from examples.commands import CommandFailed, run
from examples.databases import PRISMA
from examples.proxim8.sample import NO_ID, Sample, samples
from tests.proxy_case import DEADLINE, Running, standing
from tests.subjects import SUBJECTS

SOWN: Final = list(samples(20))
COLLECTIONS: Final = sorted({sample.collection for sample in SOWN})

Database = AsyncDatabase[dict[str, Any]]


async def npm(script: str, *arguments: str, **environment: str) -> str:
    """What the script printed. Raises CommandFailed."""
    return await run(
        [*npm_command(), "run", "--silent", script, "--", *arguments], cwd=PRISMA, env=environment, seconds=60
    )


def of(collection: str) -> list[Sample]:
    return [sample for sample in SOWN if sample.collection == collection]


@pytest.fixture
async def legacy(mongo_database: str) -> AsyncIterator[Database]:
    async with AsyncMongoClient[dict[str, Any]](mongo_database) as client:
        yield client.get_default_database()


async def test_sown_twice_it_is_there_once(legacy: Database, mongo_database: str) -> None:
    first, second = await npm("db:seed", MONGO_URL=mongo_database), await npm("db:seed", MONGO_URL=mongo_database)
    for name in COLLECTIONS:
        assert f"{name}: {len(of(name))} new, 0 there already" in first
        assert f"{name}: 0 new, {len(of(name))} there already" in second
        assert await legacy[name].count_documents({}) == len(of(name))
    assert sorted(await legacy.list_collection_names()) == COLLECTIONS
    assert "a status in lower case: a backfill refuses it (status)" in first
    assert "every type of BSON: arrives" in first


async def test_more_videos_are_ordinary_ones(legacy: Database, mongo_database: str) -> None:
    await npm("db:seed", "--videos", "1000", MONGO_URL=mongo_database)
    assert await legacy["videos"].count_documents({"title": {"$regex": "^Sample"}}) >= 1000


async def test_a_database_that_holds_anything_else_is_left_alone(legacy: Database, mongo_database: str) -> None:
    await legacy["videos"].insert_one({"title": "somebody's"})
    with pytest.raises(CommandFailed, match=r"status 2: seed: videos holds documents that are no samples"):
        await npm("db:seed", MONGO_URL=mongo_database)
    assert await legacy.list_collection_names() == ["videos"]
    assert await legacy["videos"].count_documents({}) == 1
    await npm("db:seed", "--anyway", MONGO_URL=mongo_database)
    assert await legacy["videos"].count_documents({}) == 1 + len(of("videos"))


async def test_what_an_index_keeps_out_is_said(legacy: Database, mongo_database: str) -> None:
    await legacy["profiles"].create_index("username", unique=True)
    printed = await npm("db:seed", MONGO_URL=mongo_database)
    assert "1 left out: the collection has a unique index on username" in printed
    assert await legacy["profiles"].count_documents({}) == len(of("profiles")) - 1


@pytest.mark.parametrize("url", ["", "mongodb://127.0.0.1:1/", "postgresql://127.0.0.1/x"])
async def test_a_url_without_a_database_is_a_mistake(url: str) -> None:
    with pytest.raises(CommandFailed, match="status 2: seed: MONGO_URL names no database; expected mongodb://"):
        await npm("db:seed", MONGO_URL=url)


async def test_a_server_that_is_away_is_a_failure() -> None:
    with pytest.raises(
        CommandFailed, match=r"status 1: seed: MongoDB did not take them \(ServerSelectionTimeoutError\)"
    ):
        await npm("db:seed", MONGO_URL="mongodb://127.0.0.1:1/nothing?serverSelectionTimeoutMS=50")


@pytest.fixture
async def proxim8(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template, via="collection") as running:
        await running.legacy["profiles"].drop_index("username_1")
        yield running


async def test_what_was_sown_is_migrated_and_what_cannot_be_is_in_quarantine(proxim8: Running) -> None:
    await npm("db:seed", **proxim8.environment)
    for subject in SUBJECTS:
        async for _ in proxim8.cutover.flip(subject.entity, Stage.DUALWRITE, "test"):
            await proxim8.proxy.flags.refresh()
    with pytest.raises(CommandFailed, match="ended with status 1"):
        await npm("db:migrate", **proxim8.environment)
    await proxim8.quiet()
    for subject in SUBJECTS:
        wanted = {str(sample.document["_id"]): sample.refused for sample in of(subject.collection)}
        refused = {key: path for key, path in wanted.items() if path}
        found = await quarantined(proxim8, subject.entity, len(refused))
        assert found.keys() == refused.keys(), subject.entity
        assert [key for key, path in refused.items() if not found[key].startswith(path)] == []
        rows = {key for key in wanted if key != NO_ID and await proxim8.on_prisma(subject.entity, key) is not None}
        assert rows == wanted.keys() - refused.keys(), subject.entity


async def quarantined(proxim8: Running, entity: str, wanted: int) -> dict[str, str]:
    """Each key with its reason, once there are so many."""
    store = proxim8.proxy.stores.legacy
    async with asyncio.timeout(DEADLINE):
        while len(found := await store.quarantine.refusals(entity)) != wanted:
            await asyncio.sleep(0.05)
    return {one.key: one.reason for one in found}


async def test_migrating_what_does_not_settle_is_refused_and_says_what_would_be_accepted(proxim8: Running) -> None:
    with pytest.raises(CommandFailed, match=r"ended with status 2: .*expected.*dualwrite or later"):
        await npm("db:migrate", "video", **proxim8.environment)


def test_every_sample_has_an_id_of_its_own_and_what_is_refused_a_reason() -> None:
    ids = [str(sample.document["_id"]) for sample in SOWN]
    assert len(set(ids)) == len(ids)
    assert [sample for sample in SOWN if sample.refused and not sample.why] == []
