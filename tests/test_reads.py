"""Reads: both sides are compared off the client's path, what differs is said without anybody's data, and a share of the
keys may be served by the other side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from bson import ObjectId

from config.model import Stage
from tests.proxy_case import Answer, Running, fresh, standing
from tests.subjects import ACCOUNT, NFT, NOTIFICATION, PROFILE, SUBJECTS, VIDEO, Json, Subject


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template) as proxim8:
        yield proxim8


@pytest.fixture
async def proxim8(stand: Running) -> AsyncIterator[Running]:
    """At shadow, all of it compared and none of it served by prisma."""
    await stand.move(Stage.SHADOW)
    yield stand
    await stand.quiet()


@pytest.fixture
async def live(stand: Running) -> AsyncIterator[Running]:
    await stand.move(Stage.LIVE)
    yield stand
    await stand.quiet()


@pytest.fixture(params=[Stage.SHADOW, Stage.LIVE], ids=str)
async def comparing(request: pytest.FixtureRequest, stand: Running) -> AsyncIterator[Running]:
    """At each stage that compares."""
    await stand.move(request.param)
    yield stand
    await stand.quiet()


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.entity)
async def test_a_difference_on_prisma_is_said_counted_and_grouped(proxim8: Running, subject: Subject) -> None:
    key = await made(proxim8, subject)
    row = await proxim8.on_prisma(subject.entity, key)
    assert row is not None
    changed = "message" if subject is NOTIFICATION else "walletAddress" if subject in (ACCOUNT, NFT) else "title"
    changed = "bio" if subject is PROFILE else changed
    planted = f"personal-{fresh()}"
    await proxim8.change_row(subject.entity, key, **{changed: planted})
    before = proxim8.compared(subject.entity, do="read")

    answer = await proxim8.ask("GET", f"{subject.path}/{key}", headers={"X-Request-Id": f"r-{key}"})
    assert answer.status == 200
    assert answer.data[changed] != planted
    await proxim8.quiet()
    [said] = proxim8.said("mismatch", key=key)
    assert said == {
        "event": "mismatch",
        "log_level": "warning",
        "entity": subject.entity,
        "operation": "read",
        "route": f"GET {subject.path}/{{id}}",
        "key": key,
        "group": said["group"],
        "changes": [f"value {changed}"],
        "request_id": f"r-{key}",
    }
    after = proxim8.compared(subject.entity, do="read")
    assert after == {**before, "mismatch": before.get("mismatch", 0) + 1}
    [group] = [seen for seen in proxim8.proxy.reports if seen.group.id == said["group"]]
    assert (group.group.entity, group.group.operation, group.group.shapes) == (
        subject.entity,
        "read",
        ((changed, "value"),),
    )
    assert_unsaid(proxim8, planted, str(row[changed]))
    await proxim8.change_row(subject.entity, key, **{changed: row[changed]})


async def test_a_difference_on_legacy_is_said_at_live(live: Running) -> None:
    key = await made(live, VIDEO)
    planted = f"personal-{fresh()}"
    await unheard(live, "video", key, {"$set": {"title": planted}})
    answer = await live.ask("GET", f"/api/videos/{key}")
    assert (answer.forwarded, answer.data["title"]) == (False, "first")
    await live.quiet()
    [said] = live.said("mismatch", key=key)
    assert said["changes"] == ["value title"]
    assert said["request_id"] == answer.headers["X-Request-Id"]
    assert_unsaid(live, planted)
    await live.ask("PATCH", f"/api/videos/{key}", {"title": "healed"})


async def test_a_document_that_the_other_side_lacks_is_said(comparing: Running) -> None:
    key = await made(comparing, NFT)
    at_shadow = comparing.proxy.flags.meaning("nft_ownership").primary == "legacy"
    if at_shadow:
        await comparing.sql('DELETE FROM "nft_ownership" WHERE "_id" = $1 RETURNING "_id"', key)
    else:
        await unheard(comparing, "nft_ownership", key, None)
    answer = await comparing.ask("GET", f"/api/nfts/{key}")
    assert answer.status == 200
    await comparing.quiet()
    [said] = comparing.said("mismatch", key=key)
    assert len(said["changes"]) == 1
    assert_unsaid(comparing, "0xc0ffee")
    await comparing.ask("DELETE", f"/api/nfts/{key}")


async def test_a_difference_in_a_list_is_said_with_its_general_path(proxim8: Running) -> None:
    wallet, account = await proxim8.account()
    keys = [await proxim8.create(VIDEO, wallet, account) for _ in range(3)]
    await proxim8.quiet()
    await proxim8.change_row("video", keys[0], title="planted")
    assert (await proxim8.ask("GET", "/api/videos", wallet=wallet)).status == 200
    await proxim8.quiet()
    said = proxim8.said("mismatch", operation="list", route="GET /api/videos")[-1]
    assert said["changes"] == ["value 2.title"]
    [group] = [seen for seen in proxim8.proxy.reports if seen.group.id == said["group"]]
    assert group.group.shapes == (("*.title", "value"),)
    await proxim8.change_row("video", keys[0], title="first")


async def test_the_same_mismatch_again_is_one_group(proxim8: Running) -> None:
    keys = [await made(proxim8, PROFILE) for _ in range(2)]
    groups = set[str]()
    for key in keys:
        await proxim8.change_row("profile", key, avatar="planted")
        await proxim8.ask("GET", f"/api/profiles/{key}")
        await proxim8.quiet()
        groups.update(said["group"] for said in proxim8.said("mismatch", key=key))
    [group] = groups
    [seen] = [seen for seen in proxim8.proxy.reports if seen.group.id == group]
    assert seen.count >= 2
    assert seen.last >= seen.first
    for key in keys:
        await proxim8.ask("PATCH", f"/api/profiles/{key}", {"bio": "healed"})


async def test_a_write_heals_what_was_planted(proxim8: Running) -> None:
    key = await made(proxim8, PROFILE)
    await proxim8.change_row("profile", key, bio="planted")
    await proxim8.ask("PATCH", f"/api/profiles/{key}", {"avatar": "https://a.example/new"})
    await proxim8.quiet()
    before = proxim8.compared("profile")
    assert (await proxim8.ask("GET", f"/api/profiles/{key}")).status == 200
    await proxim8.quiet()
    assert proxim8.compared("profile") == {**before, "equal": before.get("equal", 0) + 1}


async def test_a_difference_that_settling_heals_is_lag(proxim8: Running) -> None:
    """The settle of a write waits for a lock on its row: what is read meanwhile differs, until the lock is gone."""
    key = await made(proxim8, PROFILE)
    before = proxim8.compared("profile")
    engine = proxim8.proxy.stores.engine
    lock = await engine.begin()
    await engine.query_raw('SELECT 1 AS one FROM "profiles" WHERE "_id" = $1 FOR UPDATE', key, tx=lock)
    try:
        await proxim8.ask("PATCH", f"/api/profiles/{key}", {"bio": "not settled yet"})
        await proxim8.until(lambda: proxim8.proxy.replicator.pending("profile", key), "a settle that waits")
        asked = await beacon(proxim8)
        answer = await proxim8.ask("GET", f"/api/profiles/{key}")
        assert answer.data["bio"] == "not settled yet"
        async with asyncio.timeout(10):
            while await beacon(proxim8) == asked:  # the comparison has seen a difference, and asks whether it settles
                await asyncio.sleep(0.01)
    finally:
        await engine.rollback(lock)
    await proxim8.quiet()
    assert proxim8.compared("profile") == {**before, "lag": before.get("lag", 0) + 1}
    assert not proxim8.said("mismatch", key=key)


async def test_reads_that_race_with_writes_are_never_mismatches(comparing: Running) -> None:
    wallet, account = await comparing.account()
    keys = [await comparing.create(VIDEO, wallet, account) for _ in range(4)]
    await comparing.quiet()
    before = comparing.compared("video")

    async def write(key: str) -> None:
        for turn in range(10):
            answer = await comparing.ask("PATCH", f"/api/videos/{key}", {"title": f"turn {turn}"})
            assert answer.status == 200

    async def read(key: str) -> None:
        for _ in range(5):
            assert (await comparing.ask("GET", f"/api/videos/{key}")).status == 200
            assert (await comparing.ask("GET", "/api/videos", wallet=wallet)).status == 200

    await asyncio.gather(*(work(key) for key in keys for work in (write, read)))
    await comparing.quiet()
    after = comparing.compared("video")
    assert sum(after.values()) == sum(before.values()) + 40
    assert after.get("mismatch", 0) == before.get("mismatch", 0)
    assert after.get("failed", 0) == before.get("failed", 0)


async def test_no_sample_compares_nothing(comparing: Running) -> None:
    key = await made(comparing, VIDEO)
    await comparing.tune("video", sample=0)
    try:
        before = comparing.compared("video")
        for _ in range(5):
            assert (await comparing.ask("GET", f"/api/videos/{key}")).status == 200
        await comparing.quiet()
        assert comparing.compared("video") == before
    finally:
        await comparing.tune("video", sample=100)


async def test_half_a_sample_compares_some(proxim8: Running) -> None:
    key = await made(proxim8, VIDEO)
    await proxim8.tune("video", sample=50)
    try:
        before = sum(proxim8.compared("video").values())
        for _ in range(60):
            assert (await proxim8.ask("GET", f"/api/videos/{key}")).status == 200
        await proxim8.quiet()
        assert 0 < sum(proxim8.compared("video").values()) - before < 60
    finally:
        await proxim8.tune("video", sample=100)


async def test_a_read_that_is_refused_is_not_compared(proxim8: Running) -> None:
    before = proxim8.compared("video")
    assert (await proxim8.ask("GET", "/api/videos/not-an-id")).status == 400
    assert (await proxim8.ask("GET", "/api/videos")).status == 401
    await proxim8.quiet()
    after = proxim8.compared("video")
    assert after == {**before, "skipped": before.get("skipped", 0) + 2}


async def test_a_head_is_compared_as_little_as_it_answers(comparing: Running) -> None:
    key = await made(comparing, VIDEO)
    answer = await comparing.ask("HEAD", f"/api/videos/{key}")
    assert (answer.status, answer.body) == (200, b"")
    await comparing.quiet()
    assert not comparing.said("mismatch", key=key)


async def test_a_secondary_that_cannot_answer_fails_the_comparison_only(proxim8: Running) -> None:
    key = await made(proxim8, VIDEO)
    before = proxim8.compared("video")
    await proxim8.sql('ALTER TABLE "videos" RENAME TO "videos_away"')
    try:
        answer = await proxim8.ask("GET", f"/api/videos/{key}", headers={"X-Request-Id": f"r-{key}"})
        assert answer.status == 200
        await proxim8.quiet()
    finally:
        await proxim8.sql('ALTER TABLE "videos_away" RENAME TO "videos"')
    assert proxim8.compared("video") == {**before, "failed": before.get("failed", 0) + 1}
    [said] = proxim8.said("comparison_failed", request_id=f"r-{key}")
    assert said["entity"] == "video"


async def test_all_served_by_prisma_still_reads_what_was_just_written(proxim8: Running) -> None:
    wallet, account = await proxim8.account()
    await proxim8.tune("video", serve=100)
    try:
        for _ in range(10):
            key = await proxim8.create(VIDEO, wallet, account)
            found = await proxim8.ask("GET", f"/api/videos/{key}")
            assert (found.status, found.data["title"]) == (200, "first")
            listed = await proxim8.ask("GET", "/api/videos", wallet=wallet)
            assert listed.data[0]["id"] == key
            await proxim8.ask("PATCH", f"/api/videos/{key}", {"title": f"of {key}"})
            assert (await proxim8.ask("GET", f"/api/videos/{key}")).data["title"] == f"of {key}"
        served = await until_served_by_prisma(proxim8, f"/api/videos/{key}")
        assert served.data["title"] == f"of {key}"
        await proxim8.ask("DELETE", f"/api/videos/{key}")
        assert (await proxim8.ask("GET", f"/api/videos/{key}")).status == 404
    finally:
        await proxim8.tune("video", serve=0)
    await proxim8.quiet()
    assert proxim8.count("strangler_fallbacks_total", entity="video") > 0


async def test_prisma_is_compared_when_it_serves(proxim8: Running) -> None:
    key = await made(proxim8, VIDEO)
    await proxim8.tune("video", serve=100)
    try:
        before = proxim8.compared("video", do="read")
        served = await until_served_by_prisma(proxim8, f"/api/videos/{key}")
        assert served.data == (await proxim8.direct("proxim8", f"/api/videos/{key}")).data
        await proxim8.quiet()
        after = proxim8.compared("video", do="read")
        assert after.get("equal", 0) > before.get("equal", 0)
        assert after.get("mismatch", 0) == before.get("mismatch", 0)
    finally:
        await proxim8.tune("video", serve=0)


async def test_a_share_of_the_keys_is_served_by_prisma_always_the_same(proxim8: Running) -> None:
    wallet, account = await proxim8.account()
    keys = [await proxim8.create(NOTIFICATION, wallet, account) for _ in range(40)]
    await proxim8.quiet()

    async def shares(serve: int) -> set[str]:
        await proxim8.tune("notification", serve=serve)
        answers = [await proxim8.ask("GET", f"/api/notifications/{key}") for key in keys]
        assert {answer.status for answer in answers} == {200}
        return {key for key, answer in zip(keys, answers, strict=True) if not answer.forwarded}

    try:
        await proxim8.tune("notification", serve=100)
        await until_served_by_prisma(proxim8, f"/api/notifications/{keys[0]}")
        some = await shares(40)
        assert 0 < len(some) < len(keys)
        assert await shares(40) == some
        assert some < await shares(80)
        assert await shares(100) == set(keys)
        assert await shares(0) == set()
    finally:
        await proxim8.tune("notification", serve=0)


async def test_what_prisma_cannot_serve_legacy_does(proxim8: Running) -> None:
    key = await made(proxim8, PROFILE)
    await proxim8.tune("profile", serve=100)
    await until_served_by_prisma(proxim8, f"/api/profiles/{key}")
    await proxim8.sql('ALTER TABLE "profiles" RENAME TO "profiles_away"')
    try:
        answer = await proxim8.ask("GET", f"/api/profiles/{key}")
        assert (answer.status, answer.forwarded) == (200, True)
    finally:
        await proxim8.sql('ALTER TABLE "profiles_away" RENAME TO "profiles"')
        await proxim8.tune("profile", serve=0)


async def test_what_can_never_settle_spoils_nothing_else(proxim8: Running) -> None:
    """A profile of an account that does not exist: it is said, and waits; what else there is is compared."""
    good = await made(proxim8, PROFILE)
    orphan, now = ObjectId(), datetime.now(UTC)
    document = {"_id": orphan, "accountId": ObjectId(), "username": fresh(), "createdAt": now, "updatedAt": now}
    await proxim8.legacy["profiles"].insert_one(document)
    try:
        await proxim8.until(lambda: bool(proxim8.said("settle_refused", key=str(orphan))), "an orphan that is refused")
        await proxim8.change_row("profile", good, bio="planted")
        assert (await proxim8.ask("GET", f"/api/profiles/{good}")).status == 200
        await proxim8.until(lambda: bool(proxim8.said("mismatch", key=good)), "a mismatch of another key")
        # It is missing on prisma, and that is a mismatch as well.
        assert (await proxim8.ask("GET", f"/api/profiles/{orphan}")).status == 200
        await proxim8.until(lambda: bool(proxim8.said("mismatch", key=str(orphan))), "a mismatch of the orphan")
        await proxim8.change_row("profile", good, bio="zażółć 🦊")
    finally:
        await proxim8.legacy["profiles"].delete_one({"_id": orphan})


async def unheard(proxim8: Running, entity: str, key: str, change: Json | None) -> None:
    """Change (None: delete) a document as a settle of our own does, with its fence: otherwise it is heard of, and put right
    again."""
    async with proxim8.legacy.client.start_session() as session, await session.start_transaction():
        fence = {"_id": {"e": entity, "k": key}}
        await proxim8.legacy["strangler_fences"].update_one(fence, {"$inc": {"unheard": 1}}, session=session)
        rows, where = proxim8.legacy[entity if entity == "nft_ownership" else f"{entity}s"], {"_id": ObjectId(key)}
        if change is None:
            assert (await rows.delete_one(where, session=session)).deleted_count == 1
        else:
            assert (await rows.update_one(where, change, session=session)).matched_count == 1


async def made(proxim8: Running, subject: Subject) -> str:
    """A key that both sides hold."""
    key = await proxim8.create(subject, *await proxim8.account())
    await proxim8.quiet()
    return key


async def until_served_by_prisma(proxim8: Running, path: str) -> Answer:
    """The first answer that the proxy gives itself; until everything has settled the old server does."""
    async with asyncio.timeout(10):
        while True:
            answer = await proxim8.ask("GET", path)
            assert answer.status == 200
            if not answer.forwarded:
                return answer
            await asyncio.sleep(0.01)


async def beacon(proxim8: Running) -> object:
    found = await proxim8.legacy["strangler_beacons"].find_one()
    return None if found is None else found["beacon"]


def assert_unsaid(proxim8: Running, *values: str) -> None:
    """No event holds any of these."""
    everything = orjson.dumps(proxim8.events, default=str).decode()
    assert [value for value in values if value in everything] == []
