"""What clients should not send: refused with the field and the reason, never obeyed, and without a trace in any store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.model import Stage
from tests.proxy_case import Running, databases, fresh, recorded, running
from tests.subjects import ACCOUNT, NFT, NOTIFICATION, PROFILE, VIDEO, Subject

NO_MARKS = {"legacy": 0, "prisma": 0}
OPERATOR = {"$ne": None}


@dataclass(frozen=True, slots=True)
class Place:
    """A proxy at a stage; `performs`: it answers itself, and does not forward."""

    proxim8: Running
    performs: bool
    owner: tuple[str, str]
    keys: Mapping[str, str]

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        filled = path.format(**self.keys, account=self.owner[1])
        return await self.proxim8.ask(method, filled, body, wallet=self.owner[0], **more)


PLACES = {
    "mongo": ("collection", Stage.SHADOW),
    "prisma": ("collection", Stage.LIVE),
    "forwarded": ("endpoint", Stage.SHADOW),
    "taken over": ("endpoint", Stage.LIVE),
}


@pytest.fixture(scope="module")
async def stands(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Mapping[str, Running]]:
    async with AsyncExitStack() as stack:
        events = stack.enter_context(recorded())
        found: dict[str, Running] = {}
        for via in ("collection", "endpoint"):
            stores = await stack.enter_async_context(databases(mongo_url, postgres_url, migrated_template))
            found[via] = await stack.enter_async_context(
                running(server_folder, stores, via="endpoint" if via == "endpoint" else "collection", events=events)
            )
        yield found


@pytest.fixture(scope="module", params=PLACES, ids=str)
async def place(request: pytest.FixtureRequest, stands: Mapping[str, Running]) -> Place:
    via, stage = PLACES[request.param]
    proxim8 = stands[via]
    await proxim8.move(stage)
    owner = await proxim8.account()
    keys = {}
    for subject in (PROFILE, VIDEO, NOTIFICATION, NFT):
        keys[subject.entity.partition("_")[0]] = await proxim8.create(subject, *owner)
    await proxim8.quiet()
    return Place(proxim8, request.param != "forwarded", owner, keys)


async def held(place: Place) -> Any:
    """Everything that both sides hold."""
    found = []
    for collection in ("accounts", "profiles", "videos", "notifications", "nft_ownership"):
        documents = await place.proxim8.legacy[collection].find({}).sort("_id").to_list()
        rows = await place.proxim8.sql(f'SELECT row_to_json(t)::text AS row FROM "{collection}" t ORDER BY "_id"')
        found.append((documents, rows))
    return found


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        # operators, in a body, a query, a path
        ("PATCH", "/api/videos/{video}", {"title": OPERATOR}, "title"),
        ("PATCH", "/api/videos/{video}", {"isPublic": {"$gt": 0}}, "isPublic"),
        ("PATCH", "/api/profiles/{profile}", {"bio": [OPERATOR]}, "bio"),
        ("POST", "/api/accounts", {"walletAddress": {"$gt": ""}}, "walletAddress"),
        ("PATCH", "/api/accounts/{account}", {"walletAddress": {"$regex": ".*"}}, "walletAddress"),
        ("GET", "/api/videos/%7B%22$ne%22:null%7D", None, "id"),
        ("DELETE", "/api/videos/%7B%22$ne%22:null%7D", None, "id"),
        ("GET", "/api/profiles?accountId=%7B%22$ne%22:null%7D", None, "accountId"),
        ("GET", "/api/videos?status=%7B%22$ne%22:null%7D", None, "status"),
        # ids
        ("GET", "/api/videos/nope", None, "id"),
        ("GET", "/api/accounts/0123456789abcdef0123456", None, "id"),
        ("PATCH", "/api/profiles/0123456789abcdef0123456g", {"bio": "x"}, "id"),
        ("DELETE", "/api/nfts/..%2F..%2Faccounts", None, "id"),
        ("GET", "/api/profiles?accountId=nope", None, "accountId"),
        (
            "POST",
            "/api/notifications",
            {"accountId": "x", "type": "NFT_VERIFIED", "title": "t", "message": "m"},
            "accountId",
        ),
        # enums, dates, booleans, numbers
        ("POST", "/api/videos", {"nftId": "n", "jobId": "j", "status": "DONE"}, "status"),
        ("GET", "/api/videos?status=DONE", None, "status"),
        ("POST", "/api/notifications", {"accountId": "{account}", "type": "x", "title": "t", "message": "m"}, "type"),
        ("PATCH", "/api/nfts/{nft}", {"lastVerified": "yesterday"}, "lastVerified"),
        ("PATCH", "/api/nfts/{nft}", {"lastVerified": "2026-13-01T00:00:00Z"}, "lastVerified"),
        ("PATCH", "/api/nfts/{nft}", {"verified": "yes"}, "verified"),
        ("PATCH", "/api/nfts/{nft}", {"tokenId": 7}, "tokenId"),
        ("GET", "/api/videos?limit=0", None, "limit"),
        ("GET", "/api/videos?limit=101", None, "limit"),
        ("GET", "/api/videos?limit=ten", None, "limit"),
        ("GET", "/api/profiles?limit=99999999999", None, "limit"),
        # what has to be there
        ("POST", "/api/accounts", {}, "walletAddress"),
        ("POST", "/api/accounts", {"walletAddress": None}, "walletAddress"),
        ("POST", "/api/profiles", {"bio": "nobody"}, "username"),
        ("POST", "/api/videos", {"nftId": "n"}, "jobId"),
        ("PATCH", "/api/nfts/{nft}", {"tokenId": None}, "tokenId"),
    ],
)
async def test_a_wrong_value_is_refused_by_its_field(
    place: Place, method: str, path: str, body: Any, field: str
) -> None:
    before = await held(place)
    if isinstance(body, dict) and body.get("accountId") == "{account}":
        body = {**body, "accountId": place.owner[1]}
    answer = await place.ask(method, path, body)
    assert (answer.status, answer.body["success"], answer.body["field"]) == (400, False, field)
    assert answer.body["error"]
    assert answer.body["reason"]
    assert answer.forwarded != place.performs
    await place.proxim8.quiet()
    assert await held(place) == before
    assert await place.proxim8.marks() == NO_MARKS


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"{", "application/json"),
        (b"not json", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"null", "application/json"),
        (b"", "application/json"),
    ],
)
async def test_a_body_that_is_no_object_is_refused(place: Place, raw: bytes, kind: str) -> None:
    before = await held(place)
    answer = await place.ask("POST", "/api/accounts", raw=raw, headers={"Content-Type": kind})
    assert (answer.status, answer.body["success"]) == (400, False)
    assert await held(place) == before


async def test_a_body_that_is_no_utf8_is_refused(place: Place) -> None:
    if not place.performs:
        pytest.skip("the old servers take any bytes for text")
    raw = b'{"walletAddress": "\xff"}'
    answer = await place.ask("POST", "/api/accounts", raw=raw, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.body["field"]) == (400, "body")


async def test_a_query_with_operators_in_its_names_asks_for_nothing(place: Place) -> None:
    plain = await place.ask("GET", "/api/videos")
    sly = await place.ask("GET", "/api/videos?status[$ne]=PENDING&limit[$gt]=1")
    assert (sly.status, sly.data) == (200, plain.data)


async def test_operators_in_json_are_values_on_both_sides(place: Place) -> None:
    data = {"$ne": None, "$set": {"a.b": 1}, "nested": [{"$where": "1"}], "a.b": "c"}
    given = NOTIFICATION.make(fresh(), place.owner[1])
    answer = await place.ask("POST", "/api/notifications", {**given, "data": data})
    assert (answer.status, answer.data["data"]) == (201, data)
    await place.proxim8.quiet()
    key = answer.data["id"]
    for side in (place.proxim8.on_legacy, place.proxim8.on_prisma):
        found = await side("notification", key)
        assert found is not None
        assert found["data"] == data
    assert (await place.ask("GET", f"/api/notifications/{key}")).data["data"] == data


@pytest.mark.parametrize(
    ("subject", "unique"),
    [(ACCOUNT, "walletAddress"), (PROFILE, "username"), (VIDEO, "jobId")],
    ids=lambda value: value.entity if isinstance(value, Subject) else value,
)
async def test_a_duplicate_is_a_conflict_that_names_the_field(place: Place, subject: Subject, unique: str) -> None:
    given = subject.make(fresh(), place.owner[1])
    assert (await place.ask("POST", subject.create, given)).status == 201
    await place.proxim8.quiet()
    before = await held(place)
    answer = await place.ask("POST", subject.create, given)
    assert (answer.status, answer.body["success"], answer.body["field"]) == (409, False, unique)
    assert answer.body["error"] == f"{unique} already exists"
    assert given[unique] not in str(answer.body)
    await place.proxim8.quiet()
    assert await held(place) == before
    assert await place.proxim8.marks() == NO_MARKS


async def test_an_update_to_a_duplicate_is_a_conflict(place: Place) -> None:
    taken = PROFILE.make(fresh(), "")
    assert (await place.ask("POST", "/api/profiles", taken)).status == 201
    answer = await place.ask("PATCH", "/api/profiles/{profile}", {"username": taken["username"]})
    assert (answer.status, answer.body["field"]) == (409, "username")
    await place.proxim8.quiet()
    assert await place.proxim8.marks() == NO_MARKS


async def test_a_body_over_the_limit_is_too_large(place: Place) -> None:
    before = await held(place)
    body = {"username": fresh(), "bio": "x" * (1 << 20)}
    answer = await place.ask("POST", "/api/profiles", body)
    assert (answer.status, answer.body["success"]) == (413, False)
    assert await held(place) == before
    body["bio"] = "x" * ((1 << 20) - 100)
    assert (await place.ask("POST", "/api/profiles", body)).status == 201
    await place.proxim8.quiet()


async def test_a_chunked_body_over_the_limit_is_too_large(place: Place) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"username": "x", "bio": "'
        for _ in range(20):
            yield b"x" * (1 << 16)
        yield b'"}'

    headers = {"Authorization": f"Bearer {place.proxim8.token(place.owner[0])}", "Content-Type": "application/json"}
    url = f"{place.proxim8.url}/api/profiles"
    async with place.proxim8.session.post(url, data=pieces(), headers=headers) as answer:
        assert answer.status == 413


async def test_what_no_entity_claims_has_no_limit(stands: Mapping[str, Running]) -> None:
    proxim8 = stands["endpoint"]
    body = b"x" * (3 << 20)
    answer = await proxim8.ask("POST", "/api/uploads", raw=body, headers={"Content-Type": "application/octet-stream"})
    assert (answer.status, answer.data["bytes"]) == (201, len(body))


async def test_what_nothing_is_configured_for_is_not_found(stands: Mapping[str, Running]) -> None:
    answer = await stands["endpoint"].ask("GET", "/api/nothing/here")
    assert (answer.status, answer.forwarded) == (404, True)
    assert (await stands["endpoint"].ask("PUT", "/api/accounts", {})).status == 404


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("req-1.A_b:c/d+e=", True),
        ("x" * 128, True),
        (None, False),
        ("", False),
        ("x" * 129, False),
        ("two words", False),
        ("a,b", False),
        ("<script>", False),
        ("é", False),
    ],
)
async def test_a_request_id_is_kept_where_it_is_fit_to_be(place: Place, given: str | None, kept: bool) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    for path in ("/api/videos/{video}", "/api/videos/nope"):
        answer = await place.ask("GET", path, headers=headers)
        [found] = answer.headers.getall("X-Request-Id")
        assert (found == given) == kept
        assert 0 < len(found) <= 128
        assert place.performs or answer.forwarded
        if place.performs and answer.status >= 400:
            assert answer.body["requestId"] == found
