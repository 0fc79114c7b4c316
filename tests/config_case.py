"""A small configuration to break in one place at a time, and a schema without a generated client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from config.faults import ConfigError
from config.load import load
from config.schema import Field, Model, Relation, Schema

ENVIRON: Final = {"CORE_URL": "http://127.0.0.1:4001", "JWT_SECRET": "hunter2hunter2"}

GOOD: Final = """\
upstreams: {core: "${CORE_URL}", media: "http://127.0.0.1:4002"}
forward:
  - {path: /media, to: media}
  - {to: core}
auth:
  wallet: {secret: "${JWT_SECRET}", entity: account, field: walletAddress}
entities:
  account:
    collection: accounts
    model: Account
    legacy: {via: endpoint, upstream: core}
    routes:
      - {on: "GET /api/accounts/{id}", do: read, where: {id: "{id}"}}
  video:
    collection: videos
    model: Video
    fields:
      accountId: {legacy: objectId}
      title: {from: info.title}
    legacy: {via: endpoint, upstream: core}
    compare: {ignore: [data.at], tolerance: {updatedAt: 1s, score: 0.5}, unordered: [tags]}
    routes:
      - on: POST /api/videos
        do: create
        auth: wallet
        set: {accountId: "{account.id}", status: "{body.status:PENDING}"}
        accepts: [jobId, title]
        body: $.data
        envelope: {success: true}
      - on: GET /api/videos
        do: list
        where: {accountId: "{query.accountId?}", isPublic: true}
        order: [-createdAt, id]
        take: "{query.limit:20}"
      - on: GET /api/videos/{id}
        do: read
        where: {id: "{id}"}
      - on: PATCH /api/videos/{id}
        do: update
        where: {id: "{id}"}
        set: {updatedAt: "{now}"}
      - on: POST /api/videos/generate
        do: create
        handler: tests.config_case:handle
  note:
    collection: notes
    model: Note
    routes:
      - {on: "DELETE /api/notes/{id}", do: delete, where: {id: "{id}"}}
"""


async def handle(call: object) -> None:
    """What a handler looks like."""


async def handle_two(call: object, more: object) -> None:
    """One parameter too many."""


def handle_at_once(call: object) -> None:
    """Not async."""


def convert(value: object) -> object:
    return value


def _model(name: str, fields: list[Field], *uniques: tuple[str, ...]) -> Model:
    own = [Field("id", "_id", "String", "scalar", id=True), *fields]
    return Model(name, name.lower(), {field.name: field for field in own}, ("id",), uniques)


SCHEMA: Final = Schema(
    {
        "Account": _model(
            "Account",
            [
                Field("walletAddress", "walletAddress", "String", "scalar", unique=True),
                Field("nick", "nick", "String", "scalar", required=False),
                Field("videos", "videos", "Video", "object", is_list=True),
            ],
            ("walletAddress",),
        ),
        "Video": _model(
            "Video",
            [
                Field("accountId", "accountId", "String", "scalar"),
                Field("jobId", "jobId", "String", "scalar", unique=True),
                Field("status", "status", "VideoStatus", "enum"),
                Field("title", "title", "String", "scalar", required=False),
                Field("isPublic", "isPublic", "Boolean", "scalar", default=False),
                Field("views", "views", "Int", "scalar", default=0),
                Field("score", "score", "Float", "scalar", required=False),
                Field("tags", "tags", "String", "scalar", is_list=True),
                Field("data", "data", "Json", "scalar", required=False),
                Field("createdAt", "createdAt", "DateTime", "scalar", default=1),
                Field("updatedAt", "updatedAt", "DateTime", "scalar", updated_at=True),
                Field(
                    "account",
                    "account",
                    "Account",
                    "object",
                    relation=Relation("v", "Account", ("accountId",), ("id",)),
                ),
            ],
            ("jobId",),
        ),
        "Note": _model("Note", [Field("text", "text", "String", "scalar"), Field("at", "at", "DateTime", "scalar")]),
        "Pair": Model("Pair", "pair", {}, ("a", "b"), ()),
        "StranglerMark": _model("StranglerMark", []),
    },
    {"VideoStatus": ("PENDING", "COMPLETED")},
)


def faults(
    folder: Path,
    text: str,
    environ: Mapping[str, str] = ENVIRON,
    collections: set[str] | None = None,
) -> list[str]:
    """The lines that loading such a file says; none when it is good. The file's own name is left out of them."""
    file = folder / "case.yaml"
    file.write_text(text, "utf-8")
    try:
        load(file, environ, SCHEMA, collections)
    except ConfigError as error:
        return [str(fault).removeprefix(f"{file}:") for fault in error.faults]
    return []


def broken(old: str, new: str) -> str:
    """The good file with one text replaced."""
    assert GOOD.count(old) == 1, f"{old!r} is in the good file {GOOD.count(old)} times"
    return GOOD.replace(old, new)


def only(findings: list[str]) -> Any:
    assert len(findings) == 1, "\n".join(findings)
    return findings[0]
