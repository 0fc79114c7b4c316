"""What a configuration file may say. The words are the design's; every default is written here and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from config.units import Duration, Percent, Size, Tolerance


class Stage(StrEnum):
    """The six stages of an entity, in their order. What each one means is one table: `proxy.flags.stages`."""

    OFF = "off"
    DUALWRITE = "dualwrite"
    SHADOW = "shadow"
    LIVE = "live"
    RAMPDOWN = "rampdown"
    COMPLETE = "complete"


LegacyType = Literal[
    "objectId", "string", "int32", "int64", "double", "decimal128", "bool", "date", "binary", "uuid", "timestamp"
]


class Part(BaseModel):
    """Base of all parts of the file: nothing unknown is accepted, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True)


class Split(Part):
    """Makes the field one part of a legacy string that holds several."""

    by: str = Field(min_length=1)
    """What separates the parts."""

    part: int = Field(ge=0)
    """Which part, from 0; the last one takes the rest."""


class Functions(Part):
    """A pair of Python functions of one value each, `module:name`, for what no rule expresses."""

    to_prisma: str
    """Takes the legacy value, returns the canonical one."""

    to_legacy: str
    """Takes the canonical value, returns the legacy one."""


class FieldRule(Part):
    """How one Prisma field is found in a legacy document and in the bodies of the old endpoint."""

    source: str | None = Field(default=None, alias="from")
    """The dotted path in the collection. Unless said: `_id` for the id, the field's own name otherwise."""

    legacy: LegacyType | None = None
    """Its BSON type there, where that is not what the Prisma type implies."""

    body: str | None = None
    """Its name in requests and answers. Unless said: the same as in the collection."""

    split: Split | None = None
    """The field is one part of the legacy string at `from`."""

    functions: Functions | None = None
    """Converts the value where no rule does."""

    refers: str | None = None
    """The collection whose `_id` the field holds, where the entity that it refers to has several and it is not the first."""


class Also(Part):
    """A further collection that holds the entity. A natural key, which Prisma has but once, tells which documents are one."""

    collection: str
    """Its collection in MongoDB."""

    by: str
    """The Prisma field that is the natural key: a unique text. It needs a unique index in every collection."""

    fields: dict[str, FieldRule] = {}
    """By Prisma field: what differs in this collection from Prisma."""

    lacks: list[str] = []
    """The Prisma fields that this collection does not have."""


class Legacy(Part):
    """How the legacy side is reached."""

    via: Literal["endpoint", "collection"] = "collection"
    """Through its old endpoint, so that its business logic still runs, or straight to its collection."""

    upstream: str | None = None
    """Whose endpoint; needed with `via: endpoint`."""


class Compare(Part):
    """What counts as the same. Paths are dotted Prisma field names; `*` stands for any list index."""

    ignore: list[str] = []
    """Paths that are not compared."""

    tolerance: dict[str, Tolerance] = {}
    """By path: how far two values may lie apart, a number, or a duration for dates."""

    unordered: list[str] = []
    """Paths of lists whose order does not matter."""

    missing_equals_null: bool = True
    """Whether a field that is not there is the same as one that is null."""

    comparator: str | None = None
    """A Python function, `module:name`, of the legacy and the Prisma value, that is asked first about two that differ: True,
    they count as the same."""


class Route(Part):
    """One operation of an entity and the request that asks for it."""

    on: str
    """`METHOD /path/{parameter}`. A literal segment beats a parameter, whatever the order."""

    do: Literal["create", "read", "list", "update", "delete"]
    """What it does to the entity."""

    upstream: str | None = None
    """The old server that answers it, where it is not that of the entity."""

    where: dict[str, Any] = {}
    """By Prisma field: the value it has to equal. May hold placeholders."""

    set: dict[str, Any] = {}
    """By Prisma field: the value that a write gives it, whatever the body says. May hold placeholders."""

    accepts: list[str] | None = None
    """The Prisma fields that a write takes from the request body. Unless said: all but the id and the times that the
    schema sets itself."""

    order: list[str] = []
    """Prisma fields to sort a list by; `-` before a name for descending."""

    take: int | str | None = None
    """How many of a list, as far as `most` allows. Unless said: `most`. May be a placeholder."""

    skip: int | str = 0
    """How many of a list to leave out first. May be a placeholder."""

    most: int = Field(default=100, ge=1)
    """The highest `take` that is served."""

    input: str = "$"
    """Where in the request body the document is: `$`, or `$.` and a dotted path."""

    body: str = "$"
    """Where in the answer the document or documents are."""

    envelope: dict[str, Any] = {}
    """What stands beside them in the answer."""

    status: int | None = Field(default=None, ge=200, le=299)
    """The status of the answer. Unless said: 201 for a create, 200 otherwise."""

    auth: Literal["wallet"] | None = None
    """Whose request it has to be: the holder of a wallet (`auth.wallet`)."""

    handler: str | None = None
    """A Python coroutine function, `module:name`, of one parameter, that performs it on the Prisma client: reads from
    `shadow` on, writes from `live` on."""


class Entity(Part):
    """The unit of migration: one legacy collection (or several that overlap), one Prisma model, one flag."""

    collection: str
    """Its collection in MongoDB."""

    model: str
    """Its model in `schema.prisma`."""

    fields: dict[str, FieldRule] = {}
    """By Prisma field: what differs on the legacy side. Fields that are the same on both need no entry."""

    also: list[Also] = []
    """Further collections that hold it, in the order of their precedence: see [Several sources](#several-sources)."""

    lacks: list[str] = []
    """With `also`: the Prisma fields that `collection` does not have."""

    merge: dict[str, Literal["earliest", "latest"] | list[str]] = {}
    """With `also`, by Prisma field: which value counts. Unless said: the first that there is, in the order of the
    collections; a list names collections that come before the others."""

    legacy: Legacy = Legacy()
    """How the legacy side is reached."""

    compare: Compare = Compare()
    """What counts as the same."""

    stage: Stage = Stage.OFF
    """Its stage until a flag says otherwise."""

    serve: Percent = 0
    """At `shadow`: the share of keys, in percent, whose reads Prisma serves, until a flag says otherwise."""

    sample: Percent = 100
    """The share of reads, in percent, that are compared, until a flag says otherwise."""

    routes: list[Route] = []
    """The requests that ask for it."""


class Forward(Part):
    """Where requests go that no entity claims: the first entry that fits wins."""

    path: str = "/"
    """What the request's path starts with."""

    to: str
    """The upstream."""


class Wallet(Part):
    """A verified JWT whose claim names a wallet; the account of that wallet is found or created."""

    secret: str = Field(min_length=1)
    """The key that signatures are verified with."""

    algorithms: list[str] = Field(default=["HS256"], min_length=1)
    """The signature algorithms that are accepted."""

    claim: str = "wallet.address"
    """The dotted path of the claim that holds the wallet's address."""

    entity: str
    """The entity that holds the accounts."""

    field: str
    """Its field that holds the wallet's address; unique."""

    audience: str | None = None
    """The audience that a token has to be for."""

    issuer: str | None = None
    """The issuer that a token has to be from."""


class Auth(Part):
    """How callers are known."""

    wallet: Wallet | None = None
    """By a wallet's token."""


class Limits(Part):
    """Bounds and deadlines. Sizes in bytes or as 512KiB, 1MiB; durations as 250ms, 5s, 1m."""

    body: Size = Field(default=1 << 20, ge=1)
    """The largest request body of an entity's route. Forwarded streams have no bound."""

    connect: Duration = timedelta(seconds=3)
    """For a connection to an upstream."""

    first_byte: Duration = timedelta(seconds=30)
    """From a request to the first byte of an upstream's answer."""

    idle: Duration = timedelta(seconds=60)
    """The longest silence in a stream."""

    write: Duration = timedelta(seconds=10)
    """For a write to a side."""

    read: Duration = timedelta(seconds=10)
    """For a read from a side."""

    hold: Duration = timedelta(seconds=5)
    """How long a flip may hold an entity's writes."""

    verified: Duration = timedelta(hours=24)
    """How old the last verification may be when an entity's primary becomes Prisma."""

    queue: int = Field(default=10_000, ge=1)
    """Keys that may wait to be settled, and comparisons that may wait to run, in one replica."""


class Config(Part):
    """The whole file."""

    upstreams: dict[str, str]
    """By name: the URL of an old server."""

    forward: list[Forward] = []
    """Where requests go that no entity claims."""

    strict_paths: bool = True
    """Whether `/api/videos/` and `/API/Videos` are other paths than `/api/videos`. To Express they are not, unless told."""

    auth: Auth = Auth()
    """How callers are known."""

    limits: Limits = Limits()
    """Bounds and deadlines."""

    entities: dict[str, Entity]
    """By name: what migrates."""
