"""The verdict over a stretch of load: both stores equal, all there that was acknowledged, and nothing that nobody wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from adapters.side import SideName
from tests.faults.holdings import Away, Holdings, Reader
from tests.faults.record import Record, explained, now
from tests.faults.subjects import SUBJECTS, Json

QUIET: Final = 60.0
_LOOK: Final = 0.25
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`lost`: acknowledged and not there, or there after it was acknowledged to be gone; `foreign`: there, and no client
    wrote it; `unequal`: keys that the stores differ in; `marks` that nobody settled. `waited`: seconds until all was quiet."""

    lost: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    unequal: tuple[str, ...] = ()
    marks: int = 0
    waited: float = 0.0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.foreign or self.unequal or self.marks)

    def __str__(self) -> str:
        if self.clean:
            return f"equal after {self.waited:.1f} s"
        parts = [
            f"{len(found)} {what}: {', '.join(found[:_SHOWN])}"
            for what, found in (("lost", self.lost), ("foreign", self.foreign), ("unequal", self.unequal))
            if found
        ]
        return "; ".join([*parts, f"{self.marks} marks left"] if self.marks else parts)


async def check(
    reader: Reader,
    record: Record,
    primary: Mapping[str, SideName],
    since: datetime,
    *,
    patience: float = QUIET,
    apart: Collection[str] = (),
) -> Verdict:
    """Wait until both stores agree and no mark is left, or the patience (seconds) is over; then judge. `apart`: keys that
    are known to be different. Raises Away where a store never answered."""
    began = now()
    while True:
        late = now() - began >= patience
        try:
            held = await reader.read(since, apart)
        except Away:
            if late:
                raise
            await asyncio.sleep(_LOOK)
            continue
        unequal = differences(held)
        marks = sum(held.marks.values())
        if late or not (unequal or marks):
            lost, foreign = judge(held, record, primary)
            return Verdict(lost, foreign, unequal, marks, now() - began)
        await asyncio.sleep(_LOOK)


def differences(held: Holdings) -> tuple[str, ...]:
    """The keys that the stores differ in, each with where."""
    found = []
    for entity in SUBJECTS:
        legacy, prisma = held.legacy[entity], held.prisma[entity]
        for key in sorted(legacy.keys() | prisma.keys()):
            if legacy.get(key) != prisma.get(key):
                found.append(f"{entity} {key} ({_where(legacy.get(key), prisma.get(key))})")
    return tuple(found)


def _where(legacy: Json | None, prisma: Json | None) -> str:
    if legacy is None or prisma is None:
        return f"only on {'prisma' if legacy is None else 'legacy'}"
    return ", ".join(sorted(name for name in legacy.keys() | prisma.keys() if legacy.get(name) != prisma.get(name)))


def judge(held: Holdings, record: Record, primary: Mapping[str, SideName]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the primary lost of the record, and what it holds that no client wrote."""
    lost, foreign = [], []
    by_side = {"legacy": held.legacy, "prisma": held.prisma}
    for (entity, key), writes in record.by_key.items():
        document = by_side[primary[entity]][entity].get(key)
        value = None if document is None else _value(entity, document)
        if not explained(writes, value, exists=document is not None):
            lost.append(f"{entity} {key} {value!r}")
    for entity, subject in SUBJECTS.items():
        for key, document in by_side[primary[entity]][entity].items():
            if (entity, key) in record.by_key or key in held.met:
                continue
            # A create that nobody was told of; or one of an earlier stretch of load, within the same second.
            tag = str(document.get(subject.tag))
            ours = tag.startswith(f"{record.prefix}-")
            if (ours and tag not in record.nameless) or not tag.startswith(record.prefix.rpartition(".")[0]):
                foreign.append(f"{entity} {key} {tag}")
    return tuple(lost), tuple(foreign)


def _value(entity: str, document: Json) -> Any:
    return document.get(SUBJECTS[entity].marker)
