"""Proxim8's accounts, of which core keeps some as users too: through the proxy, there and back, before the old servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bson import ObjectId

from config.model import Stage
from examples.proxim8.client import Client
from examples.proxim8.overlap import meet
from examples.proxim8.tally import Tally
from tests.proxy_case import Running, fresh, standing
from tests.subjects import VIDEO, Json


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template) as proxim8:
        await proxim8.move(Stage.SHADOW)
        yield proxim8


@pytest.fixture
async def shadow(stand: Running) -> AsyncIterator[Running]:
    await stand.move(Stage.SHADOW)
    yield stand
    await stand.quiet()


@pytest.fixture
async def live(stand: Running) -> AsyncIterator[Running]:
    await stand.move(Stage.LIVE)
    yield stand
    await stand.quiet()


async def user_of(proxim8: Running, wallet: str) -> Json | None:
    return await proxim8.legacy["users"].find_one({"walletAddress": wallet})


async def keys_of(proxim8: Running, *wallets: str) -> list[str]:
    statement = 'SELECT "_id" AS id FROM "accounts" WHERE "walletAddress" = $1'
    return [row["id"] for wallet in wallets for row in await proxim8.sql(statement, wallet)]


async def rename(proxim8: Running, key: str) -> str:
    wallet = f"0x{fresh()}"
    answer = await proxim8.ask("PATCH", f"/api/accounts/{key}", {"walletAddress": wallet})
    assert (answer.status, answer.data["_id"], answer.data["walletAddress"]) == (200, key, wallet)
    return wallet


async def test_whom_core_has_met_is_one_account(shadow: Running) -> None:
    wallet, key = await shadow.account()
    await shadow.quiet()
    user = await user_of(shadow, wallet)
    assert user is not None
    assert user["_id"] != ObjectId(key)
    assert await keys_of(shadow, wallet) == [key]


async def test_whom_only_proxim8_has_met_is_an_account_too(shadow: Running) -> None:
    wallet = f"0x{fresh()}"
    assert (await shadow.ask("POST", VIDEO.create, VIDEO.make(fresh(), ""), wallet=wallet)).status == VIDEO.created
    await shadow.quiet()
    assert await user_of(shadow, wallet) is None
    assert len(await keys_of(shadow, wallet)) == 1


async def test_a_wallet_that_changes_in_both_keeps_its_account(shadow: Running) -> None:
    wallet, key = await shadow.account()
    renamed = await rename(shadow, key)
    await shadow.quiet()
    assert await keys_of(shadow, wallet, renamed) == [key]
    assert (await user_of(shadow, wallet), (await user_of(shadow, renamed) or {})["metBy"]) == (None, "core")


async def test_an_account_that_both_lose_is_gone(shadow: Running) -> None:
    wallet, key = await shadow.account()
    await shadow.quiet()
    assert (await shadow.ask("DELETE", f"/api/accounts/{key}")).status == 200
    await shadow.quiet()
    assert (await keys_of(shadow, wallet), await user_of(shadow, wallet)) == ([], None)


async def test_a_change_at_live_goes_back_to_both(live: Running) -> None:
    await live.move(Stage.SHADOW, ["account"])
    wallet, key = await live.account()
    before = await user_of(live, wallet)
    assert before is not None
    await live.quiet()
    await live.move(Stage.LIVE, ["account"])
    renamed = await rename(live, key)
    await live.quiet()
    after = await user_of(live, renamed)
    assert after is not None
    account = await live.on_legacy("account", key)
    assert account == await live.on_prisma("account", key)
    assert account is not None
    changed = {"walletAddress": renamed, "updatedAt": account["updatedAt"].replace(tzinfo=None)}
    assert after == {**before, **changed}
    assert not live.said("legacy_changed", entity="account")


async def test_an_account_that_is_deleted_at_live_is_gone_from_both(live: Running) -> None:
    await live.move(Stage.SHADOW, ["account"])
    wallet, key = await live.account()
    await live.quiet()
    await live.move(Stage.LIVE, ["account"])
    assert (await live.ask("DELETE", f"/api/accounts/{key}")).status == 200
    await live.quiet()
    assert (await user_of(live, wallet), await live.on_legacy("account", key)) == (None, None)


async def test_an_account_made_at_live_is_in_the_first_collection_and_back_at_shadow_core_finds_it(
    live: Running,
) -> None:
    wallet, key = await live.account()
    await live.quiet()
    assert (await live.on_legacy("account", key) or {})["walletAddress"] == wallet
    assert await user_of(live, wallet) is None
    await live.move(Stage.SHADOW)
    answer = await live.ask("GET", f"/api/accounts/wallet/{wallet}")
    assert (answer.status, answer.forwarded, answer.data["_id"]) == (200, True, key)


async def test_what_the_demo_shows(live: Running) -> None:
    await live.move(Stage.SHADOW, ["account"])
    client = Client(live.url, live.session, Tally(), live.secret)
    met = await meet(client, live.environment["MONGO_URL"])
    await live.quiet()
    await live.move(Stage.LIVE, ["account"])
    assert await met.rename(client)


async def test_both_sides_agree_in_the_end(shadow: Running) -> None:
    await shadow.quiet()
    await shadow.verify("account")
    assert await shadow.marks() == {"legacy": 0, "prisma": 0}
    assert not shadow.said("mismatch", entity="account")
