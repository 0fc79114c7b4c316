"""Sample documents of Proxim8's legacy collections: ordinary ones, and those that years of two servers have left behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS

Document = dict[str, Any]

FIRST_ID: Final = ObjectId("5eed" + "0" * 20)
LAST_ID: Final = ObjectId("5eed" + "f" * 20)
"""All samples have ids between these two, but the one whose id is no ObjectId."""
NO_ID: Final = "a-name-for-an-id"

CREATED: Final = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
STATUSES: Final = ("PENDING", "PROCESSING", "COMPLETED", "FAILED")
NOBODY: Final = ObjectId("5eed" + "e" * 20)


@dataclass(frozen=True, slots=True)
class Sample:
    """`why` says what is awkward about it; `refused` what a backfill says of it first, where Prisma cannot have it."""

    collection: str
    document: Document
    why: str = ""
    refused: str = ""


def sample_id(number: int) -> ObjectId:
    return ObjectId(f"5eed{number:020x}")


def samples(videos: int) -> Iterator[Sample]:
    """Parents first. So many of the videos are ordinary."""
    yield from _accounts()
    yield from _users()
    yield from _profiles()
    yield from _videos(videos)
    yield from _notifications()
    yield from _nfts()


def _times(minutes: int = 0) -> Document:
    at = CREATED + timedelta(minutes=minutes)
    return {"createdAt": at, "updatedAt": at}


def _wallet(number: int) -> str:
    return f"0x{number:040x}"


def _accounts() -> Iterator[Sample]:
    for number in range(1, 6):
        yield Sample("accounts", {"_id": sample_id(number), "walletAddress": _wallet(number), **_times(number)})
    old = datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
    yield Sample(
        "accounts",
        {
            "_id": sample_id(6),
            "walletAddress": _wallet(6),
            **_times(),
            "createdAt": old,
            "score": float("nan"),
            "__v": 0,
        },
        "created before 1970, with fields that no model has",
    )


def _users() -> Iterator[Sample]:
    """The other server's list of the same people, known by their wallets; the last of them has no account."""
    for number in (1, 2, 7):
        user = {"_id": sample_id(0x100 + number), "walletAddress": _wallet(number), **_times(-number), "metBy": "core"}
        yield Sample("users", user, "a user without an account" if number == 7 else "")


def _profiles() -> Iterator[Sample]:
    def profile(number: int, why: str = "", refused: str = "", **fields: Any) -> Sample:
        known = {"accountId": sample_id(number % 6 + 1), "username": f"user-{number}", **_times(number), **fields}
        return Sample("profiles", {"_id": sample_id(0x200 + number), **known}, why, refused)

    yield profile(1, username="ada", bio="Collects engines", avatar="https://cdn.example/ada.png")
    yield profile(2, username="grace")
    yield profile(3, "null for missing", bio=None, avatar=None)
    yield profile(4, "empty and combined characters", bio="", username="e\u0301lan 👩‍👩‍👧")
    yield profile(5, "the character NUL", "bio: ", bio="cut\0short")
    yield profile(6, "of an account that is not there", "accountId ", accountId=NOBODY)
    yield profile(7, "a reference as text", "accountId: ", accountId=str(sample_id(1)))
    yield profile(8, "a name that is taken, where no index kept it out", "username ", username="ada")


def _videos(ordinary: int) -> Iterator[Sample]:
    def video(number: int, why: str = "", refused: str = "", **fields: Any) -> Sample:
        known = {
            "accountId": sample_id(number % 5 + 1),
            "nftId": f"nft-{number % 50}",
            "jobId": f"job-{number}",
            "status": STATUSES[number % 4],
            "title": f"Sample {number}",
            "isPublic": number % 3 == 0,
        }
        return Sample("videos", {"_id": sample_id(0x10000 + number), **known, **_times(number), **fields}, why, refused)

    yield from (video(number) for number in range(ordinary))
    awkward = 0x1000000
    yield video(awkward + 1, "a long text", description="long " * 2000, title=None)
    yield video(awkward + 2, "a status in lower case", "status: ", status="completed")
    yield video(awkward + 3, "1 for true", "isPublic: ", isPublic=1)
    yield video(awkward + 4, "a number for a title", "title: ", title=7)
    yield video(awkward + 5, "a date in the year 10000", "createdAt: ", createdAt=DatetimeMS(253402300800000))
    yield video(awkward + 6, "no date at all", "updatedAt: ", updatedAt=None)


def _notifications() -> Iterator[Sample]:
    def note(number: int, why: str = "", refused: str = "", **fields: Any) -> Sample:
        known = {
            "accountId": sample_id(number % 5 + 1),
            "type": "VIDEO_COMPLETED",
            "title": "Ready",
            "message": f"Message {number}",
            "isRead": number % 2 == 0,
        }
        return Sample(
            "notifications", {"_id": sample_id(0x300 + number), **known, **_times(number), **fields}, why, refused
        )

    yield note(1, data={"videoId": str(sample_id(0x10000))})
    yield note(2, type="SYSTEM_ANNOUNCEMENT", title="Hello", message="Welcome aboard")
    yield note(3, "every type of BSON", data=_every_type())
    yield note(4, "an empty object", data={})
    yield note(5, "a text where objects are", data="plain")
    yield note(6, "an object that reads like Extended JSON", "data.by: ", data={"by": {"$oid": "somebody"}})
    yield note(7, "a kind that is no more", "type: ", type="FRIEND_REQUEST")
    yield note(8, "an id that is no ObjectId", "id: ", _id=NO_ID)


def _every_type() -> Document:
    return {
        "whole": 3.0,
        "far": Int64(2**60),
        "minus zero": -0.0,
        "nothing": [float("nan"), float("inf"), None],
        "exact": Decimal128("1.50"),
        "who": sample_id(1),
        "when": CREATED,
        "bytes": Binary(b"\0\xff", 5),
        "pattern": Regex("^a", "i"),
        "clock": Timestamp(1768469400, 1),
        "": {"b": 1, "a": []},
    }


def _nfts() -> Iterator[Sample]:
    def nft(number: int, why: str = "", refused: str = "", **fields: Any) -> Sample:
        known = {
            "nftId": f"nft-{number}",
            "walletAddress": _wallet(number),
            "contractAddress": "0xc0de",
            "tokenId": str(number),
            "verified": True,
            "lastVerified": CREATED,
        }
        return Sample(
            "nft_ownership", {"_id": sample_id(0x400 + number), **known, **_times(number), **fields}, why, refused
        )

    yield nft(1)
    yield nft(2, verified=False, lastVerified=None)
    yield nft(3, "digits with zeros before them", tokenId="007")
    yield nft(4, "a number for digits", "tokenId: ", tokenId=7)
    yield nft(5, "neither verified nor not", "verified: ", verified=None)
