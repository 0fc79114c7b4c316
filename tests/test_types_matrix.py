"""Every BSON value in every kind of field, forth as a backfill copies it and back as a settle from Prisma does: it arrives as
the table says and comes back to the very same bytes, or it is refused with a reason that names its place."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import bson
import pytest
from bson import Decimal128, Int64, ObjectId, Timestamp
from bson.binary import Binary
from bson.raw_bson import RawBSONDocument

from adapters.side import Document, Invalid, Key, SideError, SideName
from proxy.replication.settle import Settler
from tests.conftest import fresh_name
from tests.mapping_case import OPTIONS
from tests.matrix_case import (
    ENTITY,
    FIELDS,
    GOOD,
    Cell,
    Ground,
    Refusal,
    batches,
    cells,
    identical,
    matrix_ground,
)
from tests.matrix_values import raw

CELLS: Final = tuple(cells())
ARRIVING: Final = tuple(cell for cell in CELLS if not isinstance(cell.expected, Refusal))
KEYS: Final = [cell.key for cell in ARRIVING]
REASON: Final = re.compile(
    "expected |required, but missing|null in a list|out of the range|more than|longer than|not a finite|cannot hold|finer"
    "|holds |pads it|all that its column holds|Extended JSON|nested deeper"
)
STORED_AS: Final[dict[str, type]] = {
    **{"text": str, "int": int, "big": Int64, "float": float, "decimal": Decimal128, "flag": bool, "at": datetime},
    **{"bytes": bytes, "mood": str, "objectId": ObjectId, "uuid": Binary, "digits": Int64, "intWide": Int64},
    **{"intText": str, "bigStamp": Timestamp, "bigText": str, "floatDecimal": Decimal128, "decimalText": str},
    **{"decimalDouble": float, "atText": str, "atMillis": Int64, "atStamp": Timestamp, "short": str, "code": str},
    **{"uid": str, "small": int, "real": float, "money": Decimal128, "exact": datetime, "second": datetime},
    "day": datetime,
}
"""What PyMongo reads from a document that was written anew, by kind; Json is of many types."""

pytestmark = pytest.mark.timeout(300)
"""The first test of each pass waits for the whole table."""

by_field = pytest.mark.parametrize("field", FIELDS)


@dataclass(frozen=True, slots=True)
class Passage:
    """What a pass over the whole table left: refusals, the documents that Prisma holds, the legacy ones byte by byte; and
    what one store says is not what the other one holds."""

    refused: Mapping[Key, SideError]
    rows: Mapping[Key, Document]
    legacy: Mapping[Key, bytes]
    differing: tuple[str, ...]


async def settled(settler: Settler, keys: list[Key]) -> dict[Key, SideError]:
    refused: dict[Key, SideError] = {}
    for batch in batches(keys):
        done = await settler.settle(ENTITY, batch)
        assert not done.superseded
        refused |= done.refused
    return refused


async def passed(ground: Ground, settler: Settler, keys: list[Key]) -> Passage:
    refused = await settled(settler, keys)
    rows, legacy = await ground.held("prisma", [cell.key for cell in CELLS]), await ground.held("legacy", KEYS)
    differing = [
        *[f"{cell} in prisma" for cell in await unlike(ground, "prisma", legacy)],
        *[f"{cell} in legacy" for cell in await unlike(ground, "legacy", rows)],
    ]
    return Passage(refused, rows, await ground.bytes(), tuple(differing))


async def unlike(ground: Ground, side: SideName, documents: Mapping[Key, Document]) -> list[Cell]:
    same: frozenset[Key] = frozenset()
    for batch in batches(list(documents)):
        same |= await ground.stores[side].same(ENTITY, {key: documents[key] for key in batch})
    return [cell for cell in CELLS if cell.key in documents and cell.key not in same]


@pytest.fixture(scope="module")
async def ground(
    tmp_path_factory: pytest.TempPathFactory, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Ground]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    async with matrix_ground(folder, mongo_url, postgres_url, migrated_template, fresh_name()) as ground:
        yield ground


@pytest.fixture(scope="module")
async def copied(ground: Ground) -> Passage:
    """Everything, from legacy to Prisma."""
    for batch in batches(CELLS):
        await ground.collection.insert_many([RawBSONDocument(cell.bytes()) for cell in batch])
    return await passed(ground, ground.forth, [cell.key for cell in CELLS])


@pytest.fixture(scope="module")
async def copied_back(ground: Ground, copied: Passage) -> Passage:
    """Prisma is the primary, and another field of each document changes there."""
    assert await ground.engine.execute_raw('UPDATE "cells" SET "note" = $1', "after") == len(copied.rows)
    return await passed(ground, ground.back, KEYS)


@pytest.fixture(scope="module")
async def written_anew(ground: Ground, copied_back: Passage) -> Passage:
    """All that there was in legacy is lost, and copied back from Prisma."""
    await ground.collection.delete_many({})
    return await passed(ground, ground.back, KEYS)


@pytest.fixture(scope="module")
async def written_over(ground: Ground, written_anew: Passage) -> Passage:
    """In legacy there are documents with the same keys and nothing else of them that is right."""
    wrong = [(name, "wrong") for name in FIELDS]
    await ground.collection.delete_many({})
    for batch in batches(KEYS):
        await ground.collection.insert_many([RawBSONDocument(raw(("_id", ObjectId(key)), *wrong)) for key in batch])
    return await passed(ground, ground.back, KEYS)


def of(field: str, among: tuple[Cell, ...] = ARRIVING) -> list[Cell]:
    found = [cell for cell in among if cell.field == field]
    assert found
    return found


def wrong_in(documents: Mapping[Key, Document], cell: Cell, note: str) -> list[str]:
    """What of the document is not as the table says, one line a field."""
    document, wanted = documents.get(cell.key), cell.document(note)
    if document is None:
        return [f"{cell}: is not there"]
    names = document.keys() | wanted.keys()
    bad = [name for name in sorted(names) if not identical(document.get(name), wanted.get(name))]
    return [f"{cell}: {name} is {_short(document.get(name))}, not {_short(wanted.get(name))}" for name in bad]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:90]}…"


def all_wrong(documents: Mapping[Key, Document], among: list[Cell], note: str) -> list[str]:
    return [line for cell in among for line in wrong_in(documents, cell, note)]


def never_anew(cell: Cell) -> bool:
    """Its BSON type, which the configuration names, cannot hold what another one brought."""
    if FIELDS[cell.field] != "decimalDouble" or cell.expected is None:
        return False
    return bool(Decimal(repr(float(cell.expected))) != cell.expected)


@by_field
def test_a_value_arrives_as_the_table_says(copied: Passage, field: str) -> None:
    refused = [f"{cell}: {copied.refused[cell.key]}" for cell in of(field) if cell.key in copied.refused]
    assert not refused
    assert not all_wrong(copied.rows, of(field), "before")


@by_field
def test_what_a_field_cannot_hold_is_refused_by_its_path(copied: Passage, field: str) -> None:
    unlike: list[str] = []
    for cell in of(field, CELLS):
        if not isinstance(cell.expected, Refusal):
            continue
        cause = copied.refused.get(cell.key)
        if not isinstance(cause, Invalid):
            unlike.append(f"{cell}: {cause!r}, expected a refusal at {cell.expected.path}")
        elif cause.field != cell.expected.path or not REASON.search(cause.reason):
            unlike.append(f"{cell}: {cause}, expected a refusal at {cell.expected.path}")
        elif cell.key in copied.rows:
            unlike.append(f"{cell}: is there all the same")
    assert not unlike


def test_what_was_copied_is_the_same_to_both_stores(copied: Passage, copied_back: Passage) -> None:
    assert not copied.differing
    assert not copied_back.differing


@by_field
def test_it_comes_back_to_the_very_same_bytes(copied_back: Passage, field: str) -> None:
    assert not copied_back.refused
    changed = [str(cell) for cell in of(field) if copied_back.legacy[cell.key] != cell.bytes("after")]
    assert not changed


@by_field
def test_what_was_refused_is_left_as_it_was(copied_back: Passage, field: str) -> None:
    untouched = [cell for cell in of(field, CELLS) if isinstance(cell.expected, Refusal)]
    assert not [str(cell) for cell in untouched if copied_back.legacy[cell.key] != cell.bytes()]


@by_field
def test_written_anew_it_is_the_same_value(ground: Ground, written_anew: Passage, field: str) -> None:
    back, lost = [cell for cell in of(field) if not never_anew(cell)], [cell for cell in of(field) if never_anew(cell)]
    assert [cell for cell in of(field) if cell.key in written_anew.refused] == lost
    assert not [cell for cell in lost if cell.key in written_anew.legacy]
    assert not all_wrong(read(ground, written_anew, back), back, "after")


@pytest.mark.parametrize("field", [field for field, kind in FIELDS.items() if kind in STORED_AS])
def test_written_anew_it_is_of_the_type_that_was_declared(written_anew: Passage, field: str) -> None:
    wanted = STORED_AS[FIELDS[field]]
    for cell in of(field):
        value = decoded(written_anew.legacy[cell.key]).get(field) if cell.key in written_anew.legacy else None
        assert all(type(item) is wanted for item in (value if isinstance(value, list) else [value]) if item is not None)


@by_field
def test_written_over_something_else_it_is_the_same_value(ground: Ground, written_over: Passage, field: str) -> None:
    back = [cell for cell in of(field) if not never_anew(cell)]
    assert not all_wrong(read(ground, written_over, back), back, "after")


async def test_and_forth_again_nothing_differs(ground: Ground, written_over: Passage) -> None:
    """What has been there and back settles to the rows that are there: the way back was no other mapping."""
    keys = [cell.key for cell in ARRIVING if not never_anew(cell)]
    assert await settled(ground.forth, keys) == {}
    rows = await ground.held("prisma", keys)
    assert not all_wrong(rows, [cell for cell in ARRIVING if cell.key in keys], "after")


@pytest.mark.parametrize(("before", "after"), [(0.0, -0.0), (-0.0, 0.0)])
async def test_a_change_of_a_zeros_sign_alone_settles(ground: Ground, before: float, after: float) -> None:
    needed = {f"{kind}Needed": good for kind, (good, _) in GOOD.items()}
    key = ObjectId()
    for number in (before, after):
        document = raw(("_id", key), ("note", "zero"), *needed.items(), ("float", number), ("floatList", [number]))
        await ground.collection.replace_one({"_id": key}, RawBSONDocument(document), upsert=True)
        assert await settled(ground.forth, [str(key)]) == {}
        row = (await ground.held("prisma", [str(key)]))[str(key)]
        assert identical([row["float"], row["floatList"]], [number, [number]])
    await ground.collection.delete_one({"_id": key})
    assert await settled(ground.forth, [str(key)]) == {}


def read(ground: Ground, passage: Passage, among: list[Cell]) -> dict[Key, Document]:
    held = [cell.key for cell in among if cell.key in passage.legacy]
    return {key: ground.mapper.from_legacy(decoded(passage.legacy[key])) for key in held}


def decoded(document: bytes) -> Mapping[str, Any]:
    return bson.decode(document, OPTIONS)
