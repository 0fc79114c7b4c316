"""`strangler backfill` as engineers run it: before it may begin, what it prints, and its exit statuses."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from adapters.side import Flag, Replica
from config.model import Stage
from proxy.flags.presence import BEAT
from proxy.migration.run.admission import NotSettling, admit
from proxy.migration.run.keeping import SHAPE, SINCE
from tests.proxy_case import DEADLINE, Databases, databases
from tests.replica_case import environment_at, served
from tests.settle_case import Bench, Ground, bench_at, grounds
from tests.test_flags import STRANGLER, Said, strangler

Json = dict[str, Any]


def lines(said: Said) -> list[Json]:
    return [json.loads(line) for line in said.out.splitlines()]


def summary(said: Said) -> Json:
    found = [line for line in lines(said) if line["event"] == "done"]
    assert len(found) == 1, (said.out, said.error)
    return found[0]


def without_seconds(line: Json) -> Json:
    return {name: value for name, value in line.items() if name not in ("seconds", "documents_per_second")}


# Before it begins


@pytest.fixture(scope="module")
async def ground(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    async with grounds(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture
async def bench(ground: Ground) -> AsyncIterator[Bench]:
    """Profiles are at epoch 3 of dualwrite."""
    async with bench_at(Stage.DUALWRITE, ground) as found:
        for store in found.stores.by_side().values():
            await store.state.save_flag(Flag("profile", "dualwrite", 3))
        yield found
        for replica in await found.stores.legacy.state.replicas():
            for store in found.stores.by_side().values():
                await store.state.forget_replica(replica.id)


async def beating(bench: Bench, id: str, epoch: int) -> None:
    while True:
        for store in bench.stores.by_side().values():
            await store.state.beat(Replica(id, {"profile": epoch}))
        await asyncio.sleep(BEAT)


async def admitted(bench: Bench, waited: list[str], *, lasts: float = 0.0) -> None:
    async with asyncio.timeout(2 * DEADLINE):
        await admit("profile", bench.stores.by_side(), bench.flags, lasts=lasts, waits=waited.append)


async def test_where_no_proxy_runs_nothing_is_copied(bench: Bench) -> None:
    with pytest.raises(NotSettling, match="strangler serve"):
        await admitted(bench, [])


async def test_a_replica_that_has_not_acknowledged_is_named(bench: Bench) -> None:
    both = [asyncio.create_task(beating(bench, id, epoch)) for id, epoch in (("quick", 3), ("slow", 2))]
    try:
        await _known(bench, 2)
        with pytest.raises(NotSettling, match=r"epoch 3.*slow \(at epoch 2\)") as refused:
            await admitted(bench, [])
        assert "quick" not in str(refused.value)
    finally:
        for task in both:
            task.cancel()


async def test_a_replica_that_acknowledges_in_time_is_waited_for(bench: Bench) -> None:
    task = asyncio.create_task(beating(bench, "slow", 2))
    try:
        await _known(bench, 1)
        waiting = asyncio.create_task(admitted(bench, []))
        await asyncio.sleep(0)
        assert not waiting.done()
    finally:
        task.cancel()
    for store in bench.stores.by_side().values():
        await store.state.beat(Replica("slow", {"profile": 3}))
    await waiting


async def test_where_no_stream_is_the_record_writes_that_began_before_are_waited_for(bench: Bench) -> None:
    for store in bench.stores.by_side().values():
        await store.state.save_flag(Flag("profile", "shadow", 4))
        await store.state.beat(Replica("one", {"profile": 4}))
    waited: list[str] = []
    await admitted(bench, waited)
    assert waited == []
    await admitted(bench, waited, lasts=1.5)
    assert len(waited) == 1
    assert "writes that began before" in waited[0]


async def _known(bench: Bench, replicas: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while len(await bench.stores.prisma.state.replicas()) < replicas:
            await asyncio.sleep(0.02)


# The command


@pytest.fixture(scope="module")
async def stores(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Databases]:
    async with databases(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture(scope="module")
def environment(stores: Databases, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """NFT ownership is at dualwrite, all others are off."""
    return environment_at("dualwrite", stores, tmp_path_factory.mktemp("backfill"))


@pytest.fixture(scope="module")
async def proxy(environment: Mapping[str, str], server_folder: Path) -> AsyncIterator[None]:
    async with served("backfilled", environment, server_folder):
        yield


@pytest.fixture
async def legacy(stores: Databases) -> AsyncIterator[AsyncDatabase[Json]]:
    async with AsyncMongoClient[Json](stores.mongo_url) as client:
        yield client.get_default_database()


def nft(**fields: Any) -> Json:
    now = datetime.now(UTC).replace(microsecond=0)
    name = secrets.token_hex(6)
    made = {"nftId": name, "walletAddress": "w", "contractAddress": "c", "tokenId": "1", "verified": False}
    return {"_id": ObjectId(), **made, "createdAt": now, "updatedAt": now, **fields}


async def test_what_is_asked_wrongly_is_one_line_and_status_2(environment: Mapping[str, str]) -> None:
    asked = {
        ("nfts",): "nft_ownership",
        ("account",): "dualwrite",
        ("--keys", "a"): "exactly one entity",
        ("nft_ownership", "--keys", "@/nowhere/at/all"): "a file with a key a line",
        ("nft_ownership", "--since", "yesterday"): "a duration",
        ("nft_ownership",): "no proxy is running",
    }
    for arguments, words in asked.items():
        said = await strangler(environment, "backfill", *arguments)
        assert (said.status, said.out, said.error.count("\n")) == (2, "", 1), said
        assert words in said.error


async def test_the_whole_way(
    environment: Mapping[str, str], proxy: None, legacy: AsyncDatabase[Json], tmp_path: Path
) -> None:
    """Documents that nobody has been told of; one that Prisma cannot hold. All in JSON lines."""
    rows = legacy["nft_ownership"]
    await rows.delete_many({})
    good, bad = [nft() for _ in range(3)], nft(tokenId=1)
    # The proxy hears of them too: which of the two copies one first does not matter.
    await rows.insert_many([*good, bad])
    keys = [str(document["_id"]) for document in good]

    rehearsed = await strangler(environment, "backfill", "nft_ownership", "--dry-run")
    assert rehearsed.status == 1
    told = summary(rehearsed)
    assert (told["documents"], told["would_write"] + told["same"], told["would_refuse"]) == (4, 3, 1)
    assert list(told["reasons"]) == [str(bad["_id"])]
    assert "tokenId" in told["reasons"][str(bad["_id"])]
    assert await legacy["strangler_runs"].count_documents({}) == 0

    copied = await strangler(environment, "backfill")
    assert (copied.status, copied.error.count("Traceback")) == (1, 0)
    told = summary(copied)
    assert (told["entity"], told["documents"], told["refused"]) == ("nft_ownership", 4, 1)
    assert told["written"] + told["same"] == 3
    assert told["documents_per_second"] > 0

    await rows.delete_one({"_id": bad["_id"]})
    again = await strangler(environment, "backfill", "nft_ownership")
    assert again.status == 0
    expected = {"documents": 3, "written": 0, "same": 3, "superseded": 0, "refused": 0, "reasons": {}}
    assert without_seconds(summary(again)) == {
        "event": "done",
        "command": "backfill",
        "entity": "nft_ownership",
        **expected,
    }

    file = tmp_path / "keys"
    file.write_text("\n".join(keys[:2]))
    for argument, number in ((f"@{file}", 2), (",".join(keys), 3)):
        some = await strangler(environment, "backfill", "nft_ownership", "--keys", argument)
        assert (some.status, summary(some)["documents"]) == (0, number)
    since = await strangler(environment, "backfill", "nft_ownership", "--since", "1h")
    assert (since.status, summary(since)["documents"]) == (0, 3)


async def test_a_second_one_is_told_who_works_on_it(
    environment: Mapping[str, str], proxy: None, legacy: AsyncDatabase[Json]
) -> None:
    until = datetime.now(UTC).timestamp() + 60
    lease = {"_id": "backfill:nft_ownership", "holder": "elsewhere-7-abc", "until": datetime.fromtimestamp(until, UTC)}
    await legacy["strangler_leases"].insert_one(lease)
    try:
        said = await strangler(environment, "backfill", "nft_ownership")
    finally:
        await legacy["strangler_leases"].delete_one({"_id": lease["_id"]})
    assert said.status == 2
    assert "a backfill of nft_ownership is under way: elsewhere-7-abc" in said.error


async def test_a_schema_that_changed_is_refused_until_restart(
    environment: Mapping[str, str], proxy: None, legacy: AsyncDatabase[Json]
) -> None:
    detail = {SHAPE: {"nftId": "Int"}, SINCE: "then"}
    run = {"holder": "before", "upto": None, "done": False, "detail": detail, "at": datetime.now(UTC)}
    await legacy["strangler_runs"].replace_one({"_id": {"n": "backfill", "e": "nft_ownership"}}, run, upsert=True)
    refused = await strangler(environment, "backfill", "nft_ownership")
    assert refused.status == 2
    assert "nftId: Int -> String" in refused.error
    assert "--restart" in refused.error
    assert (await strangler(environment, "backfill", "nft_ownership", "--restart")).status == 0


async def test_on_a_terminal_it_shows_a_bar(
    environment: Mapping[str, str], proxy: None, legacy: AsyncDatabase[Json]
) -> None:
    ours, theirs = pty.openpty()
    try:
        command = await asyncio.create_subprocess_exec(
            *(STRANGLER, "backfill", "nft_ownership"),
            env={**environment, "COLUMNS": "150", "TERM": "xterm"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = await asyncio.to_thread(_until_closed, ours)
        async with asyncio.timeout(DEADLINE):
            assert await command.wait() == 0
    finally:
        os.close(ours)
    assert "nft_ownership: " in shown
    assert "0 refused" in shown
    assert '"event"' not in shown


def _until_closed(terminal: int) -> str:
    shown = bytearray()
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # what a terminal says when nobody is at its other end any more
            return shown.decode()
        if not part:
            return shown.decode()
        shown += part
