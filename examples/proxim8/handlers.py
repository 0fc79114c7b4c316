"""What Proxim8's endpoints do beyond one document, on the Prisma models: the plan's services, as the clients know them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from prisma import types
from prisma.enums import VideoStatus

from adapters.prisma.store import new_key
from adapters.side import Invalid
from proxy.requests.handlers import Answer, Call

_MOST: Final = 100
_NEWEST_FIRST: Final[list[Any]] = [{"createdAt": "desc"}, {"id": "desc"}]


async def list_accounts(call: Call) -> Answer:
    """A page of all accounts, newest first."""
    page, limit = number(call.query, "page", 1, most=100_000), number(call.query, "limit", 20)
    accounts = await call.db.account.find_many(take=limit, skip=(page - 1) * limit, order=_NEWEST_FIRST)
    pagination = {"page": page, "limit": limit, "total": await call.db.account.count()}
    return _succeeded([call.render("account", account) for account in accounts], pagination=pagination)


async def me(call: Call) -> Answer:
    """The caller's account with its profiles."""
    account = await call.db.account.find_unique_or_raise(
        where={"id": call.caller["id"]}, include={"profiles": {"order_by": _NEWEST_FIRST}}
    )
    profiles = [call.render("profile", profile) for profile in account.profiles or []]
    return _succeeded({**call.render("account", account), "profiles": profiles})


async def generate_video(call: Call) -> Answer:
    """Create a pending video and queue its job."""
    video = await call.db.video.create(
        data={
            "id": new_key(),
            "accountId": call.caller["id"],
            "nftId": text(call.body, "nftId"),
            "jobId": f"job-{uuid4()}",
            "status": VideoStatus.PENDING,
            "title": optional_string(call.body, "title"),
            "description": optional_string(call.body, "description"),
        },
    )

    async def queue() -> None:
        job = {"jobId": video.jobId, "videoId": video.id, "nftId": video.nftId}
        await call.upstream("proxim8", "POST", "/api/jobs", job)

    call.afterwards(queue)
    data = {**call.render("video", video), "account": _wallet(call.caller["walletAddress"])}
    return _succeeded(data, message="Video generation started")


async def list_videos(call: Call) -> Answer:
    """The caller's videos with the account's wallet, newest first."""
    where: types.VideoWhereInput = {"accountId": call.caller["id"]}
    if status := call.query.get("status"):
        where["status"] = _status(status)
    videos = await call.db.video.find_many(
        where=where, take=number(call.query, "limit", 20), order=_NEWEST_FIRST, include={"account": True}
    )
    return _succeeded(
        [
            {**call.render("video", video), "account": _wallet(video.account.walletAddress if video.account else "")}
            for video in videos
        ]
    )


async def list_notifications(call: Call) -> Answer:
    """The caller's notifications, newest first, and how many are unread."""
    own: types.NotificationWhereInput = {"accountId": call.caller["id"]}
    unread: types.NotificationWhereInput = {**own, "isRead": False}
    wanted = call.query.get("unread", "")
    if wanted not in ("", "true", "false"):
        raise Invalid("unread", "must be one of true, false")
    notifications = await call.db.notification.find_many(
        where=unread if wanted == "true" else own, take=number(call.query, "limit", 20), order=_NEWEST_FIRST
    )
    count = await call.db.notification.count(where=unread)
    return _succeeded([call.render("notification", row) for row in notifications], unreadCount=count)


async def read_all(call: Call) -> Answer:
    """Mark all of the caller's notifications as read."""
    modified = await call.db.notification.update_many(
        where={"accountId": call.caller["id"], "isRead": False}, data={"isRead": True}
    )
    return _succeeded({"modified": modified}, message="All notifications marked as read")


async def verify_nft(call: Call) -> Answer:
    """Record who owns an NFT, now, whether it is known already or not."""
    ownership = {name: text(call.body, name) for name in ("walletAddress", "contractAddress", "tokenId")}
    nft_id = text(call.body, "nftId")
    nft = await call.db.nftownership.upsert(
        where={"nftId": nft_id},
        data={
            "create": {
                "id": new_key(),
                "nftId": nft_id,
                "walletAddress": ownership["walletAddress"],
                "contractAddress": ownership["contractAddress"],
                "tokenId": ownership["tokenId"],
                "verified": True,
                "lastVerified": call.now,
            },
            "update": {
                "walletAddress": ownership["walletAddress"],
                "contractAddress": ownership["contractAddress"],
                "tokenId": ownership["tokenId"],
                "verified": True,
                "lastVerified": call.now,
            },
        },
    )
    return _succeeded(call.render("nft_ownership", nft), message="NFT verified")


def text(body: Mapping[str, Any], name: str) -> str:
    """A field that must be there and not be blank. Raises Invalid."""
    value = body.get(name)
    if value is None:
        raise Invalid(name, "is required")
    if not isinstance(value, str):
        raise Invalid(name, "must be a string")
    if not value.strip():
        raise Invalid(name, "must not be empty")
    return value


def optional_string(body: Mapping[str, Any], name: str) -> str | None:
    """A field that may be missing or null. Raises Invalid."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Invalid(name, "must be a string")
    return value


def number(query: Mapping[str, str], name: str, otherwise: int, *, most: int = _MOST) -> int:
    """A whole number from 1 to `most`. Raises Invalid."""
    given = query.get(name) or str(otherwise)
    if not re.fullmatch(r"[0-9]{1,9}", given) or not 1 <= int(given) <= most:
        raise Invalid(name, f"must be a whole number from 1 to {most}")
    return int(given)


def _status(value: str) -> VideoStatus:
    if value not in set(VideoStatus):
        raise Invalid("status", f"must be one of {', '.join(VideoStatus)}")
    return VideoStatus(value)


def _wallet(address: str) -> dict[str, str]:
    return {"walletAddress": address}


def _succeeded(data: Any, *, message: str | None = None, **beside: Any) -> Answer:
    said = {} if message is None else {"message": message}
    return Answer({"success": True, "data": data, **beside, **said})
