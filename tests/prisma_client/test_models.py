"""Records through the generated client on our engine: create, find, update, delete, count and group."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import prisma
import pytest
from prisma import Json, Prisma, errors
from prisma.enums import NotificationType, VideoStatus
from prisma.models import Account, Video

from adapters.client import client
from adapters.engine import Call, Engine
from tests.prisma_client.conftest import DAY, key


def jobs(found: list[Video]) -> list[str]:
    return [video.jobId.removeprefix("job-") for video in found]


async def test_create_with_related_records_and_include(db: Prisma) -> None:
    made = await db.account.create(
        {"id": key(1), "walletAddress": "0x1", "profiles": {"create": [{"id": key(2), "username": "ada"}]}},
        include={"profiles": True, "videos": True},
    )
    assert isinstance(made, Account)
    assert made.profiles is not None
    assert [profile.username for profile in made.profiles] == ["ada"]
    assert (made.videos, made.notifications) == ([], None)
    assert made.createdAt.tzinfo is not None
    assert abs(made.createdAt - datetime.now(UTC)) < timedelta(minutes=5)


async def test_create_many_and_skip_duplicates(db: Prisma) -> None:
    rows: Any = [{"id": key(n), "walletAddress": f"0x{n}"} for n in range(3)]
    assert await db.account.create_many(rows) == 3
    assert await db.account.create_many([*rows, {"id": key(9), "walletAddress": "0x9"}], skip_duplicates=True) == 1
    with pytest.raises(errors.UniqueViolationError):
        await db.account.create_many(rows)
    assert await db.account.count() == 4


async def test_find_unique_and_first(db: Prisma, videos: list[Video]) -> None:
    found = await db.video.find_unique({"jobId": "job-3"})
    assert found == videos[3]
    assert found is not None
    assert found.createdAt == DAY + timedelta(days=3)
    assert found.status == VideoStatus.PENDING
    assert await db.video.find_unique({"id": "none"}) is None
    assert await db.video.find_unique_or_raise({"id": videos[0].id}) == videos[0]
    first = await db.video.find_first(where={"isPublic": True}, order={"createdAt": "desc"})
    assert first == videos[5]
    assert await db.video.find_first(where={"jobId": "none"}) is None
    assert await db.video.find_first_or_raise(skip=1, order={"createdAt": "asc"}) == videos[1]
    for missing in (db.video.find_unique_or_raise({"id": "none"}), db.video.find_first_or_raise(skip=99)):
        with pytest.raises(errors.RecordNotFoundError):
            await missing


async def test_pages_by_take_skip_and_cursor(db: Prisma, videos: list[Video]) -> None:
    def page(**options: Any) -> Any:
        return db.video.find_many(order={"createdAt": "desc"}, **options)

    assert jobs(await page(take=2)) == ["5", "4"]
    assert jobs(await page(take=2, skip=2)) == ["3", "2"]
    assert jobs(await page(take=2, skip=1, cursor={"id": videos[4].id})) == ["3", "2"]
    assert jobs(await page(take=-2, cursor={"id": videos[2].id})) == ["3", "2"]
    several = await db.video.find_many(order=[{"nftId": "asc"}, {"createdAt": "desc"}])
    assert jobs(several) == ["1", "0", "3", "2", "5", "4"]
    assert jobs(await db.video.find_many(distinct=["nftId"], order={"createdAt": "asc"})) == ["0", "2", "4"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"status": "FAILED"}, "25"),
        ({"status": {"in": ["FAILED", "PENDING"]}}, "0235"),
        ({"status": {"not_in": ["FAILED", "PENDING"]}}, "14"),
        ({"status": {"not": VideoStatus.FAILED}}, "0134"),
        ({"title": None}, "0"),
        ({"title": {"not": None}}, "12345"),
        ({"title": {"startswith": "Video", "endswith": "3"}}, "3"),
        ({"title": {"contains": "vIDEO 4", "mode": "insensitive"}}, "4"),
        ({"createdAt": {"gt": DAY + timedelta(days=1), "lte": DAY + timedelta(days=3)}}, "23"),
        ({"createdAt": DAY}, "0"),
        ({"AND": [{"isPublic": True}, {"nftId": "nft-2"}]}, "45"),
        ({"OR": [{"jobId": "job-1"}, {"AND": [{"isPublic": True}, {"status": "FAILED"}]}]}, "15"),
        ({"NOT": [{"isPublic": True}, {"status": "PENDING"}]}, "12"),
        ({"account": {"is": {"walletAddress": "0x2"}}}, "135"),
        ({"account": {"is_not": {"walletAddress": "0x2"}}}, "024"),
        ({"account": {"is": {"videos": {"some": {"jobId": "job-0"}}}}}, "024"),
    ],
)
async def test_filters(db: Prisma, videos: list[Video], where: Any, expected: str) -> None:
    found = await db.video.find_many(where=where, order={"createdAt": "asc"})
    assert "".join(jobs(found)) == expected
    assert await db.video.count(where=where) == len(expected)


async def test_filters_over_lists_of_relations(db: Prisma, videos: list[Video]) -> None:
    await db.account.create({"id": key(3), "walletAddress": "0x3"})

    async def accounts(where: Any) -> list[str]:
        return [a.walletAddress for a in await db.account.find_many(where={"videos": where}, order={"id": "asc"})]

    assert await accounts({"some": {"isPublic": True}}) == ["0x1", "0x2"]
    assert await accounts({"none": {"jobId": "job-1"}}) == ["0x1", "0x3"]
    assert await accounts({"every": {"jobId": {"in": ["job-0", "job-2", "job-4"]}}}) == ["0x1", "0x3"]


async def test_include_with_options_nested(db: Prisma, videos: list[Video]) -> None:
    latest: Any = {"videos": {"take": 2, "order_by": {"createdAt": "desc"}, "include": {"account": True}}}
    account = await db.account.find_unique_or_raise({"id": key(1)}, include=latest)
    assert account.videos is not None
    assert jobs(account.videos) == ["4", "2"]
    assert account.videos[0].account == account.model_copy(update={"videos": None})
    public: Any = {"videos": {"where": {"isPublic": True}}, "profiles": False}
    account = await db.account.find_unique_or_raise({"id": key(1)}, include=public)
    assert jobs(account.videos or []) == ["4"]
    assert account.profiles is None
    nothing: Any = {"nothing": True}
    with pytest.raises(errors.UnknownRelationalFieldError):
        await db.account.find_many(include=nothing)


async def test_update_and_delete(db: Prisma, videos: list[Video]) -> None:
    changed = await db.video.update(
        {"status": VideoStatus.PROCESSING, "title": None, "account": {"connect": {"id": key(2)}}},
        where={"id": videos[2].id},
        include={"account": True},
    )
    assert changed is not None
    assert changed.account is not None
    assert (changed.status, changed.title, changed.account.walletAddress) == ("PROCESSING", None, "0x2")
    assert changed.updatedAt > videos[2].updatedAt
    assert await db.video.update({"title": "x"}, where={"id": "none"}) is None
    assert await db.video.update_many({"isPublic": True}, where={"accountId": key(2)}) == 4
    deleted = await db.video.delete({"jobId": "job-0"})
    assert deleted == videos[0]
    assert await db.video.delete({"jobId": "job-0"}) is None
    assert await db.video.delete_many({"accountId": key(2)}) == 4
    assert jobs(await db.video.find_many()) == ["4"]


async def test_upsert_creates_then_updates(db: Prisma) -> None:
    for n, name in enumerate(("0x1", "0x2")):
        account = await db.account.upsert(
            {"id": key(1)}, {"create": {"id": key(1), "walletAddress": "0x1"}, "update": {"walletAddress": "0x2"}}
        )
        assert account.walletAddress == name
        assert await db.account.count() == 1, n


async def test_count_and_group_by(db: Any, videos: list[Video]) -> None:
    assert await db.video.count(select={"_all": True, "title": True}) == {"_all": 6, "title": 5}
    assert await db.video.count(take=4, skip=1) == 4
    groups = await db.video.group_by(
        ["accountId"],
        count={"_all": True, "title": True},
        min={"createdAt": True},
        max={"jobId": True},
        where={"isPublic": False},
        order={"accountId": "desc"},
    )
    assert groups == [
        {
            "accountId": key(account),
            "_count": {"_all": 2, "title": titles},
            "_min": {"createdAt": (DAY + timedelta(days=account - 1)).isoformat(timespec="milliseconds")[:23] + "Z"},
            "_max": {"jobId": f"job-{account + 1}"},
        }
        for account, titles in ((2, 2), (1, 1))
    ]
    popular = await db.video.group_by(
        ["status", "isPublic"], count=True, having={"isPublic": {"equals": True}}, order={"status": "asc"}
    )
    assert [(g["status"], g["_count"]["_all"]) for g in popular] == [("COMPLETED", 1), ("FAILED", 1)]
    with pytest.raises(TypeError, match="order"):
        await db.video.group_by(["status"], take=1)


async def test_json_and_enums(db: Any) -> None:
    await db.account.create({"id": key(1), "walletAddress": "0x1"})
    data: Any = {"videoId": key(9), "big": 2**60, "nested": [1.5, None, {"$type": "Json"}], "when": DAY.isoformat()}
    values = [Json(data), Json(["a"]), Json("text"), Json(None), None]
    for n, value in enumerate(values):
        made = await db.notification.create(
            {"id": key(n), "accountId": key(1), "type": NotificationType.VIDEO_FAILED, "title": "t", "message": "m"}
            | ({"data": value} if value is not None else {})
        )
        assert made.data == (value.data if value is not None else None)
        assert made.type == NotificationType.VIDEO_FAILED
    same = await db.notification.find_many(where={"data": {"equals": Json(data)}})
    assert [n.id for n in same] == [key(0)]
    inside: Any = {"data": {"path": ["videoId"], "equals": Json(key(9))}}
    assert [n.id for n in await db.notification.find_many(where=inside)] == [key(0)]
    new: Any = {"new": True}
    changed = await db.notification.update({"data": Json(new)}, where={"id": key(1)})
    assert changed is not None
    assert changed.data == {"new": True}


async def test_models_with_fewer_fields_are_read_with_fewer_columns(
    db: Prisma, engine: Engine, videos: list[Video]
) -> None:
    from prisma.bases import BaseAccount, BaseVideo

    class Slim(BaseAccount):
        id: str
        walletAddress: str

    class Clip(BaseVideo):
        jobId: str
        account: Slim | None = None

    calls: list[Call] = []
    watched = client(engine, observe=lambda call, result, tx: calls.append(call))
    prisma.register(watched)
    clip = await Clip.prisma().find_unique_or_raise({"jobId": "job-1"}, include={"account": True})
    assert clip == Clip(jobId="job-1", account=Slim(id=key(2), walletAddress="0x2"))
    assert calls[0].args["select"] == {"jobId": True, "account": {"select": {"id": True, "walletAddress": True}}}
    assert prisma.get_client() is watched
