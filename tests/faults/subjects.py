"""The five entities as the workload writes them: each document carries a tag that never changes, and the marker of the write
that changed it last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """`tag` and `marker` are fields, of bodies and of what the stores hold alike. `of_wallet`: its create is its caller's."""

    entity: str
    table: str
    path: str
    id: str
    tag: str
    marker: str
    make: Callable[[str, str, str], Json]
    create: str = ""
    update: str = "{}"
    of_wallet: bool = False

    def created(self) -> str:
        return self.create or self.path

    def updated(self, key: str) -> str:
        return f"{self.path}/{self.update.format(key)}"

    def change(self, marker: Any) -> Json:
        return {} if self.marker == "isRead" else {self.marker: marker}

    def next_marker(self, unique: str) -> Any:
        return True if self.marker == "isRead" else unique


ACCOUNT: Final = Subject(
    "account",
    "accounts",
    "/api/accounts",
    "_id",
    tag="walletAddress",
    marker="walletAddress",
    make=lambda tag, marker, account: {"walletAddress": tag},
)
PROFILE: Final = Subject(
    "profile",
    "profiles",
    "/api/profiles",
    "_id",
    tag="username",
    marker="bio",
    make=lambda tag, marker, account: {"username": tag, "bio": marker, "avatar": "https://a.example/ż.png"},
    of_wallet=True,
)
VIDEO: Final = Subject(
    "video",
    "videos",
    "/api/videos",
    "id",
    tag="jobId",
    marker="title",
    make=lambda tag, marker, account: {"jobId": tag, "title": marker, "nftId": "nft-1", "isPublic": False},
    of_wallet=True,
)
NOTIFICATION: Final = Subject(
    "notification",
    "notifications",
    "/api/notifications",
    "id",
    tag="title",
    marker="isRead",
    make=lambda tag, marker, account: {
        "accountId": account,
        "type": "SYSTEM_ANNOUNCEMENT",
        "title": tag,
        "message": "Read me",
        "data": {"list": [1, "two", None, {"three": 3.5}], "empty": {}},
    },
    update="{}/read",
)
NFT: Final = Subject(
    "nft_ownership",
    "nft_ownership",
    "/api/nfts",
    "id",
    tag="nftId",
    marker="tokenId",
    make=lambda tag, marker, account: {
        "nftId": tag,
        "tokenId": marker,
        "walletAddress": f"0x{account}",
        "contractAddress": "0xc0ffee",
    },
    create="/api/nfts/verify",
)
SUBJECTS: Final[Mapping[str, Subject]] = {
    subject.entity: subject for subject in (ACCOUNT, PROFILE, VIDEO, NOTIFICATION, NFT)
}
