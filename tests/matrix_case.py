"""What the types matrix stands on: a model of every type with both stores, and a document for each cell of the table."""

from __future__ import annotations

import re
import shutil
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from adapters.documents.mapping import Mapper
from adapters.engine import Engine
from adapters.mongo.store import Collection, MongoStore
from adapters.node import find_node
from adapters.prisma.store import PrismaStore, Table
from adapters.side import Document, Key, SideName, Store
from config.model import Entity, Stage
from config.schema import DATAMODEL_FILE, Schema, load_schema
from examples.commands import run
from examples.databases import PRISMA, drop_database, fresh_database, run_sql, with_database
from proxy.flags.view import Flags
from proxy.replication.settle import Settler
from tests.matrix_values import MIDDAY, NOTHING, VALUES, Value, raw

SCHEMA: Final = Path(__file__).parent / "schema" / "matrix.prisma"
ENTITY: Final = "cell"
RULES: Final[dict[str, dict[str, str]]] = {
    name: {"legacy": legacy}
    for name, legacy in {
        **{"objectId": "objectId", "uuid": "uuid", "digits": "int64", "intWide": "int64", "intText": "string"},
        **{"bigStamp": "timestamp", "bigText": "string", "floatDecimal": "decimal128", "decimalText": "string"},
        **{"decimalDouble": "double", "atText": "string", "atMillis": "int64", "atStamp": "timestamp"},
    }.items()
}
GOOD: Final[dict[str, tuple[Any, Any]]] = {
    "text": ("x", "x"),
    "int": (1, 1),
    "big": (Int64(2), 2),
    "float": (0.5, 0.5),
    "decimal": (Decimal128("1.5"), Decimal("1.5")),
    "flag": (True, True),
    "at": (MIDDAY, MIDDAY),
    "doc": ({"a": 1}, {"a": 1}),
    "bytes": (b"x", b"x"),
    "mood": ("SAD", "SAD"),
}
"""For each kind that has all three forms, a value as BSON and as what it arrives as."""
KINDS: Final = {
    **dict.fromkeys(GOOD, ("", "Needed", "List")),
    **dict.fromkeys(
        [*RULES, "short", "code", "uid", "small", "real", "money", "exact", "second", "day", "plain"], ("",)
    ),
}
FIELDS: Final = {f"{kind}{form}": kind for kind, forms in KINDS.items() for form in forms}
BATCH: Final = 500
MANY: Final = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """That a document is refused, for what stands at this path."""

    path: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One value in one field of one document, and the canonical value that it arrives as."""

    key: Key
    field: str
    name: str
    pairs: tuple[tuple[str, Any], ...]
    expected: Any

    def bytes(self, note: str = "before") -> bytes:
        return raw(("_id", ObjectId(self.key)), ("note", note), *self.pairs)

    def document(self, note: str = "before") -> Document:
        """The whole canonical document, of one that arrives."""
        empty: Document = {field: [] if field.endswith("List") else None for field in FIELDS}
        needed = {f"{kind}Needed": canonical for kind, (_, canonical) in GOOD.items()}
        return {"id": self.key, "note": note, **empty, **needed, self.field: self.expected}

    def __str__(self) -> str:
        return f"{self.field} <- {self.name}"


MISSING: Final = object()


def cells() -> Iterator[Cell]:
    numbers = count(1)
    for field, kind in FIELDS.items():
        form = field.removeprefix(kind)
        for name, value, expected in _of_field(field, kind, form):
            key = f"{next(numbers):024x}"
            needed = {f"{kind}Needed": good for kind, (good, _) in GOOD.items()}
            pairs = {**needed, field: value}
            present = tuple((name, item) for name, item in pairs.items() if item is not MISSING)
            yield Cell(key, field, name, (*present, ("__v", 0)), expected)


def _of_field(field: str, kind: str, form: str) -> Iterator[tuple[str, Any, Any]]:
    nothing: Any = {"": None, "Needed": Refusal(field), "List": []}[form]
    for name, value in {**NOTHING, "missing": MISSING}.items():
        yield name, value, nothing
    if form == "List":
        yield from _whole_lists(field, kind)
    else:
        yield "list, empty", [], [] if kind in ("doc", "plain") else Refusal(field)
    for one in VALUES:
        if one.only is None or kind in one.only:
            yield _in_form(field, kind, form, one)


def _in_form(field: str, kind: str, form: str, one: Value) -> tuple[str, Any, Any]:
    listed = form == "List"
    inside = one.under if kind in ("doc", "plain") else ""
    path = ".".join(filter(None, [field, "1" if listed else "", inside]))
    expected = one.arrives.get(kind, Refusal(path))
    if not listed:
        return one.name, one.bson, expected
    good, canonical = GOOD[kind]
    return one.name, [good, one.bson], expected if isinstance(expected, Refusal) else [canonical, expected]


def _whole_lists(field: str, kind: str) -> Iterator[tuple[str, Any, Any]]:
    good, canonical = GOOD[kind]
    yield "list, empty", [], []
    yield "list in a list", [[]], [[]] if kind == "doc" else Refusal(f"{field}.0")
    yield "list of null", [good, None], Refusal(f"{field}.1")
    yield "list of many", [good] * MANY, [canonical] * MANY
    yield "no list", good, Refusal(field)
    yield "object like a list", {"0": good}, Refusal(field)


def identical(one: Any, other: Any) -> bool:
    """The same value of the same type, to the sign of a zero; a NaN is a NaN, and a decimal has no trailing zeros."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (one != one and other != other)
    return bool(one == other)


@dataclass(frozen=True, slots=True)
class Ground:
    """Both stores, the collection as its bytes, and a settler for each direction."""

    stores: dict[SideName, Store]
    engine: Engine
    mapper: Mapper
    collection: AsyncCollection[RawBSONDocument]
    forth: Settler
    back: Settler

    async def bytes(self) -> dict[Key, bytes]:
        documents = [bytes(found.raw) async for found in self.collection.find({})]
        return {_key_of(document): document for document in documents}

    async def held(self, side: SideName, keys: Sequence[Key]) -> dict[Key, Document]:
        """The documents that a store can read."""
        documents: dict[Key, Document] = {}
        for batch in batches(keys):
            documents |= (await self.stores[side].hold(ENTITY, batch)).documents
        return documents


def _key_of(document: bytes) -> Key:
    """By its place: what comes after it may be no valid BSON."""
    return document[9:21].hex()


def batches(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(whole), BATCH):
        yield whole[start : start + BATCH]


@asynccontextmanager
async def matrix_ground(
    folder: Path, mongo_url: str, postgres_url: str, template: str, name: str
) -> AsyncIterator[Ground]:
    url = await fresh_database(postgres_url, name, template)
    schema = await _generated(folder, url)
    model = schema.models["Cell"]
    entities = {
        stage: Entity.model_validate({"collection": "cells", "model": "Cell", "fields": RULES, "stage": stage})
        for stage in (Stage.DUALWRITE, Stage.LIVE)
    }
    mapper = Mapper(entities[Stage.LIVE], model, schema)
    engine = Engine(url, client=folder / "client", schema=schema)
    legacy_url = with_database(mongo_url, name)
    stores: dict[SideName, Store] = {
        "legacy": MongoStore(legacy_url, {ENTITY: Collection("cells", mapper)}),
        "prisma": PrismaStore(engine, {ENTITY: Table(model, mapper)}),
    }
    forth, back = (Settler(stores, Flags({ENTITY: entity}, stores), {ENTITY: []}) for entity in entities.values())
    async with AsyncMongoClient[RawBSONDocument](legacy_url, document_class=RawBSONDocument) as client:
        for store in stores.values():
            await store.connect()
        collection = client.get_default_database()["cells"].with_options(CodecOptions(RawBSONDocument))
        yield Ground(stores, engine, mapper, collection, forth, back)
        for store in stores.values():
            await store.disconnect()
        await client.drop_database(name)
    await drop_database(postgres_url, name)


async def _generated(folder: Path, url: str) -> Schema:
    """Generate a client of the matrix's model and the proxy's own ones, and make the model's table."""
    shutil.copy(SCHEMA, folder)
    (folder / "node_modules").symlink_to(PRISMA / "node_modules")
    environment = {"DATABASE_URL": url, "STRANGLER_SCHEMA": str(folder / SCHEMA.name)}
    await run([find_node(), PRISMA / "migrate.mjs", "diff", "cells"], cwd=folder, env=environment, seconds=100)
    await run_sql(url, [(folder / "migrations" / "0001_cells" / "migration.sql").read_text()])
    whole = folder / "whole.prisma"
    whole.write_text(SCHEMA.read_text() + "\n" + "\n".join(_own_models()))
    python = {"STRANGLER_PYTHON": sys.executable}
    await run([find_node(), PRISMA / "generate.mjs", f"--schema={whole}"], cwd=PRISMA, env=python, seconds=100)
    return load_schema(folder / "matrix_types" / DATAMODEL_FILE)


def _own_models() -> list[str]:
    return re.findall(r"^model Strangler\w+ \{.*?^\}", (PRISMA / "schema.prisma").read_text(), re.S | re.M)
