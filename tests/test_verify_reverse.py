"""Verification where prisma is the primary: the same, the other way round; what is under way is in the marks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from config.model import Stage
from proxy.migration.verification.verification import Status
from tests.settle_case import grounds
from tests.verify_case import ENTITY, Case, Progressed, case_at, kinds, nft


@pytest.fixture(scope="module")
async def stand(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Case]:
    async with (
        grounds(mongo_url, postgres_url, migrated_template) as ground,
        case_at(Stage.LIVE, ground) as found,
    ):
        yield found


@pytest.fixture
async def case(stand: Case) -> Case:
    await stand.clear()
    return stand


async def created(case: Case, count: int) -> list[str]:
    """Rows, and the documents that they are settled to."""
    keys = [await case.bench.create(ENTITY, **nft()) for _ in range(count)]
    await case.bench.settler.settle(ENTITY, keys)
    return sorted(keys)


async def test_what_differs_is_found(case: Case) -> None:
    keys = await created(case, 5)
    assert (await case.verify()).status == Status.CLEAN
    await case.spoil(keys[0])
    await case.lose(keys[1])
    missing = await case.plant()
    await case.bench.stores.engine.execute_raw(
        f'UPDATE "{ENTITY}" SET "lastVerified" = now() WHERE "_id" = $1', keys[2]
    )
    found = await case.verify()
    assert kinds(found) == {keys[0]: "different", keys[1]: "extra", missing: "missing", keys[2]: "different"}
    paths = {finding.key: finding.paths for finding in found.findings.kept}
    assert (paths[keys[0]], paths[keys[2]]) == (("value tokenId",), ("missing lastVerified",))
    assert (found.primary, case.primary) == ("prisma", "prisma")
    assert (await case.run()).done


async def test_a_marked_row_is_waited_for(case: Case) -> None:
    """Its writer has left the mark, and settles it only later: until then the row is no difference."""
    keys = await created(case, 2)
    await case.spoil(keys[0])
    [mark] = await case.bench.stores.prisma.mark(ENTITY, [keys[0]])
    progress = Progressed()
    verifying = asyncio.create_task(case.verify(progress=progress))
    await case.bench.until(lambda: any(counts["suspects"] for counts in progress.shown))
    assert not verifying.done()
    await case.bench.settler.settle(ENTITY, [keys[0]])
    await case.bench.stores.prisma.unmark([mark])
    found = await verifying
    assert (found.status, kinds(found)) == (Status.CLEAN, {})


async def test_repair_goes_the_same_way(case: Case) -> None:
    keys = await created(case, 3)
    await case.spoil(keys[0], "what is true now")
    await case.lose(keys[1])
    missing = await case.plant()
    found = await case.verify(repair=True)
    assert (found.status, found.repaired) == (Status.CLEAN, 3)
    document = await case.bench.document(ENTITY, keys[0])
    assert document is not None
    assert document["tokenId"] == "what is true now"
    assert await case.bench.document(ENTITY, keys[1]) is None
    assert await case.bench.document(ENTITY, missing) is not None
