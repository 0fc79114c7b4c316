"""The legacy side through its old endpoint: what is sent, what its answers mean; and where documents are in them."""

import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import pytest
from bson import ObjectId

from adapters.answer import NoSuchPlace, enclose, extract
from adapters.documents.mapping import Mapper
from adapters.endpoint import Answers, EndpointSide, Refused
from adapters.side import Conflict, Do, HttpRequest, Invalid, Operation, Outcome, SideError, Unavailable
from config.model import Entity
from config.schema import load_schema
from tests.wire import Message, Peer, Script, answering, origin, until_gone

KEY = str(ObjectId())
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
DOCUMENT = {"id": KEY, "walletAddress": "0xa", "createdAt": AT, "updatedAt": AT}
BODY = {
    "_id": KEY,
    "walletAddress": "0xa",
    "createdAt": "2026-01-02T03:04:05.678Z",
    "updatedAt": "2026-01-02T03:04:05.678Z",
    "__v": 0,
}


def endpoint(url: object, session: aiohttp.ClientSession, place: str = "$", **limits: Any) -> EndpointSide:
    schema = load_schema()
    mapper = Mapper(Entity(collection="accounts", model="Account"), schema.models["Account"], schema)
    return EndpointSide(str(url), session, {"account": Answers(mapper, lambda _: place)}, **limits)


@asynccontextmanager
async def serving(script: Script, place: str = "$", **limits: Any) -> AsyncIterator[EndpointSide]:
    async with origin(script) as server, aiohttp.ClientSession() as session:
        yield endpoint(server.url, session, place, **limits)


def http(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d x" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def asks(do: Do, method: str = "GET", target: str = "/api/accounts/1", **more: Any) -> Operation:
    return Operation("account", do, request=HttpRequest(method, target, **more))


# Requests


async def test_the_request_is_sent_as_it_came_but_for_what_belongs_to_a_connection() -> None:
    seen: list[Message] = []
    headers = (
        ("X-Twice", "1"),
        ("Authorization", "Bearer x"),
        ("X-Twice", "2"),
        ("If-None-Match", '"v1"'),
        ("Range", "bytes=0-1"),
        ("Accept-Encoding", "br"),
        ("Connection", "close"),
        ("Content-Length", "999"),
    )
    operation = asks("create", "POST", "/api/a%2Fb?q=%20x&q=%7B1%7D", headers=headers, body=b'{"walletAddress":"0xa"}')
    async with serving(answering(http(201, orjson.dumps(BODY)), seen=seen)) as side:
        await side.perform(operation)
    [message] = seen
    assert message.start == b"POST /api/a%2Fb?q=%20x&q=%7B1%7D HTTP/1.1"
    assert message.body == b'{"walletAddress":"0xa"}'
    assert message.values(b"X-Twice") == [b"1", b"2"]
    assert message.values(b"Authorization") == [b"Bearer x"]
    assert message.values(b"Content-Length") == [b"23"]
    for name in (b"If-None-Match", b"Range"):
        assert message.values(name) == []
    assert b"br" not in message.values(b"Accept-Encoding")[0].split(b", ")


async def test_an_operation_without_a_request_and_a_mark_are_refused() -> None:
    async with aiohttp.ClientSession() as session:
        side = endpoint("http://127.0.0.1:9", session)
        with pytest.raises(SideError):
            await side.perform(Operation("account", "read"))
        with pytest.raises(SideError):
            await side.perform(asks("create", "POST"), mark=True)


# Answers


@pytest.mark.parametrize(
    ("place", "answer", "documents"),
    [
        ("$", BODY, (DOCUMENT,)),
        ("$.data", {"success": True, "data": BODY}, (DOCUMENT,)),
        ("$.data.items", {"data": {"items": [BODY, BODY], "total": 9}}, (DOCUMENT, DOCUMENT)),
        ("$", [], ()),
        ("$.data", {"data": None}, ()),
    ],
)
async def test_documents_are_read_from_their_place(place: str, answer: Any, documents: tuple[Any, ...]) -> None:
    async with serving(answering(http(200, orjson.dumps(answer))), place) as side:
        assert await side.perform(asks("list")) == Outcome(documents)


async def test_a_compressed_answer() -> None:
    answer = http(200, gzip.compress(orjson.dumps(BODY)), b"Content-Encoding: gzip")
    async with serving(answering(answer)) as side:
        assert (await side.perform(asks("read"))).documents == (DOCUMENT,)


async def test_a_write_tells_the_keys_in_its_answer() -> None:
    async with serving(answering(http(201, orjson.dumps(BODY)), http(204))) as side:
        assert (await side.perform(asks("create", "POST"))).keys == (KEY,)
        assert await side.perform(asks("delete", "DELETE")) == Outcome()


async def test_not_found_is_no_document() -> None:
    async with serving(answering(http(404, b'{"message": "no"}'))) as side:
        assert await side.perform(asks("read")) == Outcome()


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Invalid), (422, Invalid), (409, Conflict), (401, Refused), (429, Refused), (302, Refused), (304, Refused)],
)
async def test_refusals_hold_nothing_of_the_answer(status: int, error: type[SideError]) -> None:
    answer = http(status, b"" if status == 304 else b'{"message": "secret"}', b"Location: /elsewhere")
    async with serving(answering(answer)) as side:
        with pytest.raises(error) as raised:
            await side.perform(asks("update", "PUT"))
    assert "secret" not in str(raised.value)


UNUSABLE = {
    "not json": http(200, b"<html>"),
    "nothing there": http(200, b'{"other": 1}'),
    "no document": http(200, b'{"data": {"_id": 7}}'),
    "too much": http(200, b'{"data": "%s"}' % (b"x" * 2000)),
    "five hundred": http(500, b'{"data": 1}'),
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_write_whose_answer_is_unusable_may_have_happened(answer: bytes) -> None:
    async with serving(answering(answer), "$.data", most=1000) as side:
        with pytest.raises(Unavailable) as raised:
            await side.perform(asks("create", "POST"))
    assert raised.value.sent


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_read_whose_answer_is_unusable(answer: bytes) -> None:
    async with serving(answering(answer), "$.data", most=1000) as side:
        with pytest.raises((Unavailable, Invalid)) as raised:
            await side.perform(asks("read"))
    assert not getattr(raised.value, "sent", False)


# Trouble


async def hang(peer: Peer) -> None:
    await peer.message()
    await until_gone(peer)


async def cut(peer: Peer) -> None:
    await peer.message()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


async def reset(peer: Peer) -> None:
    await peer.message()
    peer.reset()


@pytest.mark.parametrize("script", [hang, cut, reset])
@pytest.mark.parametrize(("do", "method"), [("read", "GET"), ("update", "PUT")])
async def test_an_endpoint_that_fails_half_way(script: Script, do: Do, method: str) -> None:
    async with serving(script, deadline=0.3) as side:
        with pytest.raises(Unavailable) as raised:
            await side.perform(asks(do, method))
    assert raised.value.sent == (do == "update")


async def test_an_endpoint_that_is_not_there_was_sent_nothing() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with aiohttp.ClientSession() as session:
            side = endpoint(f"http://127.0.0.1:{bound.getsockname()[1]}", session)
            with pytest.raises(Unavailable) as raised:
                await side.perform(asks("create", "POST"))
            assert not raised.value.sent
            assert not await side.is_healthy()


async def test_whatever_answers_is_healthy() -> None:
    async with serving(answering(b"HTTP/1.1 500 x\r\n\r\n")) as side:
        assert await side.is_healthy()
    async with serving(hang, connect=0.2) as side:
        assert not await side.is_healthy()


# Places


def test_extract() -> None:
    answer = {"data": {"items": [1], "none": None}}
    assert extract(answer, "$") is answer
    assert extract(answer, "$.data.items") == [1]
    assert extract(answer, "$.data.none") is None
    for place in ("$.other", "$.data.items.0", "$.data.none.x"):
        with pytest.raises(NoSuchPlace):
            extract(answer, place)
    for place in ("", "data", "$data", "$.", "$..data"):
        with pytest.raises(ValueError, match="no place"):
            extract(answer, place)


def test_enclose() -> None:
    envelope = {"success": True, "data": {"kind": "video"}}
    body = enclose([1], "$.data.items", envelope)
    assert body == {"success": True, "data": {"kind": "video", "items": [1]}}
    assert envelope == {"success": True, "data": {"kind": "video"}}
    assert extract(body, "$.data.items") == [1]
    assert enclose({"a": 1}, "$", {}) == {"a": 1}
    assert enclose(None, "$.a.b", {}) == {"a": {"b": None}}
    with pytest.raises(ValueError, match="envelope"):
        enclose({}, "$", {"success": True})
    with pytest.raises(ValueError, match="envelope"):
        enclose({}, "$.success.data", {"success": True})
