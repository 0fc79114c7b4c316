"""Every operation at every stage, by both ways of reaching the legacy side: the answer, who gave it, and what each side
holds once things are quiet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from adapters.side import SideName
from config.model import Stage
from proxy.flags.stages import MEANINGS, Meaning
from tests.proxy_case import Answer, Running, Via, databases, fresh, recorded, running
from tests.subjects import SUBJECTS, Subject

ABSENT = "0" * 24


VIAS: tuple[Via, ...] = ("endpoint", "collection")


@pytest.fixture(scope="module")
async def stands(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Mapping[Via, Running]]:
    async with AsyncExitStack() as stack:
        events, found = stack.enter_context(recorded()), dict[Via, Running]()
        for via in VIAS:
            stores = await stack.enter_async_context(databases(mongo_url, postgres_url, migrated_template))
            found[via] = await stack.enter_async_context(running(server_folder, stores, via=via, events=events))
        yield found


@pytest.fixture(
    scope="module",
    params=[(via, stage) for via in VIAS for stage in Stage],
    ids=[f"{via}-{stage}" for via in VIAS for stage in Stage],
)
async def placed(request: pytest.FixtureRequest, stands: Mapping[Via, Running]) -> tuple[Running, Meaning]:
    via, stage = request.param
    await stands[via].move(stage)
    return stands[via], MEANINGS[stage]


@pytest.fixture(scope="module")
def proxim8(placed: tuple[Running, Meaning]) -> Running:
    return placed[0]


@pytest.fixture(scope="module")
def stage(placed: tuple[Running, Meaning]) -> Meaning:
    return placed[1]


@pytest.fixture(scope="module")
async def owner(proxim8: Running, stage: Meaning) -> tuple[str, str]:
    """The wallet and the key of an account that was made at this stage."""
    return await proxim8.account()


each = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.entity)


@each
async def test_create(proxim8: Running, stage: Meaning, owner: tuple[str, str], subject: Subject) -> None:
    wallet, account = owner
    given = subject.make(fresh(), account)
    answer = await proxim8.ask("POST", subject.create, given, wallet=wallet)
    assert answer.status == subject.created
    assert_answered_by(proxim8, stage, answer)
    assert given.items() <= answer.data.items()

    key = answer.data[subject.id]
    held = await assert_held(proxim8, stage, subject, key)
    assert held is not None
    assert given.items() <= held.items()
    assert held["createdAt"] == held["updatedAt"]


@each
async def test_update(proxim8: Running, stage: Meaning, owner: tuple[str, str], subject: Subject) -> None:
    key = await proxim8.create(subject, *owner)
    before = await assert_held(proxim8, stage, subject, key)
    body, expected = subject.change(fresh())
    answer = await proxim8.ask("PATCH", subject.update.format(key), body)
    assert answer.status == 200
    assert_answered_by(proxim8, stage, answer)

    after = await assert_held(proxim8, stage, subject, key)
    assert before is not None
    assert after is not None
    emptied = {name for name, value in body.items() if value is None}
    unchanged = {name: value for name, value in before.items() if name not in (*expected, *emptied, "updatedAt")}
    assert after == {**unchanged, **expected, "updatedAt": after["updatedAt"]}
    assert after["updatedAt"] >= before["updatedAt"]
    assert expected.items() <= answer.data.items()


@each
async def test_delete(proxim8: Running, stage: Meaning, owner: tuple[str, str], subject: Subject) -> None:
    key = await proxim8.create(subject, *owner)
    assert await assert_held(proxim8, stage, subject, key) is not None
    answer = await proxim8.ask("DELETE", f"{subject.path}/{key}")
    assert answer.status == 200
    assert answer.data[subject.id] == key
    assert_answered_by(proxim8, stage, answer)

    assert await assert_held(proxim8, stage, subject, key) is None
    assert (await proxim8.ask("GET", f"{subject.path}/{key}")).status == 404
    assert (await proxim8.ask("DELETE", f"{subject.path}/{key}")).status == 404


@each
async def test_read(proxim8: Running, stage: Meaning, owner: tuple[str, str], subject: Subject) -> None:
    key = await proxim8.create(subject, *owner)
    held = await assert_held(proxim8, stage, subject, key)
    assert held is not None
    compared = await judged(proxim8, subject, "read")
    answer = await proxim8.ask("GET", f"{subject.path}/{key}")
    assert answer.status == 200
    assert_answered_by(proxim8, stage, answer)
    plain = {
        name: value for name, value in held.items() if name not in ("_id", "createdAt", "updatedAt", "lastVerified")
    }
    assert plain.items() <= answer.data.items()
    assert await judged(proxim8, subject, "read") == compared + (1 if stage.compares else 0)


@each
async def test_a_read_is_served_by_the_primary(
    proxim8: Running, stage: Meaning, owner: tuple[str, str], subject: Subject
) -> None:
    key = await proxim8.create(subject, *owner)
    before = await assert_held(proxim8, stage, subject, key)
    assert before is not None
    name = next(iter(subject.make("", "")))
    name = "title" if subject.entity == "notification" else name
    plant = proxim8.change_row if stage.secondary == "prisma" else proxim8.change_document
    if stage.settles:
        # What differs is on the secondary: it must not be seen.
        await plant(subject.entity, key, **{name: f"planted {key}"})
    answer = await proxim8.ask("GET", f"{subject.path}/{key}")
    assert answer.data[name] == before[name]
    if stage.settles and stage.secondary == "legacy":
        # The change stream has told of it: it is reported, and overwritten.
        await proxim8.until(lambda: bool(proxim8.said("legacy_changed", entity=subject.entity, key=key)), "a report")
        assert await assert_held(proxim8, stage, subject, key) == before
    elif stage.settles:
        # Nobody tells of a change of a row: only a comparison finds it.
        await proxim8.quiet()
        mismatches = proxim8.said("mismatch", entity=subject.entity, key=key)
        assert len(mismatches) == (1 if stage.compares else 0)
        await plant(subject.entity, key, **{name: before[name]})


@each
async def test_list(proxim8: Running, stage: Meaning, owner: tuple[str, str], subject: Subject) -> None:
    wallet, account = owner
    keys = [await proxim8.create(subject, wallet, account) for _ in range(3)]
    await proxim8.quiet()
    compared = await judged(proxim8, subject, "list")
    answer = await proxim8.ask("GET", subject.listed(account, wallet), wallet=wallet)
    assert answer.status == 200
    found = [document[subject.id] for document in answer.data]
    assert [key for key in found if key in keys] == sorted(keys, key=found.index)
    assert set(keys) <= set(found)
    created = [(document["createdAt"], document[subject.id]) for document in answer.data]
    assert created == sorted(created, reverse=True)
    assert await judged(proxim8, subject, "list") == compared + (1 if stage.compares else 0)


@each
async def test_what_is_not_there_is_not_found(proxim8: Running, stage: Meaning, subject: Subject) -> None:
    body, _ = subject.change("absent")
    for method, path in (
        ("GET", f"{subject.path}/{ABSENT}"),
        ("PATCH", subject.update.format(ABSENT)),
        ("DELETE", f"{subject.path}/{ABSENT}"),
    ):
        answer = await proxim8.ask(method, path, body if method == "PATCH" else None)
        assert (answer.status, answer.body["success"]) == (404, False)
        assert "not found" in answer.body["error"]
    await proxim8.quiet()
    assert await proxim8.marks(subject.entity) == {"legacy": 0, "prisma": 0}


def assert_answered_by(proxim8: Running, stage: Meaning, answer: Answer) -> None:
    """An old server while legacy is the primary and reached by way of it, the proxy otherwise."""
    assert answer.forwarded == (stage.primary == "legacy" and bool(proxim8.old))
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


async def assert_held(proxim8: Running, stage: Meaning, subject: Subject, key: str) -> dict[str, Any] | None:
    """What the primary holds of the key, once the secondary holds the same, or nothing where nothing goes there."""
    await proxim8.quiet()
    entity = subject.entity
    held = {"legacy": await proxim8.on_legacy(entity, key), "prisma": await proxim8.on_prisma(entity, key)}
    assert held[stage.secondary] == (held[stage.primary] if stage.settles else None)
    assert await proxim8.marks() == {"legacy": 0, "prisma": 0}
    secondary: SideName = stage.secondary
    assert (await proxim8.fence(secondary, entity, key) is not None) == stage.settles
    assert await proxim8.fence(stage.primary, entity, key) is None
    return held[stage.primary]


async def judged(proxim8: Running, subject: Subject, do: str) -> int:
    """Comparisons of this operation that found both sides equal."""
    await proxim8.quiet()
    compared = proxim8.compared(subject.entity, do=do)
    return compared.get("equal", 0)
