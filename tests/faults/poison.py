"""Documents that the other side cannot take get into the primary past everything: they wait in quarantine, with a reason, and
all else goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from bson import Int64, ObjectId

from tests.faults.campaign import Campaign, Size
from tests.faults.checker import Verdict
from tests.faults.command import commanded
from tests.faults.result import Result, Say
from tests.faults.scene import Layout
from tests.faults.stretch import Ground, ground
from tests.faults.subjects import SUBJECTS, Json
from tests.faults.workload import Load, Workload

_LOAD: Final = Load(rate=80, clients=12)
_SEEN: Final = 40.0
_DEEP: Final = 3_000
_DEEP_IN_JSON: Final = f"{_DEEP} levels of nesting"
_TIMES: Final = 3


def _nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


_VIDEO: Final = {"nftId": "nft-1", "status": "PENDING", "isPublic": False}
_NOTE: Final = {"type": "SYSTEM_ANNOUNCEMENT", "message": "Read me", "isRead": False}
_NFT: Final = {"walletAddress": "0x1", "contractAddress": "0xc0ffee", "verified": False}

_TAKEN: Final = "NaN within JSON"

Make = Callable[[str, ObjectId], tuple[str, Json, Json]]
"""Of a unique tag and an existing account: the entity, its document, and what has to be set for it to be well again."""

_ON_LEGACY: Final[Mapping[str, Make]] = {
    "orphan": lambda tag, account: ("profile", {"username": tag, "accountId": ObjectId()}, {"accountId": account}),
    "NUL character": lambda tag, account: (
        "video",
        {**_VIDEO, "jobId": tag, "accountId": account, "title": "a\0b"},
        {"title": "ab"},
    ),
    "over-long integer": lambda tag, account: (
        "nft_ownership",
        {**_NFT, "nftId": tag, "tokenId": Int64(2**63 - 1)},
        {"tokenId": str(2**63 - 1)},
    ),
    "NaN": lambda tag, account: (
        "video",
        {**_VIDEO, "jobId": tag, "accountId": account, "description": float("nan")},
        {"description": "not a number"},
    ),
    # JSON has a word for it: it arrives.
    _TAKEN: lambda tag, account: (
        "notification",
        {**_NOTE, "title": tag, "accountId": account, "data": {"ratio": float("nan")}},
        {"data": {"ratio": 0.5}},
    ),
}


async def run(size: Size, rng: Random, result: Result, say: Say, broken: str | None) -> None:
    for stage in size.staged(rng, ("shadow", "live")):
        async with ground(Layout(dict.fromkeys(SUBJECTS, stage), broken=broken), rng, result) as here:
            for number in range(size.of(_TIMES)):
                if stage == "shadow":
                    await _poison_legacy(here, f"poison-{number}", size.some(list(_ON_LEGACY)), size, say)
                else:
                    await _poison_prisma(here, f"poison-{number}", size, say)
                if broken and result.wrong:
                    return


@dataclass(frozen=True, slots=True)
class Dose:
    """A document that was put in, and what has to be set for it to be well again."""

    kind: str
    key: ObjectId
    entity: str
    cure: Json


async def _poison_legacy(here: Ground, tag: str, kinds: Sequence[str], size: Size, say: Say) -> None:
    """One of each kind, at once: they are refused beside each other, and nothing else waits for any of them."""
    async with here.load(_LOAD) as workload:
        doses = [await _dose(here, tag, kind, _an_account(workload)) for kind in kinds]
        reasons = await asyncio.gather(*(_outcome(here, dose, size) for dose in doses))
    verdict = await here.judged(", ".join(kinds), patience=size.patience, apart={str(dose.key) for dose in doses})
    for dose, reason in zip(doses, reasons, strict=True):
        _told(here, dose.kind, str(dose.key), reason, verdict, say)
        await here.reader.legacy[SUBJECTS[dose.entity].table].update_one({"_id": dose.key}, {"$set": dose.cure})
    await asyncio.gather(*(_well_again(here, dose.kind, str(dose.key), size) for dose in doses))


async def _dose(here: Ground, tag: str, kind: str, account: str) -> Dose:
    key = ObjectId()
    entity, document, cure = _ON_LEGACY[kind](f"{tag}-{key}", ObjectId(account))
    now = datetime.now(UTC)
    stamps = {"createdAt": now, "updatedAt": now}
    await here.reader.legacy[SUBJECTS[entity].table].insert_one({"_id": key, **document, **stamps})
    return Dose(kind, key, entity, cure)


async def _outcome(here: Ground, dose: Dose, size: Size) -> str | None:
    if dose.kind == _TAKEN:
        return await _arrived(here, dose.entity, str(dose.key), size)
    return await _quarantined(here, str(dose.key), size)


async def _poison_prisma(here: Ground, tag: str, size: Size, say: Say) -> None:
    """PostgreSQL takes any depth, MongoDB does not; a write through the proxy brings the row to its attention."""
    key = str(ObjectId())
    async with here.load(_LOAD) as workload:
        account = _an_account(workload)
        await here.reader.sql(
            'INSERT INTO "notifications" ("_id", "accountId", "type", "title", "message", "data", "updatedAt")'
            f" VALUES ('{key}', '{account}', 'SYSTEM_ANNOUNCEMENT', '{tag}-{key}', 'Read me', '{_nested(_DEEP)}',"
            " now() AT TIME ZONE 'utc')"
        )
        subject = SUBJECTS["notification"]
        answer = await workload.ask(subject, "PATCH", subject.updated(key), {}, None)
        # Whether it can be answered is another matter; it has been written.
        say(f"poison {_DEEP_IN_JSON}: its write was answered {answer.status}")
        reason = await _quarantined(here, key, size)
    verdict = await here.judged(_DEEP_IN_JSON, patience=size.patience, apart={key})
    _told(here, _DEEP_IN_JSON, key, reason, verdict, say)
    await here.reader.sql(f"""UPDATE "notifications" SET "data" = '{{}}' WHERE "_id" = '{key}'""")
    async with commanded(here.scene, "quarantine", "retry") as command:
        await command.ended()
    await _well_again(here, _DEEP_IN_JSON, key, size)


def _an_account(workload: Workload) -> str:
    return next(key for entity, key in workload.record.by_key if entity == "account")


async def _quarantined(here: Ground, key: str, size: Size) -> str | None:
    """The reason that the command line shows for this key; None where it never does."""
    try:
        async with asyncio.timeout(min(_SEEN, size.patience)):
            while not await _kept(here, key):
                await asyncio.sleep(0.1)
    except TimeoutError:
        return None
    return next((str(refusal["reason"]) for refusal in await _list(here) if refusal["key"] == key), None)


async def _kept(here: Ground, key: str) -> bool:
    """Whether the key is in the quarantine of either store, by their own drivers."""
    rows = await here.reader.sql(f"""SELECT 1 FROM "strangler_quarantine" WHERE "key" = '{key}'""")
    return bool(rows) or await here.reader.legacy["strangler_quarantine"].find_one({"_id.k": key}) is not None


async def _arrived(here: Ground, entity: str, key: str, size: Size) -> str | None:
    """What the other side holds instead of a reason to refuse it; None where it never arrives."""
    table = SUBJECTS[entity].table
    try:
        async with asyncio.timeout(min(_SEEN, size.patience)):
            while not (rows := await here.reader.sql(f"""SELECT "data" FROM "{table}" WHERE "_id" = '{key}'""")):
                await asyncio.sleep(0.2)
    except TimeoutError:
        return None
    return f"no, it arrived as {json.dumps(rows[0]['data'])}"


async def _list(here: Ground) -> list[dict[str, Any]]:
    async with commanded(here.scene, "quarantine", "list", "--json") as command:
        printed = "".join([line async for line in command.lines()])
        await command.ended()
    found: list[dict[str, Any]] = json.loads(printed or "[]")
    return found


def _told(here: Ground, kind: str, key: str, reason: str | None, verdict: Verdict, say: Say) -> None:
    """Everything else has settled, and nobody noticed."""
    result = here.result
    result.scenarios[kind] += 1
    if reason is None:
        result.found(f"{kind}: {key} is not in quarantine, or did not arrive")
    say(f"poison {kind}: {verdict}, quarantined: {reason}")
    result.must(not result.errors, f"{kind}: requests failed: {', '.join(result.errors)}")


async def _well_again(here: Ground, kind: str, key: str, size: Size) -> None:
    """What was wrong is put right: it settles, and leaves the quarantine."""
    try:
        async with asyncio.timeout(min(_SEEN, size.patience)):
            while await _kept(here, key):
                await asyncio.sleep(0.1)
    except TimeoutError:
        here.result.failures.append(f"{kind}: {key} was put right and is still in quarantine")


CAMPAIGN: Final = Campaign("poison", run, rules=("quarantine",))
