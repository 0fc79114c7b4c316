"""What Proxim8's users send: the five kinds of documents, how each is made and changed, and how its API names it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Document = dict[str, Any]

_PHRASES = (
    "Proxim8 over Neo-Kyōto",
    "Ночной дозор",
    'quotes " and \\ slashes / and <tags>',
    "🎬🚀 e\u0301clair",
    "two\nlines\tand a tab",
    "",
    " padded ",
    "0",
    "null",
    "x" * 300,
)
_DATA: tuple[Document, ...] = (
    {},
    {"videoId": "abc", "progress": 0.1, "tags": ["a", "b", []], "nested": {"deep": {"er": None}}},
    {"count": 2**40, "negative": -1, "ratio": 1e-7, "whole": 3.0, "flag": False},
    {"b": 1, "a": {"z": [{"k": 1}, {"k": None}], "y": ""}, "ключ": "значение"},
    {"when": "2026-01-02T03:04:05.678Z", "$set": {"a.b": 1}},
)
_INSTANTS = ("2026-01-02T03:04:05.678Z", "2024-02-29T23:59:59.999Z", "1999-12-31T00:00:00.000Z")
_STATUSES = ("PENDING", "PROCESSING", "COMPLETED", "FAILED")
_TYPES = ("VIDEO_COMPLETED", "VIDEO_FAILED", "SYSTEM_ANNOUNCEMENT", "NFT_VERIFIED")


@dataclass(frozen=True, slots=True)
class Owner:
    """The user on whose behalf a document is made."""

    wallet: str
    account_id: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One entity's part of the API. `make` and `change` produce bodies; a null in a change clears the field."""

    entity: str
    path: str
    id: str
    create: str
    created: int
    update: str
    make: Callable[[Random, str, Owner], Document]
    change: Callable[[Random, str], Document]

    @property
    def read(self) -> str:
        return f"GET {self.path}/{{}}"

    @property
    def delete(self) -> str:
        return f"DELETE {self.path}/{{}}"


def phrase(rng: Random) -> str:
    return rng.choice(_PHRASES)


def subset(rng: Random, fields: Mapping[str, object]) -> Document:
    """Some of the fields, at times none and at times all."""
    return {name: value for name, value in fields.items() if rng.random() < 0.6}


def video_status(rng: Random, job: str) -> Document:
    urls = {"videoUrl": f"https://media.example/{job}.mp4", "thumbnailUrl": f"https://media.example/{job}.jpg"}
    return {"status": rng.choice(_STATUSES), **subset(rng, urls)}


def _make_account(rng: Random, name: str, owner: Owner) -> Document:
    return {"walletAddress": f"0x{name}"}


def _change_account(rng: Random, name: str) -> Document:
    return {"walletAddress": f"0x{name}"}


def _make_profile(rng: Random, name: str, owner: Owner) -> Document:
    return {"username": f"user-{name}", **subset(rng, {"bio": phrase(rng), "avatar": f"https://a.example/{name}.png"})}


def _change_profile(rng: Random, name: str) -> Document:
    return subset(rng, {"username": f"user-{name}", "bio": phrase(rng), "avatar": None})


def _make_video(rng: Random, name: str, owner: Owner) -> Document:
    optional = {"title": phrase(rng), "description": phrase(rng), "isPublic": rng.random() < 0.5}
    return {"nftId": f"nft-{rng.randrange(1000)}", "jobId": f"job-{name}", **subset(rng, optional)}


def _change_video(rng: Random, name: str) -> Document:
    title = rng.choice((None, f"take {name}"))
    return subset(rng, {"title": title, "description": phrase(rng), "isPublic": rng.random() < 0.5})


def _make_notification(rng: Random, name: str, owner: Owner) -> Document:
    given = {"accountId": owner.account_id, "type": rng.choice(_TYPES), "title": f"Note {name}", "message": "Read me"}
    return {**given, **subset(rng, {"data": rng.choice(_DATA)})}


def _change_notification(rng: Random, name: str) -> Document:
    return {"isRead": True}


def _make_nft(rng: Random, name: str, owner: Owner) -> Document:
    contract = f"0x{rng.randrange(16**8):08x}"
    return {
        "nftId": f"nft-{name}",
        "walletAddress": owner.wallet,
        "contractAddress": contract,
        "tokenId": str(rng.randrange(10_000)),
    }


def _change_nft(rng: Random, name: str) -> Document:
    fields = {"tokenId": name, "verified": rng.random() < 0.5, "lastVerified": rng.choice((None, *_INSTANTS))}
    return subset(rng, fields)


ACCOUNT = Resource(
    "account",
    path="/api/accounts",
    id="_id",
    create="POST /api/accounts",
    created=201,
    update="PATCH /api/accounts/{}",
    make=_make_account,
    change=_change_account,
)
PROFILE = Resource(
    "profile",
    path="/api/profiles",
    id="_id",
    create="POST /api/profiles",
    created=201,
    update="PATCH /api/profiles/{}",
    make=_make_profile,
    change=_change_profile,
)
VIDEO = Resource(
    "video",
    path="/api/videos",
    id="id",
    create="POST /api/videos",
    created=201,
    update="PATCH /api/videos/{}",
    make=_make_video,
    change=_change_video,
)
NOTIFICATION = Resource(
    "notification",
    path="/api/notifications",
    id="id",
    create="POST /api/notifications",
    created=201,
    update="PATCH /api/notifications/{}/read",
    make=_make_notification,
    change=_change_notification,
)
NFT = Resource(
    "nft_ownership",
    path="/api/nfts",
    id="id",
    create="POST /api/nfts/verify",
    created=200,
    update="PATCH /api/nfts/{}",
    make=_make_nft,
    change=_change_nft,
)
RESOURCES = (ACCOUNT, PROFILE, VIDEO, NOTIFICATION, NFT)
