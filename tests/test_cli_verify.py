"""`strangler verify` as engineers run it: a process of its own beside a running proxy."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from adapters.engine import Engine
from tests.proxy_case import DEADLINE, Databases, databases
from tests.replica_case import ROOT, STRANGLER, environment_at, served
from tests.subjects import Json
from tests.test_flags import Said, strangler
from tests.verify_case import ENTITY, stamped

SECRET = "hunter2@example.com"
SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stand:
    """A proxy with NFT ownership at dualwrite, as a process, and its stores by their own drivers."""

    environment: Mapping[str, str]
    legacy: AsyncDatabase[Json]
    prisma: Engine

    async def fill(self, count: int) -> list[str]:
        """So many documents that are on both sides; their keys, in order."""
        documents = [{"_id": ObjectId(), **stamped()} for _ in range(count)]
        await self.legacy[ENTITY].insert_many(documents)
        async with asyncio.timeout(DEADLINE):
            while (await self.prisma.query_raw(f'SELECT count(*)::int AS n FROM "{ENTITY}"'))[0]["n"] < count:
                await asyncio.sleep(0.05)
        return sorted(str(document["_id"]) for document in documents)

    async def spoil(self, key: str) -> None:
        statement = f'UPDATE "{ENTITY}" SET "tokenId" = $2 WHERE "_id" = $1'
        assert await self.prisma.execute_raw(statement, key, SECRET) == 1

    async def clear(self) -> None:
        await self.legacy[ENTITY].delete_many({})
        await self.legacy["strangler_runs"].delete_many({})
        async with asyncio.timeout(DEADLINE):
            while (await self.prisma.query_raw(f'SELECT count(*)::int AS n FROM "{ENTITY}"'))[0]["n"]:
                await asyncio.sleep(0.05)

    async def verify(self, *arguments: str) -> Said:
        return await strangler(self.environment, "verify", *arguments)


@pytest.fixture(scope="module")
async def stores(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Databases]:
    async with databases(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture(scope="module")
async def running(
    server_folder: Path, stores: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stand]:
    environment = {**environment_at("dualwrite", stores, tmp_path_factory.mktemp("config")), "PYTHONPATH": str(ROOT)}
    engine = Engine(stores.database_url)
    await engine.connect()
    try:
        async with (
            served("verified", environment, server_folder),
            AsyncMongoClient[Json](stores.mongo_url) as client,
        ):
            yield Stand(environment, client.get_default_database(), engine)
    finally:
        await engine.disconnect()


@pytest.fixture
async def stand(running: Stand) -> Stand:
    await running.clear()
    return running


def lines(said: str) -> list[Json]:
    return [json.loads(line) for line in said.splitlines()]


def last(said: Said) -> Json:
    """What it said at its end, of the one entity."""
    return lines(said.out)[-1]


async def test_clean_is_status_zero(stand: Stand) -> None:
    await stand.fill(20)
    said = await stand.verify()
    assert (said.status, said.error) == (0, "")
    told = last(said)
    assert (told["entity"], told["status"], told["said"]) == (ENTITY, "clean", "all 20 documents agree")
    assert (told["documents"], told["looked"], told["found"]) == (20, {"legacy": 20, "prisma": 20}, {})
    assert (told["primary"], told["stage"], told["sample"]) == ("legacy", "dualwrite", 100.0)
    assert told["began"] <= told["ended"]
    assert len(told["config"]) == 16


async def test_different_is_status_one_and_the_report_says_what(stand: Stand, tmp_path: Path) -> None:
    keys = await stand.fill(3)
    await stand.spoil(keys[1])
    report = tmp_path / "report.json"
    said = await stand.verify(ENTITY, "--json", str(report))
    assert (said.status, last(said)["status"], last(said)["found"]) == (1, "different", {"different": 1})
    [written] = json.loads(report.read_text())
    assert written["findings"] == [{"key": keys[1], "kind": "different", "paths": ["value tokenId"]}]
    assert SECRET not in said.out + said.error + report.read_text()
    repaired = await stand.verify(ENTITY, "--repair")
    assert (repaired.status, last(repaired)["repaired"], last(repaired)["found"]) == (0, 1, {})


async def test_what_nobody_can_say_is_status_two(stand: Stand) -> None:
    await stand.fill(3)
    said = await stand.verify(ENTITY, "--sample", "0.0001")
    assert (said.status, last(said)["status"]) == (2, "unknown")
    assert last(said)["said"] == "could not say: nothing was compared"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["vidoe"], ["unknown entity vidoe", "nft_ownership"]),
        (["video"], ["video is at off"]),
        (["--sample", "0"], ["--sample 0", "100"]),
        (["--sample", "101"], ["--sample 101", "100"]),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, list) else str(value),
)
async def test_a_mistake_is_one_line_and_status_two(stand: Stand, arguments: list[str], parts: list[str]) -> None:
    said = await stand.verify(*arguments)
    assert said.status == 2
    errors = [line for line in said.error.splitlines() if line.startswith("strangler: ")]
    assert len(errors) == 1
    assert [part for part in parts if part not in errors[0]] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_it_goes_on_where_it_was(stand: Stand, number: signal.Signals) -> None:
    keys = await stand.fill(500)
    await stand.spoil(keys[0])
    await stand.spoil(keys[-1])
    whole = last(await stand.verify(ENTITY))
    process = await asyncio.create_subprocess_exec(
        *(STRANGLER, "verify", ENTITY, "--rate", "100"),
        cwd=ROOT,
        env=dict(stand.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        while json.loads(await process.stdout.readline())["event"] != "progress":
            pass
        process.send_signal(number)
        await process.wait()
    kept: Any = await stand.legacy["strangler_runs"].find_one({"_id": {"n": "verify", "e": ENTITY}})
    assert (kept["done"], kept["upto"] is None) == (False, False)
    async with asyncio.timeout(SECONDS):
        while "is under way" in (said := await stand.verify(ENTITY)).error:
            assert said.status == 2  # the lease of the dead one is not over
    told = last(said)
    assert (told["resumed"], said.status) == (1, 1)
    same = ("status", "said", "looked", "compared", "found", "findings", "config", "documents")
    assert {name: told[name] for name in same} == {name: whole[name] for name in same}
