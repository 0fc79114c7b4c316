"""Indexes of the two sides beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from adapters.mongo.catalogue import LegacyIndex
from adapters.prisma.indexes import PrismaIndex
from proxy.migration.inspection.index_pairs import IndexPair, index_pairs

COLUMNS = {"_id": "_id", "wallet": "wallet_address", "at": "created_at", "kind": "kind"}


def legacy(*keys: str, name: str = "theirs", **options: Any) -> LegacyIndex:
    return LegacyIndex(name, tuple((key, 1) for key in keys), **options)


def prisma(*columns: str, name: str = "ours", **options: Any) -> PrismaIndex:
    return PrismaIndex(name, columns, **options)


def pairs(theirs: Sequence[LegacyIndex], ours: Sequence[PrismaIndex]) -> list[IndexPair]:
    return list(index_pairs(theirs, ours, COLUMNS.get))


@pytest.mark.parametrize(
    ("theirs", "ours", "verdicts"),
    [
        ([legacy("wallet")], [prisma("wallet_address")], ["both"]),
        ([legacy("wallet", unique=True)], [prisma("wallet_address", unique=True)], ["both"]),
        ([legacy("_id", unique=True)], [prisma("_id", unique=True, primary=True)], ["both"]),
        ([legacy("wallet", unique=True)], [prisma("wallet_address")], ["unique in legacy only"]),
        ([legacy("wallet")], [prisma("wallet_address", unique=True)], ["unique in prisma only"]),
        ([legacy("wallet")], [], ["legacy only"]),
        ([], [prisma("wallet_address")], ["prisma only"]),
        ([], [prisma("wallet_address", unique=True)], ["unique in prisma only"]),
        ([legacy("wallet")], [prisma("wallet_address", "created_at")], ["covered", "prisma only"]),
        ([legacy("wallet", "at")], [prisma("wallet_address")], ["legacy only", "covered"]),
        ([legacy("wallet", "at")], [prisma("created_at", "wallet_address")], ["legacy only", "prisma only"]),
        ([legacy("wallet")], [prisma("wallet_address", partial=True)], ["legacy only", "covered"]),
        (
            [legacy("wallet", unique=True)],
            [prisma("wallet_address", "created_at")],
            ["unique in legacy only", "prisma only"],
        ),
        ([legacy("wallet"), legacy("wallet")], [prisma("wallet_address")], ["both", "covered"]),
    ],
)
def test_verdicts(theirs: list[LegacyIndex], ours: list[PrismaIndex], verdicts: list[str]) -> None:
    assert [pair.verdict for pair in pairs(theirs, ours)] == verdicts


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (legacy("at", ttl=3600.0), "3,600 s"),
        (LegacyIndex("t", (("kind", "text"),)), "full-text"),
        (LegacyIndex("h", (("kind", "hashed"),)), "hashed"),
        (LegacyIndex("w", (("$**", 1),)), "wildcard"),
        (legacy("kind", partial=True, unique=True), "not kept unique"),
        (legacy("kind", sparse=True, unique=True), "sparse"),
        (legacy("kind", collation="de"), "collation de"),
        (legacy("kind", hidden=True), "hidden"),
        (legacy("kind", "nowhere"), "no field is mapped to nowhere"),
    ],
)
def test_what_an_index_does_that_no_other_does_is_said(index: LegacyIndex, words: str) -> None:
    pair, *_ = pairs([index], [])
    assert words in "; ".join(pair.notes)
    assert pair.differs


def test_where_nothing_differs_nothing_is_said() -> None:
    [pair] = pairs([legacy("wallet", unique=True)], [prisma("wallet_address", unique=True)])
    assert not pair.differs
    assert (pair.legacy, pair.prisma, pair.fields) == ("theirs", "ours", ("wallet",))
