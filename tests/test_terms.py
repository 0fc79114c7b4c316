"""Settling under terms, on real stores: what was read before a flip is never written after it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from adapters.side import SideName, Stale
from config.model import Stage
from tests.proxy_case import DEADLINE
from tests.settle_case import Bench, Ground, bench_at, grounds

WAYS: dict[SideName, Stage] = {"prisma": Stage.DUALWRITE, "legacy": Stage.LIVE}
"""By the secondary, the stage at which it is one."""


@pytest.fixture
async def ground(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Ground]:
    """Of each test's own: terms only ever grow."""
    async with grounds(mongo_url, postgres_url, migrated_template) as found:
        yield found


async def made(bench: Bench, secondary: SideName) -> str:
    """An NFT on the primary."""
    values = {"nftId": secrets.token_hex(6), "walletAddress": "w", "contractAddress": "c", "tokenId": "new"}
    if secondary == "legacy":
        return await bench.create("nft_ownership", **values)
    return str(await bench.insert("nft_ownership", **values, verified=False))


async def there(bench: Bench, secondary: SideName, key: str) -> bool:
    if secondary == "legacy":
        return await bench.document("nft_ownership", key) is not None
    return await bench.row(key, "nft_ownership") is not None


@pytest.mark.parametrize("secondary", WAYS)
async def test_a_secondary_that_has_not_heard_of_the_term_is_told(ground: Ground, secondary: SideName) -> None:
    async with bench_at(WAYS[secondary], ground) as bench:
        store = ground.stores.by_side()[secondary]
        with pytest.raises(Stale) as none:
            await store.apply("nft_ownership", 0, 1, {"a" * 24: None})
        assert none.value.term == -1
        key = await made(bench, secondary)
        assert (await bench.settler.settle("nft_ownership", [key])).written == {key}
        assert await there(bench, secondary, key)
        with pytest.raises(Stale) as known:
            await store.apply("nft_ownership", 7, 1, {"a" * 24: None})
        assert known.value.term == bench.flags["nft_ownership"].term


@pytest.mark.parametrize("secondary", WAYS)
async def test_where_it_knows_a_later_term_the_settle_waits_for_this_replicas_flags(
    ground: Ground, secondary: SideName
) -> None:
    async with bench_at(WAYS[secondary], ground) as bench:
        store = ground.stores.by_side()[secondary]
        await store.turn("nft_ownership", 9)
        key = await made(bench, secondary)
        with pytest.raises(Stale) as later:
            await bench.settler.settle("nft_ownership", [key])
        assert later.value.term == 9
        assert not await there(bench, secondary, key)

        bench.replicator.changed("nft_ownership", [key])
        await bench.until(
            lambda: bench.count("strangler_settle_failures_total", entity="nft_ownership", cause="Stale") >= 2
        )
        assert bench.replicator.pending("nft_ownership", key)
        assert not await there(bench, secondary, key)
        # There and back again: the same side is the primary, by a later decision.
        flag = replace(bench.flags["nft_ownership"], epoch=9, term=9, changed_by="test")
        assert await store.state.save_flag(flag)
        await bench.flags.refresh()
        await bench.settled(key, entity="nft_ownership")
        assert await there(bench, secondary, key)


@pytest.mark.parametrize("secondary", WAYS)
async def test_a_settle_that_was_paused_through_a_flip_writes_nothing(ground: Ground, secondary: SideName) -> None:
    """It has read the old primary, and goes on when the other side has become the primary."""
    async with bench_at(WAYS[secondary], ground) as bench:
        store = ground.stores.by_side()[secondary]
        first, key = await made(bench, secondary), await made(bench, secondary)
        await bench.settler.settle("nft_ownership", [first])
        async with bench.steps.stopped("held", lambda: bench.settler.settle("nft_ownership", [key])) as late:
            await store.turn("nft_ownership", 2)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(Stale) as refused:
                await late
        assert refused.value.term == 2
        assert not await there(bench, secondary, key)


async def test_parents_are_settled_under_their_own_term(ground: Ground) -> None:
    async with bench_at(Stage.DUALWRITE, ground) as bench:
        account = await bench.account()
        key = await bench.profile(account)
        await ground.stores.prisma.turn("account", 4)
        with pytest.raises(Stale):
            await bench.settler.settle("profile", [key])
        assert await ground.stores.prisma.state.save_flag(replace(bench.flags["account"], epoch=4, term=4))
        await bench.flags.refresh()
        assert (await bench.settler.settle("profile", [key])).written == {key}
        assert await bench.row(str(account), "account") is not None


async def test_the_steps_of_a_write_are_reached_in_their_order(ground: Ground) -> None:
    async with bench_at(Stage.DUALWRITE, ground) as bench:
        key = await made(bench, "prisma")
        mark = await bench.marked(key, entity="nft_ownership")
        bench.replicator.changed("nft_ownership", [key], [("legacy", mark)])
        await bench.settled(key, entity="nft_ownership")
        assert bench.steps.seen == ["held", "applied", "unmarked"]
