"""How long after a write the other side has it, at 300 writes a second; and how many settles a second are possible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Final

from bson import ObjectId

from proxy.metrics import SECONDS
from tests.faults.campaign import Campaign, Size
from tests.faults.gauges import counted
from tests.faults.holdings import Reader
from tests.faults.record import now
from tests.faults.result import Result, Say
from tests.faults.scene import Layout, Replica
from tests.faults.stretch import Ground, ground
from tests.faults.subjects import SUBJECTS
from tests.faults.workload import Load

_LOADS: Final = (Load(rate=80, clients=24), Load(rate=300, clients=48))
"""The lighter one is what two cores carry that run the whole scene besides."""
_SECONDS: Final = 30.0
_WITHIN: Final = 0.1
_SHARE: Final = 0.99
_BULK: Final = 20_000
_SETTLED: Final = 180.0


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    for stage in ("shadow", "live"):
        for load in _LOADS:
            async with ground(Layout(dict.fromkeys(SUBJECTS, stage)), rng, result) as here:
                await _lag(here, stage, load, size, say)
                if stage == "shadow" and load is _LOADS[-1]:
                    result.figures["settles_per_s"] = await _saturate(here.reader, round(_BULK * min(1.0, size.share)))
                    say(f"lag: {result.figures['settles_per_s']} settles/s at saturation")


async def _lag(here: Ground, stage: str, load: Load, size: Size, say: Say) -> None:
    async with here.load(load) as workload:
        began = now()
        await asyncio.sleep(_SECONDS * min(1.0, size.share))
        rate = sum(each.write for each in workload.record.timed) / (now() - began)
    what = f"lag at {stage}, {load.rate:g} writes/s asked for"
    verdict = await here.judged(what, patience=size.patience)
    settles, bounds = await _settled_within(here.scene.live)
    share = round(bounds[_WITHIN] / settles, 4) if settles else 0.0
    result = here.result
    result.scenarios[what] += 1
    result.figures[what] = {
        "writes_per_s": round(rate, 1),
        "settles": int(settles),
        "share_within_100_ms": share,
        "p99_at_most_ms": next((bound * 1000 for bound, count in bounds.items() if count >= _SHARE * settles), None),
        "met": share >= _SHARE,
    }
    say(f"{what}: {verdict}, {rate:.0f} writes/s, {share:.2%} settled within {_WITHIN * 1000:.0f} ms")


async def _settled_within(replicas: Sequence[Replica]) -> tuple[float, dict[float, float]]:
    """How many settles there were, and how many of them within so many seconds."""
    name = "strangler_settle_lag_seconds"
    settles = await counted(replicas, f"{name}_count")
    return settles, {bound: await counted(replicas, f"{name}_bucket", le=str(bound)) for bound in SECONDS}


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
