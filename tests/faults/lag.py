"""How long after a write the other side has it, at 300 writes a second; and how many settles a second are possible."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from bson import ObjectId

from tests.faults.campaign import Campaign, Size
from tests.faults.gauges import counted
from tests.faults.holdings import Reader
from tests.faults.record import now
from tests.faults.result import Result, Say
from tests.faults.scene import Layout
from tests.faults.stretch import ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load

_LOAD: Final = Load(rate=300, clients=48)
_SECONDS: Final = 30.0
_WITHIN: Final = 0.1
_SHARE: Final = 0.99
_BULK: Final = 20_000
_SETTLED: Final = 180.0


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    for stage in ("shadow", "live"):
        async with ground(Layout(dict.fromkeys(SUBJECTS, stage)), rng, result) as here:
            async with here.load(_LOAD) as workload:
                began = now()
                await asyncio.sleep(_SECONDS * min(1.0, size.share))
                rate = sum(each.write for each in workload.record.timed) / (now() - began)
            verdict = await here.judged(f"lag at {stage}", patience=size.patience)
            within = await counted(here.scene.live, "strangler_settle_lag_seconds_bucket", le=str(_WITHIN))
            every = await counted(here.scene.live, "strangler_settle_lag_seconds_count")
            share = round(within / every, 4) if every else 0.0
            lags = await _upper_bound(here.scene.live)
            result.scenarios[f"lag at {stage}"] += 1
            result.figures[f"lag_{stage}"] = {
                "writes_per_s": round(rate, 1),
                "settles": int(every),
                "share_within_100_ms": share,
                "p99_at_most_ms": lags,
                "met": share >= _SHARE,
            }
            say(f"lag at {stage}: {verdict}, {rate:.0f} writes/s, {share:.2%} settled within {_WITHIN * 1000:.0f} ms")
            if stage == "shadow":
                result.figures["settles_per_s"] = await _saturate(here.reader, round(_BULK * min(1.0, size.share)))
                say(f"lag: {result.figures['settles_per_s']} settles/s at saturation")


async def _upper_bound(replicas: Any) -> float | None:
    """The smallest bucket's bound that 99 % of the settles lie within, in milliseconds."""
    every = await counted(replicas, "strangler_settle_lag_seconds_count")
    for bound in (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0):
        if await counted(replicas, "strangler_settle_lag_seconds_bucket", le=str(bound)) >= _SHARE * every:
            return bound * 1000
    return None


async def _saturate(reader: Reader, count: int) -> float:
    """Put so many documents into a collection at once, past the proxy, and wait until the other side has them."""
    stamp = datetime.now(UTC)
    fields = {"walletAddress": "0xbulk", "contractAddress": "0xc0ffee", "tokenId": "1", "verified": False}
    stamps = {"createdAt": stamp, "updatedAt": stamp}
    began = now()
    for start in range(0, count, 1000):
        await reader.legacy["nft_ownership"].insert_many(
            [{"_id": ObjectId(), "nftId": f"bulk-{start + each}", **fields, **stamps} for each in range(1000)]
        )
    async with asyncio.timeout(_SETTLED):
        while True:
            [row] = await reader.sql(
                """SELECT count(*)::int AS n FROM "nft_ownership" WHERE "walletAddress" = '0xbulk'"""
            )
            if row["n"] >= count:
                return round(count / (now() - began), 1)
            await asyncio.sleep(0.1)


CAMPAIGN: Final = Campaign("lag", run, rules=())
