"""How long a comparison takes, on documents that were read apart: no value of the one is an object of the other."""

from __future__ import annotations

import asyncio
import pickle
import timeit
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from adapters.documents.mapping import Mapper
from bench.figure import Figure
from comparators.compare import compare
from comparators.rules import Rules
from config.model import Compare, Entity
from config.schema import load_schema

_TURNS: Final = 500
_REPEATS: Final = 40
_DOCUMENT: Final[dict[str, Any]] = {
    "id": "65ab65ab65ab65ab65ab65ab",
    "accountId": "65ab65ab65ab65ab65ab65ac",
    "nftId": "nft-1042",
    "jobId": "job-8f14e45f",
    "status": "COMPLETED",
    "title": "A day at sea",
    "videoUrl": "https://cdn.example/videos/8f14e45f.mp4",
    "isPublic": True,
    "createdAt": datetime(2026, 1, 1, 12, tzinfo=UTC),
    "updatedAt": datetime(2026, 1, 2, 12, 30, 0, 123000, tzinfo=UTC),
}
_RULES: Final = Rules.of(Compare(ignore=["views"], tolerance={"updatedAt": timedelta(seconds=1)}, unordered=["tags"]))


async def measure() -> list[Figure]:
    """Takes a few seconds. The fastest of many short runs counts: the slower ones measure what else the machine did."""
    await asyncio.sleep(0)
    later = {**_apart(_DOCUMENT), "updatedAt": _DOCUMENT["updatedAt"] + timedelta(milliseconds=700)}
    page = [{**_DOCUMENT, "id": f"{number:024x}"} for number in range(50)]
    video = Mapper(Entity(collection="videos", model="Video"), *_video())
    row = {**_DOCUMENT, "createdAt": "2026-01-01T12:00:00.000Z", "updatedAt": "2026-01-02T12:30:00.123Z"}
    raw = video.to_legacy(_DOCUMENT)
    return [
        Figure("compare_equal", _comparing(_DOCUMENT, _apart(_DOCUMENT)), "µs", "<= 15"),
        Figure("compare_within_tolerance", _comparing(_DOCUMENT, later), "µs"),
        Figure("compare_page_of_50", _comparing(page, _apart(page)), "µs"),
        Figure("map_row", _microseconds(lambda: video.from_row(row)), "µs"),
        Figure("map_legacy_document", _microseconds(lambda: video.from_legacy(raw)), "µs"),
    ]


def _video() -> Any:
    schema = load_schema()
    return schema.models["Video"], schema


def _comparing(one: Any, other: Any) -> float:
    if compare(one, other, _RULES) is not None:
        raise ValueError("the documents that are compared do not count as the same")
    return _microseconds(lambda: compare(one, other, _RULES))


def _microseconds(work: Any) -> float:
    return min(timeit.repeat(work, number=_TURNS, repeat=_REPEATS)) / _TURNS * 1e6


def _apart(value: Any) -> Any:
    """A copy that shares no object with the original, strings included."""
    return pickle.loads(pickle.dumps(value))


if __name__ == "__main__":
    for figure in asyncio.run(measure()):
        print(f"{figure.name:28} {figure.value:8.2f} {figure.unit}  {figure.goal or ''}")
