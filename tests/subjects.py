"""The five entities of Proxim8 as the tests of the proxy use them: their routes, what to send, and what is held after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """One entity as clients and stores know it. `change` is a body for `update` and what the stores hold after it."""

    entity: str
    collection: str
    id: str
    path: str
    create: str
    created: int
    update: str
    make: Callable[[str, str], Json]
    change: Callable[[str], tuple[Json, Json]]
    listed: Callable[[str, str], str]


ACCOUNT: Final = Subject(
    "account",
    "accounts",
    id="_id",
    path="/api/accounts",
    create="/api/accounts",
    created=201,
    update="/api/accounts/{}",
    make=lambda name, account: {"walletAddress": f"0x{name}"},
    change=lambda name: ({"walletAddress": f"0x{name}-moved"}, {"walletAddress": f"0x{name}-moved"}),
    listed=lambda account, wallet: "/api/accounts?limit=100",
)
PROFILE: Final = Subject(
    "profile",
    "profiles",
    id="_id",
    path="/api/profiles",
    create="/api/profiles",
    created=201,
    update="/api/profiles/{}",
    make=lambda name, account: {"username": f"user-{name}", "bio": "zażółć 🦊"},
    change=lambda name: ({"bio": None, "avatar": f"https://a.example/{name}"}, {"avatar": f"https://a.example/{name}"}),
    listed=lambda account, wallet: f"/api/profiles?accountId={account}",
)
VIDEO: Final = Subject(
    "video",
    "videos",
    id="id",
    path="/api/videos",
    create="/api/videos",
    created=201,
    update="/api/videos/{}",
    make=lambda name, account: {"nftId": "nft-1", "jobId": f"job-{name}", "title": "first", "isPublic": True},
    change=lambda name: ({"title": "second", "isPublic": False}, {"title": "second", "isPublic": False}),
    listed=lambda account, wallet: "/api/videos",
)
NOTIFICATION: Final = Subject(
    "notification",
    "notifications",
    id="id",
    path="/api/notifications",
    create="/api/notifications",
    created=201,
    update="/api/notifications/{}/read",
    make=lambda name, account: {
        "accountId": account,
        "type": "VIDEO_COMPLETED",
        "title": f"Note {name}",
        "message": "Read me",
        "data": {"list": [1, "two", None, {"three": 3.5}], "empty": {}},
    },
    change=lambda name: ({}, {"isRead": True}),
    listed=lambda account, wallet: "/api/notifications",
)
NFT: Final = Subject(
    "nft_ownership",
    "nft_ownership",
    id="id",
    path="/api/nfts",
    create="/api/nfts/verify",
    created=200,
    update="/api/nfts/{}",
    make=lambda name, account: {
        "nftId": f"nft-{name}",
        "walletAddress": f"0x{name}",
        "contractAddress": "0xc0ffee",
        "tokenId": "7",
    },
    change=lambda name: (
        {"tokenId": "8", "lastVerified": None, "verified": False},
        {"tokenId": "8", "verified": False},
    ),
    listed=lambda account, wallet: "/api/nfts?limit=100",
)
SUBJECTS: Final = (ACCOUNT, PROFILE, VIDEO, NOTIFICATION, NFT)
