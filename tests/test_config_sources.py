"""Mistakes in what a configuration says of several sources: one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.config_case import GOOD, broken, faults, only

ALSO: Final = "also: [{collection: users, by: walletAddress, fields: {nick: {from: name}}, lacks: []}]"
REFERS: Final = "accountId: {legacy: objectId, refers: users}"
SEVERAL: Final = (
    broken("    model: Account\n", f"    model: Account\n    {ALSO}\n    merge: {{nick: [users]}}\n")
    .replace("accountId: {legacy: objectId}", REFERS)
    .replace("title: {from: info.title}", "title: {from: info.title}")
)


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert faults(tmp_path, SEVERAL, collections={"accounts", "users", "videos", "notes"}) == []


def test_a_further_collection_that_the_database_lacks(tmp_path: Path) -> None:
    line = only(faults(tmp_path, SEVERAL, collections={"accounts", "videos", "notes"}))
    assert line.startswith("11: entities.account.also[0].collection: unknown collection 'users';")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("collection: users", "collection: videos", "two entities with one collection; the other is"),
        ("collection: users", "collection: strangler_users", "expected a collection of the application, unlike"),
        ("by: walletAddress", "by: wallet", "also[0].by: unknown field of model Account 'wallet';"),
        ("by: walletAddress", "by: nick", "also[0].by: expected a unique String field of model Account, unlike 'nick'"),
        (
            "fields: {nick: {from: name}}",
            "fields: {walletAddress: {functions: {to_prisma: 'tests.config_case:convert', "
            "to_legacy: 'tests.config_case:convert'}}}",
            "fields.walletAddress: documents are found by it; expected neither split nor functions",
        ),
        (
            "fields: {nick: {from: name}}",
            "fields: {id: {legacy: string}}",
            "fields.id.legacy: ids of several collections have to be ObjectIds",
        ),
        ("fields: {nick: {from: name}}", "fields: {nik: {from: name}}", "fields.nik: unknown field of model Account;"),
        ("lacks: []", "lacks: [nik]", "lacks[0]: unknown field of model Account 'nik';"),
        ("lacks: []", "lacks: [walletAddress]", "every collection has the id and the natural key, and so"),
        ("lacks: []}]", "lacks: [nick]}]\n    lacks: [nick]", "no collection is left that has 'nick'"),
        ("nick: [users]", "nick: earliest", "merge.nick: expected a date for earliest; nick is String"),
        ("nick: [users]", "nik: [users]", "merge.nik: unknown field of model Account;"),
        ("nick: [users]", "walletAddress: [users]", "merge.walletAddress: the id and the natural key are not merged"),
        ("nick: [users]", "nick: [users, users]", "merge.nick[1]: unknown collection of the entity 'users';"),
        ("refers: users", "refers: user", "refers: unknown collection of that entity 'user'; did you mean users?"),
        (
            "title: {from: info.title}",
            "title: {refers: users}",
            "title is no field that refers to an entity with several",
        ),
        (
            '- {on: "GET /api/accounts/{id}", do: read, ',
            '- {on: "GET /api/accounts/{id}", do: read, upstream: other, ',
            "upstream: unknown upstream 'other';",
        ),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert SEVERAL.count(old) == 1
    assert expected in "\n".join(faults(tmp_path, SEVERAL.replace(old, new)))


def test_several_collections_are_reached_through_an_endpoint(tmp_path: Path) -> None:
    text = SEVERAL.replace(
        'legacy: {via: endpoint, upstream: core}\n    routes:\n      - {on: "GET /api/accounts',
        'routes:\n      - {on: "GET /api/accounts',
    )
    assert "entities.account.legacy.via: several collections are reached via: endpoint only" in "\n".join(
        faults(tmp_path, text)
    )


def test_lacks_and_merge_alone_mean_nothing(tmp_path: Path) -> None:
    text = GOOD.replace("    model: Note\n", "    model: Note\n    lacks: [text]\n    merge: {at: earliest}\n")
    assert [line.split(": ", 2)[1:] for line in faults(tmp_path, text)] == [
        [f"entities.note.{key}", "has a meaning only with also, further collections"] for key in ("lacks", "merge")
    ]


def test_the_natural_key_is_what_wallets_are_found_by(tmp_path: Path) -> None:
    text = SEVERAL.replace("field: walletAddress", "field: id")
    assert "auth.wallet.field: the documents of account are found by walletAddress; expected that field" in "\n".join(
        faults(tmp_path, text)
    )
