"""Handlers: their answers are the old servers', and what they write is recorded, marked and settled, or not written at all."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prisma import Prisma
from prisma.errors import PrismaError

from adapters.marking import Transaction, Transactions, Unrecorded
from adapters.prisma_models import new_key
from adapters.side import Conflict, SideError
from config.model import Stage
from tests.proxy_case import Running, fresh, standing
from tests.subjects import NFT, NOTIFICATION, PROFILE, VIDEO

NO_MARKS = {"legacy": 0, "prisma": 0}
MODELS = {"Account": "account", "Profile": "profile", "Video": "video", "NFTOwnership": "nft_ownership"}


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template) as proxim8:
        yield proxim8


@pytest.fixture(scope="module")
async def peopled(stand: Running) -> tuple[str, str]:
    """An account with some of everything, on both sides."""
    await stand.move(Stage.SHADOW)
    owner = await stand.account()
    for status in ("PENDING", "COMPLETED", "PENDING"):
        await stand.create(VIDEO, *owner, status=status, description=None)
    notes = [await stand.create(NOTIFICATION, *owner, data=data) for data in ({}, {"a": [1, None, 2.5]}, {"é": ""})]
    await stand.ask("PATCH", f"/api/notifications/{notes[0]}/read")
    for _ in range(2):
        await stand.create(PROFILE, *owner)
    for _ in range(4):
        await stand.account()
    await stand.quiet()
    return owner


# Answers


@pytest.mark.parametrize(
    ("server", "path"),
    [
        ("core", "/api/accounts"),
        ("core", "/api/accounts?limit=2&page=2"),
        ("core", "/api/accounts?page=99999"),
        ("core", "/api/accounts?limit=&page="),
        ("core", "/api/accounts/me"),
        ("proxim8", "/api/videos"),
        ("proxim8", "/api/videos?status=PENDING&limit=1"),
        ("proxim8", "/api/videos?status="),
        ("proxim8", "/api/videos?status[$ne]=PENDING"),
        ("proxim8", "/api/notifications"),
        ("proxim8", "/api/notifications?unread=true&limit=2"),
        ("proxim8", "/api/notifications?unread=false"),
        ("proxim8", "/api/notifications?unread="),
    ],
)
async def test_reads_answer_as_the_old_servers_do(
    stand: Running, peopled: tuple[str, str], server: str, path: str
) -> None:
    await stand.move(Stage.LIVE)
    old = await stand.direct(server, path, wallet=peopled[0])
    new = await stand.ask("GET", path, wallet=peopled[0])
    assert (old.status, old.forwarded, new.forwarded) == (200, False, False)
    assert (new.status, new.body) == (200, old.body)
    assert new.headers["Content-Type"] == old.headers["Content-Type"]


@pytest.mark.parametrize(
    ("server", "path"),
    [
        ("core", "/api/accounts?page=0"),
        ("core", "/api/accounts?limit=101"),
        ("core", "/api/accounts?limit=ten"),
        ("proxim8", "/api/videos?status=NOPE"),
        ("proxim8", "/api/videos?limit=-1"),
        ("proxim8", "/api/videos?limit=1e1"),
        ("proxim8", "/api/notifications?unread=maybe"),
        ("proxim8", "/api/notifications?limit=0"),
    ],
)
async def test_reads_refuse_what_the_old_servers_refuse(
    stand: Running, peopled: tuple[str, str], server: str, path: str
) -> None:
    await stand.move(Stage.LIVE)
    old = await stand.direct(server, path, wallet=peopled[0])
    new = await stand.ask("GET", path, wallet=peopled[0])
    assert (old.status, new.status) == (400, 400)
    assert (new.body["success"], new.body["field"], new.body["reason"]) == (
        False,
        old.body["field"],
        old.body["reason"],
    )


async def test_reads_at_shadow_compare_equal(stand: Running, peopled: tuple[str, str]) -> None:
    await stand.move(Stage.SHADOW)
    await stand.quiet()
    before = {subject: stand.compared(subject) for subject in ("account", "video", "notification")}
    for path in ("/api/accounts?limit=3", "/api/accounts/me", "/api/videos?limit=2", "/api/notifications?unread=true"):
        assert (await stand.ask("GET", path, wallet=peopled[0])).status == 200
    await stand.quiet()
    for subject, was in before.items():
        more = 2 if subject == "account" else 1
        assert stand.compared(subject) == {**was, "equal": was.get("equal", 0) + more}


def shape(body: Any) -> Any:
    """The same with the type in place of each value."""
    if isinstance(body, dict):
        return {name: shape(value) for name, value in body.items()}
    return [shape(value) for value in body] if isinstance(body, list) else type(body).__name__


@pytest.mark.parametrize(
    ("path", "body", "same"),
    [
        ("/api/videos/generate", {"nftId": "nft-1"}, ["nftId", "status", "isPublic"]),
        ("/api/videos/generate", {"nftId": "nft-1", "title": "t", "description": "d", "extra": 1}, ["title", "nftId"]),
        ("/api/notifications/read-all", None, ["modified"]),
        (
            "/api/nfts/verify",
            {"nftId": "nft-of-both", "walletAddress": "0x1", "contractAddress": "0x2", "tokenId": "3"},
            ["nftId", "walletAddress", "contractAddress", "tokenId", "verified"],
        ),
    ],
    ids=["generate", "generate with all", "read-all", "verify"],
)
async def test_writes_answer_as_the_old_servers_do(stand: Running, path: str, body: Any, same: list[str]) -> None:
    answers = []
    for stage in (Stage.SHADOW, Stage.LIVE):
        await stand.move(stage)
        owner = await stand.account()
        await stand.create(NOTIFICATION, *owner)
        answers.append(await stand.ask("POST", path, body, wallet=owner[0]))
    old, new = answers
    assert (old.forwarded, new.forwarded) == (True, False)
    assert (old.status, new.status) == (200, 200)
    assert shape(new.body) == shape(old.body)
    assert new.body["message"] == old.body["message"]
    assert {name: new.data[name] for name in same} == {name: old.data[name] for name in same}
    await stand.quiet()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/videos/generate", {}),
        ("/api/videos/generate", {"nftId": "  "}),
        ("/api/videos/generate", {"nftId": {"$ne": None}}),
        ("/api/videos/generate", {"nftId": "n", "title": 7}),
        ("/api/nfts/verify", {"nftId": "n", "walletAddress": "w", "contractAddress": "c"}),
        ("/api/nfts/verify", {"nftId": None, "walletAddress": "w", "contractAddress": "c", "tokenId": "1"}),
        ("/api/nfts/verify", {"nftId": "n", "walletAddress": "w", "contractAddress": "c", "tokenId": 1}),
        ("/api/nfts/verify", {"nftId": ["n"], "walletAddress": "w", "contractAddress": "c", "tokenId": "1"}),
    ],
)
async def test_writes_refuse_what_the_old_servers_refuse(stand: Running, path: str, body: Any) -> None:
    answers = []
    for stage in (Stage.SHADOW, Stage.LIVE):
        await stand.move(stage)
        answers.append(await stand.ask("POST", path, body, wallet=f"0x{fresh()}"))
    old, new = answers
    assert (old.status, new.status) == (400, 400)
    assert (new.body["field"], new.body["reason"]) == (old.body["field"], old.body["reason"])
    await stand.quiet()
    assert await stand.marks() == NO_MARKS


async def test_verifying_an_nft_again_changes_the_one_there_is(stand: Running) -> None:
    await stand.move(Stage.LIVE)
    body = NFT.make(fresh(), "")
    first = await stand.ask("POST", NFT.create, body)
    again = await stand.ask("POST", NFT.create, {**body, "tokenId": "8"})
    assert (again.data["id"], again.data["tokenId"]) == (first.data["id"], "8")
    await stand.quiet()
    held = await stand.on_legacy("nft_ownership", first.data["id"])
    assert held is not None
    assert held["tokenId"] == "8"
    assert held == await stand.on_prisma("nft_ownership", first.data["id"])


async def test_all_marked_as_read_reach_legacy(stand: Running) -> None:
    await stand.move(Stage.LIVE)
    owner = await stand.account()
    keys = [await stand.create(NOTIFICATION, *owner) for _ in range(5)]
    answer = await stand.ask("POST", "/api/notifications/read-all", wallet=owner[0])
    assert answer.data == {"modified": 5}
    await stand.quiet()
    for key in keys:
        held = await stand.on_legacy("notification", key)
        assert held is not None
        assert held["isRead"] is True
        assert held == await stand.on_prisma("notification", key)
    assert await stand.marks() == NO_MARKS


async def test_what_a_handler_wrote_stands_and_settles_when_its_job_cannot_be_queued(stand: Running) -> None:
    """The old server that queues the jobs is dead: the client is told, and the video is on both sides."""
    await stand.move(Stage.LIVE)
    wallet, _ = await stand.account()
    queue = stand.old["proxim8"]
    queue.signal(signal.SIGSTOP)
    try:
        asked = asyncio.create_task(stand.ask("POST", "/api/videos/generate", {"nftId": "unqueued"}, wallet=wallet))
        async with asyncio.timeout(10):
            while not (rows := await stand.sql('SELECT "_id" FROM "videos" WHERE "nftId" = $1', "unqueued")):
                await asyncio.sleep(0.02)
        key = rows[0]["_id"]
        async with asyncio.timeout(10):
            while await stand.on_legacy("video", key) is None:
                await asyncio.sleep(0.02)
        assert not asked.done()
    finally:
        queue.signal(signal.SIGCONT)
    assert (await asked).status == 200
    await stand.quiet()
    # The job goes on by itself, and changes the video.
    async with asyncio.timeout(10):
        while await stand.on_legacy("video", key) != await stand.on_prisma("video", key):
            await asyncio.sleep(0.02)


# What a handler may write


async def marked(entity: str) -> bool:
    return True


@pytest.fixture
async def transactions(stand: Running) -> Transactions:
    return Transactions(stand.proxy.stores.engine, MODELS)


def nft(key: str, **changes: Any) -> Any:
    name = fresh()
    return {"id": key, "nftId": name, "walletAddress": "w", "contractAddress": "c", "tokenId": "1", **changes}


async def marks_of(stand: Running, *keys: str) -> list[str]:
    rows = await stand.sql('SELECT "key" FROM "strangler_mark" WHERE "key" = ANY($1) ORDER BY "key"', list(keys))
    return [row["key"] for row in rows]


async def unmark(stand: Running, transaction: Transaction) -> None:
    """These tests have no replicator of their own."""
    await stand.proxy.stores.prisma.unmark([mark for marks in transaction.marks.values() for mark in marks])


async def test_every_key_that_is_written_is_marked_once(stand: Running, transactions: Transactions) -> None:
    one, two, three, four = keys = sorted(new_key() for _ in range(4))
    wallet = fresh()
    async with transactions.begin(marked) as transaction:
        db = transaction.client.nftownership
        await db.create(data=nft(one, walletAddress=wallet))
        await db.create_many(data=[nft(two, walletAddress=wallet), nft(three, walletAddress=wallet)])
        await db.upsert(where={"id": four}, data={"create": nft(four), "update": {}})
        assert await db.update_many(where={"walletAddress": wallet}, data={"tokenId": "2"}) == 3
        await db.update(where={"id": one}, data={"tokenId": "3"})
        await db.delete(where={"id": four})
    assert {entity: sorted(keys) for entity, keys in transaction.keys.items()} == {"nft_ownership": keys}
    assert await marks_of(stand, *keys) == keys
    async with transactions.begin(marked) as gone:
        assert await gone.client.nftownership.delete_many(where={"walletAddress": wallet}) == 3
    assert sorted(gone.keys["nft_ownership"]) == [one, two, three]
    await unmark(stand, transaction)
    await unmark(stand, gone)


async def test_a_batch_is_recorded_like_its_calls(stand: Running, transactions: Transactions) -> None:
    keys = sorted(new_key() for _ in range(2))
    async with transactions.begin(marked) as transaction:
        batch = transaction.client.batch_()
        for key in keys:
            batch.nftownership.create(data=nft(key))
        await batch.commit()
    assert await marks_of(stand, *keys) == keys
    await unmark(stand, transaction)


async def test_a_handler_that_raises_leaves_nothing(stand: Running, transactions: Transactions) -> None:
    key = new_key()

    async def handle() -> None:
        async with transactions.begin(marked) as transaction:
            await transaction.client.nftownership.create(data=nft(key))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await handle()
    assert await stand.on_prisma("nft_ownership", key) is None
    assert await marks_of(stand, key) == []


async def test_a_conflict_is_a_conflict_and_leaves_nothing(stand: Running, transactions: Transactions) -> None:
    one, two, name = new_key(), new_key(), fresh()

    async def handle() -> None:
        async with transactions.begin(marked) as transaction:
            await transaction.client.nftownership.create(data=nft(one, nftId=name))
            await transaction.client.nftownership.create(data=nft(two, nftId=name))

    with pytest.raises(Conflict) as caught:
        await handle()
    assert caught.value.fields == ("nftId",)
    assert await stand.on_prisma("nft_ownership", one) is None
    assert await marks_of(stand, one, two) == []


async def _nested(db: Prisma, key: str) -> None:
    await db.account.create(
        data={"id": key, "walletAddress": key, "profiles": {"create": [{"id": new_key(), "username": key}]}}
    )


async def _nested_in_an_update(db: Prisma, key: str) -> None:
    await db.account.create(data={"id": key, "walletAddress": key})
    await db.account.update(where={"id": key}, data={"profiles": {"create": [{"id": new_key(), "username": key}]}})


async def _raw(db: Prisma, key: str) -> None:
    await db.execute_raw('UPDATE "nft_ownership" SET "tokenId" = $1', key)


async def _raw_question_that_writes(db: Prisma, key: str) -> None:
    await db.query_raw('DELETE FROM "nft_ownership" WHERE "tokenId" = $1 RETURNING "_id"', key)


async def _hidden_raw_write(db: Prisma, key: str) -> None:
    await db.query_raw('WITH gone AS (DELETE FROM "nft_ownership" RETURNING "_id") SELECT * FROM gone')


async def _own_transaction(db: Prisma, key: str) -> None:
    with pytest.warns(UserWarning, match="already in a transaction"):
        async with db.tx() as tx:
            await tx.nftownership.create(data=nft(key))


async def _raw_in_a_batch(db: Prisma, key: str) -> None:
    batch = db.batch_()
    batch.nftownership.create(data=nft(key))
    batch.execute_raw('DELETE FROM "nft_ownership"')
    await batch.commit()


@pytest.mark.parametrize(
    "write",
    [
        _nested,
        _nested_in_an_update,
        _raw,
        _raw_question_that_writes,
        _hidden_raw_write,
        _own_transaction,
        _raw_in_a_batch,
    ],
)
async def test_what_nobody_could_mark_is_refused(
    stand: Running, transactions: Transactions, write: Callable[[Prisma, str], Awaitable[None]]
) -> None:
    key = new_key()
    before = await stand.sql('SELECT count(*)::int AS n FROM "nft_ownership"')

    async def handle() -> None:
        async with transactions.begin(marked) as transaction:
            await write(transaction.client, key)

    with pytest.raises(Unrecorded):
        await handle()
    assert await stand.on_prisma("nft_ownership", key) is None
    assert await stand.on_prisma("account", key) is None
    assert await stand.sql('SELECT count(*)::int AS n FROM "nft_ownership"') == before
    assert await marks_of(stand, key) == []


async def test_connecting_to_a_parent_is_no_nested_write(stand: Running, transactions: Transactions) -> None:
    account, profile = new_key(), new_key()
    async with transactions.begin(marked) as transaction:
        await transaction.client.account.create(data={"id": account, "walletAddress": account})
        await transaction.client.profile.create(
            data={"id": profile, "username": profile, "account": {"connect": {"id": account}}}
        )
        rows = await transaction.client.query_raw(
            'SELECT "updatedAt" FROM "profiles" WHERE "_id" = $1 FOR UPDATE', profile
        )
        assert len(rows) == 1
    assert transaction.keys == {"account": (account,), "profile": (profile,)}
    await unmark(stand, transaction)


async def test_a_handler_of_a_read_cannot_write(stand: Running, transactions: Transactions) -> None:
    key = new_key()
    for write in (
        transactions.client.nftownership.create(data=nft(key)),
        transactions.client.nftownership.delete_many(where={}),
        transactions.client.execute_raw('DELETE FROM "nft_ownership"'),
    ):
        with pytest.raises(Unrecorded):
            await write
    assert await stand.on_prisma("nft_ownership", key) is None
    assert await transactions.client.nftownership.count() >= 0


async def test_an_entity_that_is_not_replicated_is_written_without_marks(stand: Running) -> None:
    async def unmarked(entity: str) -> bool:
        return False

    key = new_key()
    transactions = Transactions(stand.proxy.stores.engine, MODELS)
    async with transactions.begin(unmarked) as transaction:
        await transaction.client.nftownership.create(data=nft(key))
    assert await marks_of(stand, key) == []
    assert await stand.on_prisma("nft_ownership", key) is not None


async def test_what_a_handler_catches_is_not_committed_by_half(stand: Running, transactions: Transactions) -> None:
    """PostgreSQL ends a transaction at its first error: a handler that goes on all the same gets nothing committed."""
    key, name = new_key(), fresh()

    async def handle() -> None:
        async with transactions.begin(marked) as transaction:
            await transaction.client.nftownership.create(data=nft(key, nftId=name))
            with pytest.raises(PrismaError):
                await transaction.client.nftownership.create(data=nft(new_key(), nftId=name))

    with pytest.raises(SideError):
        await handle()
    assert await stand.on_prisma("nft_ownership", key) is None
    assert await marks_of(stand, key) == []
