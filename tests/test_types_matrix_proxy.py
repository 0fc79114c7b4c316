"""The values of the types matrix past a running proxy and through it: the change stream settles them, and at `live` a change
of another field comes back without touching them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from adapters.side import Document, Key, Refusal
from config.model import Stage
from tests.matrix_case import Refusal as Refused
from tests.matrix_case import identical
from tests.matrix_values import DATES, HEX, MIDDAY, NOTHING, NUMBERS, OTHERS, TEXTS, VALUES, raw
from tests.proxy_case import DEADLINE, Running, standing

MISSING: Final = object()
ENTITY: Final = "notification"
REFUSALS_AT_ONCE: Final = 1_000
TRIED: Final = {
    "title": ("text", TEXTS),
    "createdAt": ("at", DATES),
    "isRead": ("flag", [*NUMBERS[:2], *OTHERS[:2]]),
}
"""For each required field its kind in the table, and the values that are tried with it beside those of Json."""


@dataclass(frozen=True, slots=True)
class Note:
    """A notification as another program writes it, with one odd value in it."""

    key: Key
    field: str
    name: str
    fields: Mapping[str, Any]
    expected: Any

    def bytes(self, **changed: Any) -> bytes:
        present = {name: value for name, value in {**self.fields, **changed}.items() if value is not MISSING}
        return raw(("_id", ObjectId(self.key)), *present.items())

    def __str__(self) -> str:
        return f"{self.field} <- {self.name}"


def notes(account: str) -> list[Note]:
    fields = {
        **{
            "accountId": ObjectId(account),
            "type": "SYSTEM_ANNOUNCEMENT",
            "title": "t",
            "message": "m",
            "data": MISSING,
        },
        **{"isRead": False, "createdAt": MIDDAY, "updatedAt": MIDDAY, "__v": 0},
    }
    found: list[Note] = []

    def add(field: str, name: str, value: Any, expected: Any) -> None:
        found.append(Note(str(ObjectId()), field, name, {**fields, field: value}, expected))

    for name, value in {**NOTHING, "missing": MISSING}.items():
        add("data", name, value, None)
        add("title", name, value, Refused("title"))
    for one in VALUES:
        add("data", one.name, one.bson, one.arrives.get("doc", Refused(f"data.{one.under}".removesuffix("."))))
    for field, (kind, values) in TRIED.items():
        for one in values:
            add(field, one.name, one.bson, one.arrives.get(kind, Refused(field)))
    return found


@dataclass(frozen=True, slots=True)
class Ground:
    proxim8: Running
    notes: tuple[Note, ...]

    @property
    def arriving(self) -> list[Note]:
        return [note for note in self.notes if not isinstance(note.expected, Refused)]

    @property
    def refused(self) -> list[Note]:
        return [note for note in self.notes if isinstance(note.expected, Refused)]

    async def rows(self, notes: list[Note]) -> dict[Key, Document]:
        held = await self.proxim8.proxy.stores.prisma.hold(ENTITY, [note.key for note in notes])
        return dict(held.documents)

    async def refusals(self, wanted: int) -> dict[Key, Refusal]:
        """What is in quarantine, once there is so much in it."""
        quarantine = self.proxim8.proxy.stores.legacy.quarantine
        async with asyncio.timeout(DEADLINE):
            while len(found := await quarantine.refusals(ENTITY, limit=REFUSALS_AT_ONCE)) != wanted:
                await asyncio.sleep(0.05)
        return {one.key: one for one in found}

    @property
    def collection(self) -> Any:
        any_date = DatetimeConversion.DATETIME_AUTO
        return self.proxim8.legacy["notifications"].with_options(
            CodecOptions(RawBSONDocument, datetime_conversion=any_date)
        )


@pytest.fixture(scope="module")
async def proxim8(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template, via="collection") as running:
        await running.move(Stage.DUALWRITE)
        yield running


@pytest.fixture(scope="module")
async def written(proxim8: Running) -> Ground:
    """Another program has written all of them, at `dualwrite`, and they have settled or been refused."""
    _, account = await proxim8.account()
    ground = Ground(proxim8, tuple(notes(account)))
    await ground.collection.insert_many([RawBSONDocument(note.bytes()) for note in ground.notes])
    await ground.refusals(len(ground.refused))
    await proxim8.quiet()
    return ground


@pytest.fixture(scope="module")
async def read_at_live(written: Ground) -> Ground:
    """At `live`, each has been marked as read through the proxy. What was refused has gone before."""
    proxim8 = written.proxim8
    await written.collection.delete_many({"_id": {"$in": [ObjectId(note.key) for note in written.refused]}})
    await written.refusals(0)
    await proxim8.move(Stage.LIVE)
    for note in written.arriving:
        answer = await proxim8.ask("PATCH", f"/api/notifications/{note.key}/read")
        assert (answer.status, answer.data["isRead"]) == (200, True), f"{note}: {answer.body}"
    await proxim8.quiet()
    return written


async def test_what_another_program_writes_arrives_as_the_table_says(written: Ground) -> None:
    rows = await written.rows(written.arriving)
    assert not [str(note) for note in written.arriving if note.key not in rows]
    unlike = [note for note in written.arriving if not identical(rows[note.key][note.field], note.expected)]
    assert not [f"{note}: {rows[note.key][note.field]!r}" for note in unlike]


async def test_what_a_field_cannot_hold_is_in_quarantine_by_its_path(written: Ground) -> None:
    assert await written.rows(written.refused) == {}
    refusals = await written.refusals(len(written.refused))
    assert refusals.keys() == {note.key for note in written.refused}
    unlike = [note for note in written.refused if not refusals[note.key].reason.startswith(f"{note.expected.path}: ")]
    assert not [f"{note}: {refusals[note.key].reason}" for note in unlike]


BODIES: Final[list[Any]] = [
    *[
        0,
        -1,
        1.5,
        2**53,
        1e300,
        5e-324,
        True,
        False,
        "",
        "🦊 e\u0301",
        '\u0001\t"\\',
        [],
        {},
        [[], [None]],
        {"a": None},
    ],
    {"deep": {"er": [1, "two", {"three": 3.5}]}, "": 1, "a.b": 2, "0": 3, "when": "2026-01-02T00:00:00Z"},
]


@pytest.mark.parametrize("body", BODIES, ids=repr)
async def test_what_a_client_writes_is_the_same_on_both_sides(proxim8: Running, body: Any) -> None:
    _, account = await proxim8.account()
    sent = {"accountId": account, "type": "NFT_VERIFIED", "title": "t", "message": "m", "data": body}
    answer = await proxim8.ask("POST", "/api/notifications", sent)
    assert answer.status == 201, answer.body
    assert answer.data["data"] == body
    await proxim8.quiet()
    stores = proxim8.proxy.stores.by_side().values()
    legacy, prisma = [(await store.hold(ENTITY, [answer.data["id"]])).documents[answer.data["id"]] for store in stores]
    assert legacy["data"] == body
    assert all(identical(prisma[name], value) for name, value in legacy.items())


@pytest.mark.parametrize("body", [{"a": {"$oid": HEX}}, ["a\0b"], {"$numberLong": "1"}], ids=repr)
async def test_what_a_client_may_not_write_is_on_neither_side(proxim8: Running, body: Any) -> None:
    _, account = await proxim8.account()
    sent = {"accountId": account, "type": "NFT_VERIFIED", "title": "t", "message": "m", "data": body}
    answer = await proxim8.ask("POST", "/api/notifications", sent)
    assert answer.status == 400
    assert await proxim8.legacy["notifications"].count_documents({"accountId": ObjectId(account)}) == 0


async def test_a_change_of_another_field_at_live_leaves_the_very_same_bytes(read_at_live: Ground) -> None:
    keys = {ObjectId(note.key): note for note in read_at_live.arriving}
    found = {str(raw["_id"]): raw async for raw in read_at_live.collection.find({"_id": {"$in": list(keys)}})}
    assert found.keys() == {note.key for note in read_at_live.arriving}
    unlike = [
        str(note)
        for note in read_at_live.arriving
        if found[note.key].raw != note.bytes(isRead=True, updatedAt=found[note.key]["updatedAt"])
    ]
    assert not unlike
    assert all(found[note.key]["updatedAt"] > MIDDAY.replace(tzinfo=None) for note in read_at_live.arriving)
