"""Numbers that one side has and the other cannot take, on real stores: a model with a column of each numeric type."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import AsyncMongoClient

from adapters.documents.mapping import Mapper
from adapters.engine import Engine
from adapters.mongo.store import Collection, MongoStore
from adapters.node import find_node
from adapters.prisma.store import PrismaStore, Table
from config.model import Entity, Stage
from config.schema import DATAMODEL_FILE, load_schema
from examples.commands import run
from examples.databases import PRISMA, run_sql
from proxy.app import Stores
from tests.proxy_case import DEADLINE, databases
from tests.settle_case import Bench, Ground, Json, bench_at

MODEL = """
model Number {
  id     String   @id @map("_id")
  int    Int?
  big    BigInt?
  float  Float?
  amount Decimal? @db.Decimal(10, 2)
  doc    Json?

  @@map("numbers")
}
"""
TABLE = (
    'CREATE TABLE "numbers" ("_id" text PRIMARY KEY, "int" integer, "big" bigint, "float" double precision,'
    ' "amount" decimal(10, 2), "doc" jsonb)'
)


@pytest.fixture(scope="module")
async def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product's schema with one more model, and its clients."""
    folder = tmp_path_factory.mktemp("numbers")
    text = (PRISMA / "schema.prisma").read_text().replace("./generated/client", "./client")
    python = 'provider                    = "python -m adapters.generator"\n'
    assert python in text
    text = text.replace(python, f'{python}  output = "./prisma_numbers"\n')
    (folder / "schema.prisma").write_text(text + MODEL)
    (folder / "node_modules").symlink_to(PRISMA / "node_modules")
    environment = {"STRANGLER_PYTHON": sys.executable}
    command: list[str | Path] = [find_node(), PRISMA / "generate.mjs", f"--schema={folder / 'schema.prisma'}"]
    await run(command, cwd=PRISMA, env=environment, seconds=120)
    return folder


@pytest.fixture(scope="module")
async def ground(mongo_url: str, postgres_url: str, migrated_template: str, generated: Path) -> AsyncIterator[Ground]:
    schema = load_schema(generated / "prisma_numbers" / DATAMODEL_FILE)
    entity = Entity.model_validate({"collection": "numbers", "model": "Number"})
    mapper = Mapper(entity, schema.models["Number"], schema)
    async with databases(mongo_url, postgres_url, migrated_template) as urls:
        await run_sql(urls.database_url, [TABLE])
        engine = Engine(urls.database_url, client=generated / "client", schema=schema)
        legacy = MongoStore(urls.mongo_url, {"number": Collection("numbers", mapper)})
        prisma = PrismaStore(engine, {"number": Table(schema.models["Number"], mapper)})
        async with AsyncMongoClient[Json](urls.mongo_url, tz_aware=True) as client:
            for store in (legacy, prisma):
                await store.connect()
            stores = Stores(engine, legacy, prisma, {"number": mapper})
            yield Ground({}, stores, {"number": entity}, {"number": ()}, client.get_default_database())
            for store in (legacy, prisma):
                await store.disconnect()


async def settled(bench: Bench, *keys: str) -> None:
    bench.replicator.changed("number", keys)
    async with asyncio.timeout(DEADLINE):
        await bench.replicator.drained()


WRONG_DOCUMENTS: dict[str, tuple[str, Any, str]] = {
    "an integer beyond 32 bits": ("int", 2**31, "out of the range of"),
    "a long integer for 32 bits": ("int", Int64(-(2**62)), "out of the range of"),
    "NaN for an integer": ("int", float("nan"), "expected an integer"),
    "infinity for an integer": ("big", float("inf"), "expected an integer"),
    "a double beyond 64 bits": ("big", 1e19, "out of the range of"),
    "a decimal beyond 64 bits": ("big", Decimal128("1E+25"), ""),
    "a fraction for an integer": ("int", 1.5, "expected an integer"),
    "NaN for a decimal": ("amount", Decimal128("NaN"), "not a finite decimal"),
    "infinity for a decimal": ("amount", Decimal128("-Infinity"), "not a finite decimal"),
    "more digits than there is room for": ("amount", Decimal128("123456789.5"), "more than 8 digits before the point"),
    "a number as a text": ("int", "12", "expected an integer, got a string"),
}


@pytest.mark.parametrize(("field", "value", "reason"), WRONG_DOCUMENTS.values(), ids=WRONG_DOCUMENTS)
async def test_a_number_that_prisma_cannot_hold_waits(ground: Ground, field: str, value: Any, reason: str) -> None:
    async with bench_at(Stage.DUALWRITE, ground) as bench:
        bad, good = ObjectId(), ObjectId()
        await bench.legacy["numbers"].insert_many([{"_id": bad, field: value}, {"_id": good, "int": 7}])
        await settled(bench, str(bad), str(good))
        kept = (await bench.refusals(entity="number"))[str(bad)]
        assert kept.reason.startswith(f"{field}: ")
        assert reason in kept.reason
        assert str(value) not in kept.reason
        assert await bench.row(str(bad), "number") is None
        assert (await bench.row(str(good), "number") or {})["int"] == 7


async def test_a_double_that_is_no_number_is_one_to_both(ground: Ground) -> None:
    async with bench_at(Stage.DUALWRITE, ground) as bench:
        key = ObjectId()
        doc = {"a": float("nan"), "b": float("-inf")}
        await bench.legacy["numbers"].insert_one({"_id": key, "float": float("inf"), "doc": doc})
        await settled(bench, str(key))
        assert str(key) not in await bench.refusals(entity="number")
        row = await bench.row(str(key), "number")
        assert row is not None
        assert row["float"] == float("inf")
        assert row["doc"] == {"a": {"$numberDouble": "NaN"}, "b": {"$numberDouble": "-Infinity"}}


WRONG_ROWS: dict[str, tuple[str, str, str]] = {
    "an integer of 401 digits": ("doc", f'{{"n": 1{"0" * 400}}}', "out of the range of a double"),
    "NaN for a decimal": ("amount", "NaN", "not a finite decimal"),
}


@pytest.mark.parametrize(("field", "value", "reason"), WRONG_ROWS.values(), ids=WRONG_ROWS)
async def test_a_number_that_mongo_cannot_hold_waits(ground: Ground, field: str, value: str, reason: str) -> None:
    kind = {"doc": "jsonb", "amount": "decimal"}[field]
    async with bench_at(Stage.LIVE, ground) as bench:
        good, bad = [await bench.create("number", int=number) for number in (7, 8)]
        statement = f'UPDATE "numbers" SET "{field}" = $1::text::{kind} WHERE "_id" = $2'
        assert await bench.stores.engine.execute_raw(statement, value, bad) == 1
        await settled(bench, bad, good)
        kept = (await bench.refusals("prisma", "number"))[bad]
        assert kept.reason.startswith(f"{field}")
        assert reason in kept.reason
        assert await bench.document("numbers", bad) is None
        assert (await bench.document("numbers", good) or {})["int"] == 7
        assert (await bench.stores.engine.metrics())["restarts"] == 0


async def test_what_both_can_hold_settles_to_the_last_digit(ground: Ground) -> None:
    async with bench_at(Stage.LIVE, ground) as bench:
        amount, big = Decimal("12345678.90"), 2**63 - 1
        key = await bench.create("number", int=-(2**31), big=big, amount=amount, float=0.1)
        await settled(bench, key)
        found = await bench.document("numbers", key)
        assert found is not None
        assert (found["int"], found["big"], found["float"]) == (-(2**31), big, 0.1)
        assert found["amount"].to_decimal() == amount
