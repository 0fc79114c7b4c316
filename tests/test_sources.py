"""Several collections, one record: what either source tells reaches Prisma, and what Prisma decides goes back to each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from adapters.side import Conflict, Operation
from config.model import Stage
from proxy.replication.settle import Settler
from tests.settle_case import Bench, Ground, Json, bench_at, grounds
from tests.sources_case import LATER, NOW, SOURCES_CONFIG, Follower, People, following, fresh


@pytest.fixture(scope="module")
async def ground(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    async with grounds(mongo_url, postgres_url, migrated_template, config_file=SOURCES_CONFIG) as found:
        for collection, field in (("users", "walletAddress"), ("accounts", "wallet.address"), ("profiles", "username")):
            await found.legacy[collection].create_index(field, unique=True)
        yield found


@pytest.fixture
async def bench(ground: Ground) -> AsyncIterator[Bench]:
    async with bench_at(Stage.SHADOW, ground) as found:
        yield found


@pytest.fixture
async def live(ground: Ground) -> AsyncIterator[Bench]:
    async with bench_at(Stage.LIVE, ground) as found:
        yield found


@pytest.fixture
async def follower(bench: Bench) -> AsyncIterator[Follower]:
    async with following(bench) as found:
        yield found


@pytest.fixture
def people(bench: Bench) -> People:
    return People(bench)


async def change(bench: Bench, collection: str, key: str, **fields: Any) -> None:
    done = await bench.legacy[collection].update_one({"_id": ObjectId(key)}, {"$set": fields})
    assert done.modified_count == 1


async def delete(bench: Bench, collection: str, key: str) -> None:
    assert (await bench.legacy[collection].delete_one({"_id": ObjectId(key)})).deleted_count == 1


async def document(bench: Bench, collection: str, key: str) -> Json:
    found = await bench.document(collection, key)
    assert found is not None
    return found


# From Mongo to Prisma


async def test_a_record_of_the_first_source_alone_has_its_id(follower: Follower, people: People) -> None:
    wallet = fresh()
    key = await people.user(wallet)
    await follower.caught_up()
    assert await people.keys(wallet) == [key]


async def test_a_record_of_another_source_alone_has_that_ones_id(follower: Follower, people: People) -> None:
    wallet = fresh()
    key = await people.account(wallet)
    await follower.caught_up()
    assert await people.keys(wallet) == [key]


async def test_two_documents_with_one_natural_key_are_one_record(
    follower: Follower, people: People, bench: Bench
) -> None:
    wallet = fresh()
    user = await people.user(wallet, NOW + LATER)
    account = await people.account(wallet, NOW)
    await follower.caught_up()
    assert await people.keys(wallet) == [user]
    assert (await bench.row(user, "account")) == {
        "id": user,
        "walletAddress": wallet,
        "createdAt": NOW,
        "updatedAt": NOW + LATER,
    }
    assert await bench.row(account, "account") is None


async def test_a_record_moves_to_the_id_of_an_earlier_source_with_what_refers_to_it(
    follower: Follower, people: People, bench: Bench
) -> None:
    wallet = fresh()
    account = await people.account(wallet)
    video = await people.video(account)
    await follower.caught_up()
    assert (await bench.row(video, "video") or {})["accountId"] == account
    user = await people.user(wallet)
    await follower.caught_up()
    assert await people.keys(wallet) == [user]
    assert (await bench.row(video, "video") or {})["accountId"] == user
    assert await bench.refusals(entity="account") == {}


async def test_a_record_moves_back_when_the_earlier_source_loses_it(
    follower: Follower, people: People, bench: Bench
) -> None:
    wallet = fresh()
    user, account = await people.user(wallet), await people.account(wallet, NOW - LATER)
    video = await people.video(account)
    await follower.caught_up()
    await delete(bench, "users", user)
    await follower.caught_up()
    [row] = await people.rows(wallet)
    assert row["id"] == account
    assert (await bench.row(video, "video") or {})["accountId"] == account


async def test_a_record_without_its_other_document_forgets_what_that_one_said(
    follower: Follower, people: People, bench: Bench
) -> None:
    wallet = fresh()
    user, account = await people.user(wallet, NOW), await people.account(wallet, NOW - LATER)
    await follower.caught_up()
    assert (await bench.row(user, "account") or {})["createdAt"] == NOW - LATER
    await delete(bench, "accounts", account)
    await follower.caught_up()
    assert (await bench.row(user, "account") or {})["createdAt"] == NOW


@pytest.mark.parametrize("first", ["users", "accounts"])
async def test_a_record_that_both_sources_lose_is_gone(
    follower: Follower, people: People, bench: Bench, first: str
) -> None:
    wallet = fresh()
    keys = {"users": await people.user(wallet), "accounts": await people.account(wallet)}
    await follower.caught_up()
    for collection in sorted(keys, key=lambda name: name != first):
        await delete(bench, collection, keys[collection])
        await follower.caught_up()
    assert await people.keys(wallet) == []


async def test_a_change_in_either_source_reaches_the_row(follower: Follower, people: People, bench: Bench) -> None:
    wallet = fresh()
    user, account = await people.user(wallet), await people.account(wallet)
    await follower.caught_up()
    for days, (collection, key) in enumerate((("accounts", account), ("users", user)), 1):
        at = NOW + timedelta(days=days)
        await change(bench, collection, key, updatedAt=at)
        await follower.caught_up()
        assert (await bench.row(user, "account") or {})["updatedAt"] == at


async def test_a_natural_key_that_changes_in_one_source_makes_two_records(
    follower: Follower, people: People, bench: Bench
) -> None:
    wallet, renamed = fresh(), fresh()
    user, account = await people.user(wallet), await people.account(wallet)
    video = await people.video(account)
    await follower.caught_up()
    await change(bench, "users", user, walletAddress=renamed)
    await follower.caught_up()
    assert await people.keys(renamed) == [user]
    assert await people.keys(wallet) == [account]
    # What refers to one of them is marked: it belongs to another record now.
    [mark] = [one for one in await bench.stores.legacy.marks("video", 100) if one.key == video]
    await people.settle(video, entity="video")
    await bench.stores.legacy.unmark([mark.id])
    assert (await bench.row(video, "video") or {})["accountId"] == account


async def test_a_natural_key_that_both_sources_change_keeps_the_record(
    follower: Follower, people: People, bench: Bench
) -> None:
    wallet, renamed = fresh(), fresh()
    user, account = await people.user(wallet), await people.account(wallet)
    await follower.caught_up()
    await change(bench, "accounts", account, wallet={"address": renamed})
    await change(bench, "users", user, walletAddress=renamed)
    await follower.caught_up()
    assert (await people.keys(wallet), await people.keys(renamed)) == ([], [user])


async def test_records_that_become_one_keep_what_refers_to_either(
    follower: Follower, people: People, bench: Bench
) -> None:
    wallet, other = fresh(), fresh()
    user, account = await people.user(wallet), await people.account(other)
    video = await people.video(account)
    await follower.caught_up()
    await change(bench, "users", user, walletAddress=other)
    await follower.caught_up()
    assert await people.keys(other) == [user]
    assert (await bench.row(video, "video") or {})["accountId"] == user


async def test_a_settle_of_either_id_settles_the_record(people: People) -> None:
    wallet = fresh()
    user, account = await people.user(wallet), await people.account(wallet)
    await people.settle(account)
    assert await people.keys(wallet) == [user]


async def test_a_document_that_is_deleted_while_its_record_is_copied_is_not_forgotten(
    people: People, bench: Bench
) -> None:
    wallet = fresh()
    user, account = await people.user(wallet, NOW), await people.account(wallet, NOW - LATER)
    await people.settle(user)
    async with bench.steps.stopped("held", lambda: bench.settler.settle("account", [user])) as settle:
        await delete(bench, "accounts", account)
        # Whoever copies the record dies here; another one hears of the deletion, which tells nothing but an id.
        settle.cancel()
        await asyncio.wait([settle])
    await bench.settler.settle("account", [account])
    assert (await bench.row(user, "account") or {})["createdAt"] == NOW


async def test_a_deletion_overtakes_the_copy_that_read_before_it(people: People, bench: Bench) -> None:
    wallet = fresh()
    user, account = await people.user(wallet, NOW), await people.account(wallet, NOW - LATER)
    async with bench.steps.stopped("held", lambda: bench.settler.settle("account", [user])) as settle:
        await delete(bench, "accounts", account)
        late = await Settler(bench.stores.by_side(), bench.flags, bench.parents).settle("account", [account])
        assert late.done == {account}
    await settle
    assert (await bench.row(user, "account") or {})["createdAt"] == NOW


async def test_two_documents_of_one_source_with_one_natural_key_are_refused_until_one_goes(
    people: People, bench: Bench, ground: Ground
) -> None:
    await ground.legacy["people"].drop_indexes()
    account = await people.user(fresh())
    await people.settle(account)
    name = fresh()
    profile = await bench.profile(ObjectId(account), username=name)
    twins = [str(ObjectId()) for _ in range(2)]
    for twin in twins:
        await bench.legacy["people"].insert_one({"_id": ObjectId(twin), "nick": name, "since": NOW})
    await people.settle(profile, entity="profile")
    refusal = await bench.quarantined(profile)
    assert refusal.reason == "people.nick: 2 documents have the same; expected one"
    assert await bench.row(profile) is None
    await delete(bench, "people", twins[0])
    await people.settle(twins[0], entity="profile")
    await people.settle(profile, entity="profile")
    assert (await bench.row(profile) or {})["createdAt"] == NOW
    assert profile not in await bench.refusals()


# Which value counts


async def profile_of(people: People, bench: Bench, *, person: Json, face: Json | None = None, **fields: Any) -> Json:
    account, name = await people.user(fresh()), fresh()
    await people.settle(account)
    key = await bench.profile(ObjectId(account), username=name, createdAt=NOW, **fields)
    await bench.legacy["people"].insert_one({"nick": name, **person})
    if face is not None:
        await bench.legacy["faces"].insert_one({"username": name, **face})
    await people.settle(key, entity="profile")
    found = await bench.row(key)
    assert found is not None, await bench.refusals()
    return found


@pytest.mark.parametrize(
    ("own", "person", "expected"),
    [
        ({"bio": "own"}, {"about": {"text": "theirs"}}, "theirs"),
        ({"bio": "own"}, {}, "own"),
        ({"bio": "own"}, {"about": {"text": None}}, "own"),
        ({}, {"about": {"text": "theirs"}}, "theirs"),
        ({}, {}, None),
    ],
)
async def test_the_first_value_in_the_order_of_precedence_counts(
    people: People, bench: Bench, own: Json, person: Json, expected: str | None
) -> None:
    assert (await profile_of(people, bench, person=person, **own))["bio"] == expected


@pytest.mark.parametrize(("since", "expected"), [(NOW - LATER, NOW - LATER), (NOW + LATER, NOW), (None, NOW)])
async def test_the_earliest_date_counts(people: People, bench: Bench, since: Any, expected: Any) -> None:
    assert (await profile_of(people, bench, person={"since": since}))["createdAt"] == expected


async def test_a_third_source_adds_what_the_others_do_not_have(people: People, bench: Bench) -> None:
    face = {"url": "https://faces.example/1"}
    assert (await profile_of(people, bench, person={}, face=face))["avatar"] == face["url"]
    assert (await profile_of(people, bench, person={}, face=face, avatar="own"))["avatar"] == "own"


async def test_a_value_that_counts_and_cannot_be_is_refused_by_its_place(people: People, bench: Bench) -> None:
    account, name = await people.user(fresh()), fresh()
    await people.settle(account)
    key = await bench.profile(ObjectId(account), username=name, bio="fine, but it does not count")
    await bench.legacy["people"].insert_one({"nick": name, "about": {"text": 7}})
    await people.settle(key, entity="profile")
    assert (await bench.quarantined(key)).reason == "people.about.text: expected a string, got an integer"


async def test_a_value_that_does_not_count_may_be_anything(people: People, bench: Bench) -> None:
    account, name = await people.user(fresh()), fresh()
    await people.settle(account)
    key = await bench.profile(ObjectId(account), username=name, bio=7)
    await bench.legacy["people"].insert_one({"nick": name, "about": {"text": "counts"}})
    await people.settle(key, entity="profile")
    assert (await bench.row(key) or {})["bio"] == "counts"


# Walking


async def test_every_record_is_walked_once(people: People, bench: Bench, ground: Ground) -> None:
    for collection in ("users", "accounts", "videos", "profiles", "people", "faces"):
        await ground.legacy[collection].delete_many({})
    both = [fresh() for _ in range(7)]
    keys = {await people.user(wallet) for wallet in both}
    keys |= {await people.user(fresh()) for _ in range(3)}
    aliases = {await people.account(wallet) for wallet in both}
    keys |= {await people.account(fresh()) for _ in range(4)}
    store = bench.stores.legacy
    assert sorted([key async for batch in store.keys("account", batch=3) for key in batch]) == sorted(keys)
    walked: list[str] = []
    place: str | None = None
    while found := await store.range("account", place, most=2, size=1 << 20):
        assert 1 <= len(found.keys) <= 2
        walked += found.keys
        place = found.upto
    assert sorted(walked) == sorted(keys)
    assert await store.count("account") == len(keys)
    assert await store.present("account", [*keys, *aliases]) == keys
    changed = {key async for batch in store.changed_since("account", NOW) for key in batch}
    assert changed == keys | aliases
    held = await store.hold("account", sorted(keys | aliases))
    assert held.documents.keys() == keys
    assert await store.same("account", held.documents) == keys
    other = {key: {**one, "updatedAt": NOW - LATER} for key, one in held.documents.items()}
    assert await store.same("account", other) == frozenset()


# From Prisma to Mongo


async def test_a_write_goes_back_to_each_source_that_has_the_record(live: Bench) -> None:
    people, wallet, renamed = People(live), fresh(), fresh()
    user = await people.user(wallet, NOW, note="of users")
    account = await people.account(wallet, NOW + LATER, note="of accounts")
    await live.create("account", id=user, walletAddress=renamed, createdAt=NOW, updatedAt=NOW + 2 * LATER)
    await people.settle(user)
    assert await document(live, "users", user) == {
        "_id": ObjectId(user),
        "walletAddress": renamed,
        "createdAt": NOW,
        "updatedAt": NOW + 2 * LATER,
        "note": "of users",
    }
    # It keeps its own time of creation: merged, that is the earliest.
    assert await document(live, "accounts", account) == {
        "_id": ObjectId(account),
        "wallet": {"address": renamed},
        "createdAt": NOW + LATER,
        "updatedAt": NOW + 2 * LATER,
        "note": "of accounts",
    }


async def test_a_record_of_another_source_is_written_there_and_nowhere_else(live: Bench) -> None:
    people, wallet = People(live), fresh()
    account = await people.account(wallet)
    await live.create("account", id=account, walletAddress=wallet, createdAt=NOW, updatedAt=NOW + LATER)
    await people.settle(account)
    assert (await document(live, "accounts", account))["updatedAt"] == NOW + LATER
    assert await live.legacy["users"].find_one({"walletAddress": wallet}) is None


async def test_a_record_that_no_source_has_is_inserted_into_the_first(live: Bench) -> None:
    people, wallet = People(live), fresh()
    key = await live.create("account", walletAddress=wallet)
    await people.settle(key)
    assert (await document(live, "users", key))["walletAddress"] == wallet
    assert await live.legacy["accounts"].find_one({"wallet.address": wallet}) is None


async def test_a_deletion_reaches_every_source(live: Bench) -> None:
    people, wallet = People(live), fresh()
    user, account = await people.user(wallet), await people.account(wallet)
    await people.settle(user)
    assert (await live.document("users", user), await live.document("accounts", account)) == (None, None)


async def test_an_id_that_is_only_one_of_a_record_is_no_reason_to_delete(live: Bench) -> None:
    people, wallet = People(live), fresh()
    user, account = await people.user(wallet), await people.account(wallet)
    await live.create("account", id=user, walletAddress=wallet, createdAt=NOW, updatedAt=NOW)
    await people.settle(account)
    assert await live.document("accounts", account) is not None


async def test_a_cleared_value_is_cleared_in_every_source(live: Bench) -> None:
    people, name = People(live), fresh()
    account = await live.create("account", walletAddress=fresh())
    key = await live.profile(ObjectId(account), username=name, bio="own", avatar="mine")
    await live.legacy["people"].insert_one({"nick": name, "about": {"text": "theirs", "kept": 1}})
    await live.legacy["faces"].insert_one({"username": name, "url": "theirs"})
    await live.create("profile", id=key, accountId=account, username=name)
    await people.settle(key, entity="profile")
    assert (await document(live, "profiles", key)).keys().isdisjoint({"bio", "avatar"})
    person, face = [
        await live.legacy[one].find_one({"$or": [{"nick": name}, {"username": name}]}) for one in ("people", "faces")
    ]
    assert person is not None
    assert person["about"] == {"kept": 1}
    assert face is not None
    assert "url" not in face


async def test_a_value_without_a_place_makes_a_document_that_has_one(live: Bench) -> None:
    people, name = People(live), fresh()
    account = await live.create("account", walletAddress=fresh())
    await live.legacy["people"].insert_one({"_id": (person := ObjectId()), "nick": name, "since": NOW})
    await live.create("profile", id=str(person), accountId=account, username=name, createdAt=NOW, updatedAt=NOW)
    await people.settle(str(person), entity="profile")
    made = await document(live, "profiles", str(person))
    assert (made["accountId"], made["username"]) == (ObjectId(account), name)
    assert (await live.stores.legacy.hold("profile", [str(person)])).documents.keys() == {str(person)}


async def test_a_natural_key_that_another_record_has_is_refused(live: Bench) -> None:
    people, wallet = People(live), fresh()
    user = await people.user(wallet)
    key = await live.create("account", walletAddress=wallet)
    held = await live.stores.prisma.hold("account", [key])
    await live.stores.legacy.turn("account", 0)
    applied = await live.stores.legacy.apply("account", 0, held.token, held.documents)
    assert isinstance(applied.refused[key], Conflict)
    assert await live.document("users", user) is not None


async def test_a_stranger_in_the_first_source_gives_way_to_the_record(live: Bench) -> None:
    people, wallet = People(live), fresh()
    account = await people.account(wallet, note="kept")
    await live.create("account", id=account, walletAddress=wallet, createdAt=NOW, updatedAt=NOW)
    user = await people.user(wallet)
    await people.settle(user)
    assert await live.document("users", user) is None
    assert (await document(live, "users", account))["walletAddress"] == wallet
    assert (await document(live, "accounts", account))["note"] == "kept"


async def test_a_stranger_who_splits_a_record_is_overwritten(live: Bench) -> None:
    people, wallet = People(live), fresh()
    user, account = await people.user(wallet), await people.account(wallet, note="kept")
    await live.create("account", id=user, walletAddress=wallet, createdAt=NOW, updatedAt=NOW)
    await people.settle(user)
    await live.stores.legacy.hold("account", [user])
    await change(live, "users", user, walletAddress=fresh())
    await people.settle(user)
    assert (await document(live, "users", user))["walletAddress"] == wallet
    assert (await document(live, "accounts", account))["note"] == "kept"


async def test_what_settling_writes_in_any_source_is_no_news(live: Bench) -> None:
    people, wallet = People(live), fresh()
    user = await people.user(wallet)
    account = await people.account(wallet)
    await live.create("account", id=user, walletAddress=fresh(), createdAt=NOW, updatedAt=NOW)
    async with following(live) as follower:
        await follower.caught_up()
        follower.heard.clear()  # it begins at the time of the last write, and so with that write
        await people.settle(user)
        await change(live, "accounts", account, note="a stranger's")
        await follower.caught_up()
        assert [heard.key for heard in follower.heard] == [account]


# References


async def test_a_reference_is_the_records_key_on_one_side_and_its_own_id_on_the_other(
    people: People, bench: Bench, ground: Ground
) -> None:
    wallet = fresh()
    user, account = await people.user(wallet), await people.account(wallet)
    video = await people.video(account)
    await people.settle(video, entity="video")
    assert (await bench.row(video, "video") or {})["accountId"] == user
    assert await bench.stores.legacy.same("video", (await bench.stores.prisma.hold("video", [video])).documents) == {
        video
    }
    async with bench_at(Stage.LIVE, ground) as live:
        other = await live.create("video", accountId=user, nftId="nft", jobId=fresh(), status="PENDING")
        await People(live).settle(other, video, entity="video")
        assert (await document(live, "videos", other))["accountId"] == ObjectId(account)
        assert (await document(live, "videos", video))["accountId"] == ObjectId(account)


async def test_a_document_that_is_referred_to_and_not_there_is_made(live: Bench) -> None:
    people, wallet = People(live), fresh()
    key = await live.create("account", walletAddress=wallet)
    await people.settle(key)
    videos = [await live.create("video", accountId=key, nftId="nft", jobId=fresh(), status="PENDING") for _ in range(2)]
    await people.settle(*videos, entity="video")
    [made] = await live.legacy["accounts"].find({"wallet.address": wallet}).to_list(None)
    for video in videos:
        assert (await document(live, "videos", video))["accountId"] == made["_id"]
    held = await live.stores.legacy.hold("account", [key])
    assert held.documents == (await live.stores.prisma.hold("account", [key])).documents


async def test_what_refers_to_a_record_that_is_not_there_yet_brings_it(live: Bench) -> None:
    people, wallet = People(live), fresh()
    key = await live.create("account", walletAddress=wallet)
    video = await live.create("video", accountId=key, nftId="nft", jobId=fresh(), status="PENDING")
    await people.settle(video, entity="video")
    [made] = await live.legacy["accounts"].find({"wallet.address": wallet}).to_list(None)
    assert (await document(live, "videos", video))["accountId"] == made["_id"]
    assert (await document(live, "users", key))["walletAddress"] == wallet


async def test_what_refers_to_nothing_is_an_orphan(people: People, bench: Bench) -> None:
    video = await people.video(str(ObjectId()))
    await people.settle(video, entity="video")
    assert "accountId refers to nothing" in (await bench.quarantined(video, entity="video")).reason


# There and back


async def test_there_and_back_both_stores_agree(ground: Ground) -> None:
    for collection in ("users", "accounts", "videos", "profiles", "people", "faces"):
        await ground.legacy[collection].delete_many({})
    await ground.stores.engine.execute_raw('TRUNCATE "accounts", "profiles", "videos", "strangler_quarantine" CASCADE')
    async with bench_at(Stage.SHADOW, ground) as bench, following(bench) as follower:
        people = People(bench)
        wallets = [fresh() for _ in range(6)]
        users = [await people.user(wallet) for wallet in wallets[:4]]
        accounts = [await people.account(wallet, NOW - LATER) for wallet in wallets[2:]]
        videos = [await people.video(account) for account in accounts]
        await follower.caught_up()
        assert [await people.differences(one) for one in ("account", "video")] == [[], []]
    async with bench_at(Stage.LIVE, ground) as live:
        people = People(live)
        for key in (users[0], users[2], accounts[3]):
            row = {"where": {"id": key}, "data": {"walletAddress": fresh(), "updatedAt": NOW + LATER}}
            await live.stores.engine.call("Account", "update", row)
        moved = {"where": {"id": videos[0]}, "data": {"accountId": users[0]}}
        await live.stores.engine.call("Video", "update", moved)
        await live.stores.prisma.perform(Operation("account", "delete", {"id": users[1]}))
        new = await live.create("account", walletAddress=fresh())
        await people.settle(*users, *accounts, new)
        await people.settle(*videos, entity="video")
        assert [await people.differences(one) for one in ("account", "video")] == [[], []]
    async with bench_at(Stage.SHADOW, ground) as bench, following(bench) as follower:
        people = People(bench)
        await change(bench, "accounts", accounts[0], updatedAt=NOW + 2 * LATER)
        await delete(bench, "users", users[3])
        await follower.caught_up()
        assert [await people.differences(one) for one in ("account", "video")] == [[], []]


# Found and created by the natural key


async def test_a_record_is_found_by_its_natural_key_and_created_once(people: People, bench: Bench) -> None:
    store, wallet = bench.stores.legacy, fresh()
    account = await people.account(wallet)
    find = Operation("account", "read", {"walletAddress": wallet})
    [found] = (await store.perform(find)).documents
    assert found["id"] == account
    with pytest.raises(Conflict):
        await store.perform(Operation("account", "create", data={"walletAddress": wallet}))
    new = fresh()
    made = await store.perform(Operation("account", "create", data={"walletAddress": new}), mark=True)
    [mark] = made.marks
    await store.unmark([mark])
    assert (await document(bench, "users", made.keys[0]))["walletAddress"] == new
    assert (await store.perform(Operation("account", "read", {"id": made.keys[0]}))).documents == made.documents
    assert (await store.perform(Operation("account", "read", {"walletAddress": fresh()}))).documents == ()
