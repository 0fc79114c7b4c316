"""The generated client on our engine, over empty tables of the product's own models."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from prisma import Prisma
from prisma.enums import VideoStatus
from prisma.models import Video

from adapters.client import client
from adapters.engine import Engine

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def key(n: int) -> str:
    return f"{n:024x}"


@pytest.fixture(scope="module")
async def engine(module_database_url: str) -> AsyncIterator[Engine]:
    engine = Engine(module_database_url)
    await engine.connect()
    yield engine
    await engine.disconnect()


@pytest.fixture
async def db(engine: Engine) -> Prisma:
    db = client(engine)
    await db.notification.delete_many()
    await db.video.delete_many()
    await db.profile.delete_many()
    await db.account.delete_many()
    return db


@pytest.fixture
async def videos(db: Prisma) -> list[Video]:
    """Six videos of two accounts, made a day apart."""
    await db.account.create_many([{"id": key(n), "walletAddress": f"0x{n}"} for n in (1, 2)])
    states = [VideoStatus.PENDING, VideoStatus.COMPLETED, VideoStatus.FAILED]
    for n in range(6):
        await db.video.create(
            {
                "id": key(100 + n),
                "accountId": key(1 + n % 2),
                "nftId": f"nft-{n // 2}",
                "jobId": f"job-{n}",
                "status": states[n % 3],
                "title": f"Video {n}" if n else None,
                "isPublic": n > 3,
                "createdAt": DAY + timedelta(days=n),
            }
        )
    return await db.video.find_many(order={"id": "asc"})
