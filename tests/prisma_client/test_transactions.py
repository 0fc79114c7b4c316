"""Batches and transactions of the generated client on our engine, and who may watch them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prisma import Prisma, errors

from adapters.client import client
from adapters.engine import Engine
from tests.prisma_client.conftest import key


async def test_a_batch_is_all_or_nothing(db: Prisma) -> None:
    async with db.batch_() as batch:
        batch.account.create({"id": key(1), "walletAddress": "0x1"})
        batch.account.create_many([{"id": key(2), "walletAddress": "0x2"}, {"id": key(3), "walletAddress": "0x3"}])
        batch.account.update({"walletAddress": "0x4"}, where={"id": key(1)})
        batch.account.upsert(
            {"id": key(5)}, {"create": {"id": key(5), "walletAddress": "0x5"}, "update": {"walletAddress": "-"}}
        )
        batch.account.delete({"id": key(2)})
        batch.profile.delete_many()
        batch.execute_raw('UPDATE accounts SET "walletAddress" = $1 WHERE _id = $2', "0x6", key(3))
    assert [a.walletAddress for a in await db.account.find_many(order={"id": "asc"})] == ["0x4", "0x6", "0x5"]

    failing = db.batch_()
    failing.account.delete_many()
    failing.account.create({"id": key(7), "walletAddress": "0x7"})
    failing.account.create({"id": key(8), "walletAddress": "0x7"})
    with pytest.raises(errors.UniqueViolationError):
        await failing.commit()
    assert await db.account.count() == 3

    async def changing_its_mind() -> None:
        async with db.batch_() as batch:
            batch.account.delete_many()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await changing_its_mind()
    assert await db.account.count() == 3


async def test_a_transaction_commits_rolls_back_and_expires(db: Prisma) -> None:
    async with db.tx() as tx:
        assert tx.is_transaction()
        await tx.account.create({"id": key(1), "walletAddress": "0x1"})
        async with tx.batch_() as batch:
            batch.account.create({"id": key(2), "walletAddress": "0x2"})
        assert await tx.account.count() == 2
        assert await db.account.count() == 0
    assert await db.account.count() == 2

    async def failing() -> None:
        async with db.tx() as tx:
            await tx.account.delete_many()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    assert await db.account.count() == 2

    late = await db.tx(timeout=timedelta(milliseconds=100)).start()
    await late.account.update_many({"walletAddress": "late"}, where={"id": key(1)})
    # This waits for the row that the transaction has locked, so for its end.
    await db.account.update({"walletAddress": "later"}, where={"id": key(1)})
    with pytest.raises(errors.TransactionExpiredError):
        await late.account.count()

    manager = db.tx(max_wait=timedelta(seconds=5))
    transaction = await manager.start()
    await transaction.account.delete_many()
    await manager.rollback()
    assert await db.account.count() == 2
    with pytest.raises(errors.TransactionError):
        await manager.commit()
    with pytest.raises(errors.TransactionNotStartedError):
        await db.tx().commit()


async def test_a_client_for_a_transaction_of_the_engines(db: Prisma, engine: Engine) -> None:
    tx = await engine.begin()
    inside = client(engine, tx=tx)
    await inside.account.create({"id": key(1), "walletAddress": "0x1"})
    assert (await inside.account.count(), await db.account.count()) == (1, 0)
    await engine.rollback(tx)
    assert await db.account.count() == 0


async def test_an_observer_sees_what_was_done_and_in_which_transaction(db: Prisma, engine: Engine) -> None:
    seen: list[tuple[str | None, str, Any, bool]] = []
    watched = client(
        engine, observe=lambda call, result, tx: seen.append((call.model, call.action, result, tx is not None))
    )
    async with watched.tx() as tx:
        await tx.account.create({"id": key(1), "walletAddress": "0x1"})
    async with watched.batch_() as batch:
        batch.account.delete_many()
    lacking: Any = {"id": key(1)}
    with pytest.raises(errors.MissingRequiredValueError):
        await watched.account.create(lacking)
    assert [(model, action, inside) for model, action, _, inside in seen] == [
        ("Account", "create", True),
        ("Account", "deleteMany", False),
    ]
    assert seen[0][2]["id"] == key(1)
    assert seen[1][2] == {"count": 1}
