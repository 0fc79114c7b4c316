"""`strangler inspect` as engineers meet it: processes, tables, one JSON document, exit statuses."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping

import pytest
from bson import ObjectId

from examples.processes import free_port
from tests.inspect_case import NOW, Place, account, place, profile
from tests.proxy_case import COLLECTION_CONFIG, Databases, databases
from tests.test_flags import strangler

COLLECTIONS = ("accounts", "profiles", "videos", "notifications", "nft_ownership")


@pytest.fixture(scope="module")
async def stores(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Databases]:
    async with databases(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture
async def here(stores: Databases) -> AsyncIterator[Place]:
    """Five empty collections."""
    async with place(stores.mongo_url) as found:
        for name in COLLECTIONS:
            await found.database.create_collection(name)
        yield found
        for name in await found.database.list_collection_names():
            await found.database.drop_collection(name)


@pytest.fixture(scope="module")
def environment(stores: Databases) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/",
        "MONGO_URL": stores.mongo_url,
        "DATABASE_URL": stores.database_url,
        "CORE_URL": "http://127.0.0.1:1",
        "JWT_SECRET": "the secret of the tests of inspect",
        "STRANGLER_CONFIG": str(COLLECTION_CONFIG),
    }


async def test_clean_collections_end_with_0(here: Place, environment: Mapping[str, str]) -> None:
    owner = account("0xsecret")
    await here.database["accounts"].insert_one(owner)
    await here.database["profiles"].insert_one(profile(owner["_id"], "ada"))
    await here.database["leftovers"].insert_many([{}, {}, {}])
    said = await strangler(environment, "inspect")
    assert (said.status, said.error) == (0, "")
    assert said.out.count("the model can hold all that was looked at") == 2
    assert "account: accounts -> Account, 1 documents, all read" in said.out
    row = next(line for line in said.out.splitlines() if "leftovers" in line)
    assert "3" in row
    assert "0xsecret" not in said.out
    index = next(line for line in said.out.splitlines() if "accounts_walletAddress_key" in line)
    assert "unique in prisma only" in index


async def test_what_is_refused_ends_with_1(here: Place, environment: Mapping[str, str]) -> None:
    broken, orphan = account(7), profile(ObjectId(), "ada")
    twice = [account("0xtwice"), account("0xtwice")]
    await here.database["accounts"].insert_many([broken, *twice])
    await here.database["profiles"].insert_one(orphan)
    tables, document = await asyncio.gather(
        strangler(environment, "inspect", "account", "profile"),
        strangler(environment, "inspect", "account", "profile", "--all", "--json"),
    )
    assert (tables.status, document.status, document.error) == (1, 1, "")
    assert "expected a string, got an integer" in tables.out
    for key in (broken["_id"], orphan["_id"], *(each["_id"] for each in twice)):
        assert str(key) in tables.out
    found = json.loads(document.out)
    assert found["status"] == 1
    accounts, profiles = found["collections"]
    assert accounts["refused"]["reasons"][0]["keys"] == [str(broken["_id"])]
    assert accounts["uniques"][0]["documents"] == 2
    assert profiles["references"][0]["missing"] == 1
    assert "0xtwice" not in tables.out + document.out


async def test_a_model_is_proposed_for_a_collection_without_one(here: Place, environment: Mapping[str, str]) -> None:
    await here.database["badges"].insert_many([{"kind": "GOLD", "at": NOW} for _ in range(3)])
    said = await strangler(environment, "inspect", "badges")
    assert said.status == 0
    for line in ("model Badge {", "enum BadgeKind {", '@@map("badges")', "collection: badges"):
        assert line in said.out


async def test_what_nobody_can_say_ends_with_2(here: Place, environment: Mapping[str, str]) -> None:
    nowhere = free_port()
    unknown, no_mongo, no_postgres = await asyncio.gather(
        strangler(environment, "inspect", "acount"),
        strangler({**environment, "MONGO_URL": f"mongodb://127.0.0.1:{nowhere}/away"}, "inspect"),
        strangler(
            {**environment, "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{nowhere}/away"}, "inspect", "account"
        ),
    )
    assert (unknown.status, unknown.out, unknown.error.count("\n")) == (2, "", 1)
    assert "acount" in unknown.error
    assert (no_mongo.status, no_mongo.out, no_mongo.error.count("\n")) == (2, "", 1)
    assert no_postgres.status == 2
    assert "not known: the indexes of table accounts" in no_postgres.out
    assert "accounts -> Account" in no_postgres.out
