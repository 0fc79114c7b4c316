"""What users of Proxim8 do besides minding single documents, and how often each thing is done."""

import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any

from examples.proxim8.documents import ACCOUNT, NFT, NOTIFICATION, PROFILE, RESOURCES, VIDEO, Document, Owner, Resource
from examples.proxim8.visitor import Owned, Visitor, differing

Visit = Callable[[Visitor], Awaitable[None]]

_SAMPLE_BYTES = 1 << 20
_PATTERN = 251  # byte n of the sample file is n modulo this


# Lists


async def own_profiles(visitor: Visitor) -> None:
    owner, limit = visitor.owner(), visitor.rng.choice((3, 20))
    route = "GET /api/profiles?accountId={}&limit={}"
    answer = await visitor.client.call("profile", route, owner.account_id, str(limit))
    _check_own_list(visitor, PROFILE, route, owner, answer["data"], limit)


async def own_videos(visitor: Visitor) -> None:
    owner, limit = visitor.owner(), visitor.rng.choice((3, 20))
    route = "GET /api/videos?limit={}"
    answer = await visitor.client.call("video", route, str(limit), wallet=owner.wallet)
    videos = [dict(video) for video in answer["data"]]
    joined = all(video.pop("account", None) == {"walletAddress": owner.wallet} for video in videos)
    visitor.client.check("video", route, joined, "without the account's wallet")
    _check_own_list(visitor, VIDEO, route, owner, videos, limit)


async def own_completed_videos(visitor: Visitor) -> None:
    owner, route = visitor.owner(), "GET /api/videos?status=COMPLETED"
    answer = await visitor.client.call("video", route, wallet=owner.wallet)
    filtered = all(video["status"] == "COMPLETED" for video in answer["data"])
    visitor.client.check("video", route, filtered, "of another status")
    _check_order(visitor, VIDEO, route, answer["data"])


async def public_videos(visitor: Visitor) -> None:
    route = "GET /api/videos/public?limit={}"
    answer = await visitor.client.call("video", route, "10")
    visitor.client.check("video", route, all(video["isPublic"] for video in answer["data"]), "not public")
    _check_order(visitor, VIDEO, route, answer["data"])


async def own_notifications(visitor: Visitor) -> None:
    owner, limit = visitor.owner(), visitor.rng.choice((3, 20))
    route = "GET /api/notifications?limit={}"
    answer = await visitor.client.call("notification", route, str(limit), wallet=owner.wallet)
    counted = isinstance(answer.get("unreadCount"), int)
    visitor.client.check("notification", route, counted, "without unreadCount")
    _check_own_list(visitor, NOTIFICATION, route, owner, answer["data"], limit)


async def read_all_notifications(visitor: Visitor) -> None:
    owner, route = visitor.owner(), "POST /api/notifications/read-all"
    mine = [owned for owned in visitor.owned["notification"] if owned.owner == owner]
    unread = sum(1 for owned in mine if owned.last is not None and not owned.last["isRead"])
    for owned in mine:
        owned.last = None  # until it is seen again: the moment of its change is the server's to choose
    modified = (await visitor.client.call("notification", route, wallet=owner.wallet))["data"]["modified"]
    visitor.client.check("notification", route, modified >= unread, f"{modified} of at least {unread} were modified")
    route = "GET /api/notifications?unread=true&limit={}"
    left = (await visitor.client.call("notification", route, "100", wallet=owner.wallet))["data"]
    still = {notification["id"] for notification in left} & {owned.id for owned in mine}
    visitor.client.check("notification", route, not still, f"{len(still)} are still unread")


async def own_nfts(visitor: Visitor) -> None:
    owner, limit = visitor.owner(), visitor.rng.choice((3, 20))
    route = "GET /api/nfts?walletAddress={}&limit={}"
    answer = await visitor.client.call("nft_ownership", route, owner.wallet, str(limit))
    _check_own_list(visitor, NFT, route, owner, answer["data"], limit)


async def page_of_accounts(visitor: Visitor) -> None:
    page, limit, route = visitor.rng.randint(1, 5), 10, "GET /api/accounts?page={}&limit={}"
    answer = await visitor.client.call("account", route, str(page), str(limit))
    given = answer.get("pagination", {})
    right = (given.get("page"), given.get("limit")) == (page, limit) and isinstance(given.get("total"), int)
    visitor.client.check("account", route, right, f"wrong pagination {given}")
    _check_order(visitor, ACCOUNT, route, answer["data"])


async def me(visitor: Visitor) -> None:
    owner, route = visitor.owner(), "GET /api/accounts/me"
    account = (await visitor.client.call("account", route, wallet=owner.wallet))["data"]
    right = (account["_id"], account["walletAddress"]) == (owner.account_id, owner.wallet)
    visitor.client.check("account", route, right, "another account")
    _check_own_list(visitor, PROFILE, route, owner, account["profiles"], None)


# Documents that everybody reads, and some write at once


async def read_known(visitor: Visitor) -> None:
    resource = visitor.rng.choice(RESOURCES)
    if document := _known(visitor, resource):
        seen = (await visitor.client.call(resource.entity, resource.read, document[resource.id]))["data"]
        same = seen[resource.id] == document[resource.id] and seen["createdAt"] == document["createdAt"]
        visitor.client.check(resource.entity, resource.read, same, "another document")


async def change_known(visitor: Visitor) -> None:
    resource = visitor.rng.choice((PROFILE, VIDEO, NFT))
    if document := _known(visitor, resource):
        body = resource.change(visitor.rng, visitor.fresh_name())
        seen = (await visitor.client.call(resource.entity, resource.update, document[resource.id], body=body))["data"]
        held = {name: seen.get(name) for name in body}
        visitor.client.check(resource.entity, resource.update, held == body, differing(body, held))


async def account_by_wallet(visitor: Visitor) -> None:
    if document := _known(visitor, ACCOUNT):
        route = "GET /api/accounts/wallet/{}"
        seen = (await visitor.client.call("account", route, document["walletAddress"]))["data"]
        visitor.client.check("account", route, seen == document, "not as it was left")


async def nft_by_token(visitor: Visitor) -> None:
    if document := _known(visitor, NFT):
        route = "GET /api/nfts/token/{}"
        seen = (await visitor.client.call("nft_ownership", route, document["nftId"]))["data"]
        visitor.client.check("nft_ownership", route, seen["id"] == document["id"], "another document")


# Mistakes


async def mistaken_id(visitor: Visitor) -> None:
    resource = visitor.rng.choice(RESOURCES)
    answer = await visitor.client.call(resource.entity, resource.read, "not-an-id", expect=400)
    visitor.client.check(resource.entity, resource.read, "field" in answer, "400 without the field")


async def nobody(visitor: Visitor) -> None:
    entity, route = visitor.rng.choice(
        (("account", "GET /api/accounts/me"), ("video", "GET /api/videos"), ("notification", "GET /api/notifications"))
    )
    answer = await visitor.client.call(entity, route, expect=401)
    visitor.client.check(entity, route, answer["error"] == "Wallet address required", answer["error"])


async def operator_in_a_body(visitor: Visitor) -> None:
    body = {"username": {"$ne": None}}
    await visitor.client.call("profile", PROFILE.create, body=body, wallet=visitor.owner().wallet, expect=400)


async def duplicate(visitor: Visitor) -> None:
    if document := _known(visitor, ACCOUNT):
        body = {"walletAddress": document["walletAddress"]}
        answer = await visitor.client.call("account", ACCOUNT.create, body=body, expect=409)
        named = answer.get("field") == "walletAddress"
        visitor.client.check("account", ACCOUNT.create, named, "409 without the field")


# What no entity claims


async def jobs_and_stats(visitor: Visitor) -> None:
    route = visitor.rng.choice(("GET /api/jobs", "GET /api/stats", "GET /health"))
    await visitor.client.call("forwarded", route)


async def upload(visitor: Visitor) -> None:
    content, route = visitor.rng.randbytes(visitor.rng.randrange(200_000)), "POST /api/uploads"
    client = visitor.client
    with client.measured("forwarded", route):
        async with client.session.post(client.url("/api/uploads"), data=content) as response:
            answer = await response.json()
    expected = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    client.check("forwarded", route, answer.get("data") == expected, f"{response.status} with other bytes")


async def part_of_a_file(visitor: Visitor) -> None:
    first = visitor.rng.randrange(_SAMPLE_BYTES)
    last = min(first + visitor.rng.randrange(50_000), _SAMPLE_BYTES - 1)
    client, route = visitor.client, "GET /api/uploads/sample.bin"
    with client.measured("forwarded", route):
        url, headers = client.url("/api/uploads/sample.bin"), {"Range": f"bytes={first}-{last}"}
        async with client.session.get(url, headers=headers) as response:
            part = await response.read()
    right = response.status == 206 and part == bytes(n % _PATTERN for n in range(first, last + 1))
    client.check("forwarded", route, right, f"{response.status} with other bytes")


async def talk(visitor: Visitor) -> None:
    client, route, said = visitor.client, "GET /ws", visitor.rng.randbytes(1000)
    with client.measured("forwarded", route):
        async with client.session.ws_connect(client.url("/ws")) as socket:
            await socket.send_bytes(said)
            message = await socket.receive(timeout=10)
    client.check("forwarded", route, message.data == said, "another echo")


# How often, in thousandths, roughly: three reads to a write, lists among them.
VISITS: tuple[tuple[int, Visit], ...] = (
    *((45, partial(Visitor.read, resource=resource)) for resource in RESOURCES),
    *((22, partial(Visitor.create, resource=resource)) for resource in RESOURCES),
    *((20, partial(Visitor.change, resource=resource)) for resource in RESOURCES),
    *((8, partial(Visitor.delete, resource=resource)) for resource in RESOURCES),
    (20, Visitor.set_video_status),
    (15, Visitor.generate),
    (30, Visitor.follow),
    (150, read_known),
    (30, change_known),
    (20, account_by_wallet),
    (20, nft_by_token),
    (25, own_profiles),
    (35, own_videos),
    (10, own_completed_videos),
    (15, public_videos),
    (30, own_notifications),
    (8, read_all_notifications),
    (20, own_nfts),
    (10, page_of_accounts),
    (20, me),
    (5, mistaken_id),
    (5, nobody),
    (5, operator_in_a_body),
    (5, duplicate),
    (20, jobs_and_stats),
    (5, upload),
    (5, part_of_a_file),
    (3, talk),
)


def _known(visitor: Visitor, resource: Resource) -> Document | None:
    """One of the shared documents, the first ones far more often than the last."""
    documents = visitor.known.get(resource.entity, ())
    return documents[int(len(documents) * visitor.rng.random() ** 3)] if documents else None


def _order(resource: Resource, document: Document) -> tuple[str, str]:
    return document["createdAt"], document[resource.id]


def _check_order(visitor: Visitor, resource: Resource, route: str, documents: list[Document]) -> None:
    orders = [_order(resource, document) for document in documents]
    right = all(newer > older for newer, older in pairwise(orders))
    visitor.client.check(resource.entity, route, right, "not newest first")


def _check_own_list(
    visitor: Visitor, resource: Resource, route: str, owner: Owner, listed: list[Any], limit: int | None
) -> None:
    """Newest first, and each document of the owner's that is new enough to be listed is there, as it was left."""
    _check_order(visitor, resource, route, listed)
    by_id = {document[resource.id]: document for document in listed}
    full = limit is not None and len(listed) >= limit
    oldest = _order(resource, listed[-1]) if listed else ("", "")
    for owned in _seen_before(visitor, resource, owner):
        last = owned.last
        if last is None or (full and _order(resource, last) < oldest):
            continue
        got = by_id.get(owned.id)
        visitor.client.check(resource.entity, route, got is not None, "a document of one's own is missing")
        same = got == last
        visitor.client.check(resource.entity, route, same, f"not as it was left: {differing(last, got or {})}")


def _seen_before(visitor: Visitor, resource: Resource, owner: Owner) -> list[Owned]:
    return [owned for owned in visitor.owned[resource.entity] if owned.owner == owner]
