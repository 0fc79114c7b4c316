"""`strangler quarantine` as engineers meet it: processes, tables, JSON, exit statuses."""

from __future__ import annotations

import getpass
import json
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from config.model import Stage
from tests.settle_case import Bench, Ground, bench_at, grounds
from tests.test_flags import Said, strangler

REASON = "bio: expected a string, got an integer"


@pytest.fixture(scope="module")
async def ground(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    """Stores that say that everything is at dualwrite."""
    async with grounds(mongo_url, postgres_url, migrated_template) as found, bench_at(Stage.DUALWRITE, found) as bench:
        for entity in found.entities:
            for store in found.stores.by_side().values():
                await store.state.save_flag(replace(bench.flags[entity], epoch=1, changed_by="test"))
        yield found


@pytest.fixture
async def bench(ground: Ground) -> AsyncIterator[Bench]:
    async with bench_at(Stage.DUALWRITE, ground) as found:
        await found.flags.refresh()
        yield found
    for store in ground.stores.by_side().values():
        for entity in await store.quarantine.sizes():
            await store.quarantine.take(entity, [one.key for one in await store.quarantine.refusals(entity)])


@pytest.fixture(scope="module")
def environment(ground: Ground) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/", "STRANGLER_LOG": "json", **ground.environment}


async def refused(bench: Bench, count: int = 1) -> list[str]:
    """Keys of profiles that wait in quarantine."""
    account = await bench.account()
    keys = [await bench.profile(account, bio=7) for _ in range(count)]
    bench.replicator.changed("profile", keys)
    for key in keys:
        await bench.quarantined(key)
    return sorted(keys)


def lines(said: Said) -> list[str]:
    return sorted(said.out.splitlines())


async def test_it_is_listed(bench: Bench, environment: Mapping[str, str]) -> None:
    [key] = await refused(bench)
    await bench.stores.prisma.quarantine.put("video", {"v": "why"})
    table, every, one = [
        await strangler(environment, "quarantine", "list", *rest) for rest in ((), ("--json",), ("profile", "--json"))
    ]
    assert (table.status, every.status, one.status) == (0, 0, 0)
    row = next(line for line in table.out.splitlines() if key in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][:4] == ["profile", key, "legacy", REASON]
    found = {(row["side"], row["entity"], row["key"], row["reason"]) for row in json.loads(every.out)}
    assert found == {("legacy", "profile", key, REASON), ("prisma", "video", "v", "why")}
    [row] = json.loads(one.out)
    assert (row["key"], row["tries"]) == (key, 1)
    assert datetime.fromisoformat(row["since"]).tzinfo is not None
    assert row["age"] >= 0


async def test_an_empty_one_is_an_empty_array(bench: Bench, environment: Mapping[str, str]) -> None:
    said = await strangler(environment, "quarantine", "list", "--json")
    assert (said.status, json.loads(said.out)) == (0, [])


async def test_a_retry_says_what_has_settled_and_what_has_not(bench: Bench, environment: Mapping[str, str]) -> None:
    fixed, broken = await refused(bench, 2)
    await bench.change(fixed, bio="fine")
    said = await strangler(environment, "quarantine", "retry")
    assert said.status == 1
    assert lines(said) == sorted([f"profile {broken}: still refused: {REASON}", f"profile {fixed}: settled"])
    assert await bench.row(fixed) is not None
    assert {key: one.tries for key, one in (await bench.refusals()).items()} == {broken: 2}
    assert await bench.marks() == set()

    await bench.change(broken, bio="fine")
    said = await strangler(environment, "quarantine", "retry", "profile", broken)
    assert (said.status, lines(said)) == (0, [f"profile {broken}: settled"])
    assert await bench.refusals() == {}


async def test_parents_are_retried_first(bench: Bench, environment: Mapping[str, str]) -> None:
    """A child whose parent is in quarantine as well: both are healed by one command."""
    parent, now = ObjectId(), datetime.now(UTC)
    account = {"_id": parent, "walletAddress": 7, "createdAt": now, "updatedAt": now}
    await bench.legacy["accounts"].insert_one(account)
    child = await bench.profile(parent)
    bench.replicator.changed("profile", [child])
    bench.replicator.changed("account", [str(parent)])
    await bench.quarantined(child)
    await bench.quarantined(str(parent), entity="account")
    await bench.legacy["accounts"].update_one({"_id": parent}, {"$set": {"walletAddress": secrets.token_hex(6)}})
    said = await strangler(environment, "quarantine", "retry")
    assert (said.status, said.out.splitlines()) == (0, [f"account {parent}: settled", f"profile {child}: settled"])


async def test_more_than_a_look_takes_are_all_retried(bench: Bench, environment: Mapping[str, str]) -> None:
    account = await bench.account()
    keys = [await bench.profile(account) for _ in range(120)]
    await bench.stores.legacy.quarantine.put("profile", dict.fromkeys(keys, "of a day when there was no room"))
    said = await strangler(environment, "quarantine", "retry", "profile")
    assert (said.status, len(said.out.splitlines())) == (0, 120)
    assert await bench.refusals() == {}


async def test_what_is_given_up_is_in_the_audit(ground: Ground, bench: Bench, environment: Mapping[str, str]) -> None:
    given_up, kept = await refused(bench, 2)
    said = await strangler(environment, "quarantine", "discard", "profile", given_up)
    assert (said.status, said.out.strip()) == (0, "profile: 1 of 1 keys discarded")
    assert set(await bench.refusals()) == {kept}
    [legacy] = await bench.legacy["strangler_audit"].find({"action": "discard"}).to_list()
    [prisma] = await ground.stores.engine.query_raw(
        'SELECT "entity", "who", "note" FROM "strangler_audit" WHERE "action" = $1', "discard"
    )
    expected = {"entity": "profile", "who": getpass.getuser(), "note": f"1 keys: {given_up}"}
    assert {name: legacy[name] for name in expected} == prisma == expected

    again = await strangler(environment, "quarantine", "discard", "profile", given_up)
    assert (again.status, again.out.strip()) == (1, "profile: 0 of 1 keys discarded")


async def test_an_unknown_entity_is_a_mistake(environment: Mapping[str, str]) -> None:
    for command in (("list", "nfts"), ("retry", "nfts"), ("discard", "nfts", "k")):
        said = await strangler(environment, "quarantine", *command)
        assert (said.status, said.error.count("\n"), said.out) == (2, 1, "")
        assert "nft_ownership" in said.error


async def test_where_nothing_settles_it_is_said(ground: Ground, bench: Bench, environment: Mapping[str, str]) -> None:
    await bench.stores.legacy.quarantine.put("video", {"a" * 24: "why"})
    for store in ground.stores.by_side().values():
        await store.state.save_flag(replace(bench.flags["video"], epoch=2, stage=Stage.OFF.value, changed_by="test"))
    said = await strangler(environment, "quarantine", "retry", "video")
    assert (said.status, said.out.strip()) == (0, "video: settles nothing at off")
