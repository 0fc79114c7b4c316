"""Callers known by their wallets: a verified token finds or creates the account, on both sides; nothing else does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from bson import ObjectId

from config.model import Stage
from tests.proxy_case import Running, fresh, standing
from tests.subjects import PROFILE, VIDEO

NO_MARKS = {"legacy": 0, "prisma": 0}


@pytest.fixture(scope="module")
async def stand(
    server_folder: Path, mongo_url: str, postgres_url: str, migrated_template: str
) -> AsyncIterator[Running]:
    async with standing(server_folder, mongo_url, postgres_url, migrated_template) as proxim8:
        await proxim8.move(Stage.SHADOW)
        yield proxim8


@pytest.fixture(
    scope="module",
    params=[
        (Stage.SHADOW, Stage.SHADOW),
        (Stage.SHADOW, Stage.LIVE),
        (Stage.LIVE, Stage.LIVE),
        (Stage.LIVE, Stage.SHADOW),
    ],
    ids=lambda stages: f"accounts {stages[0]}, others {stages[1]}",
)
async def proxim8(request: pytest.FixtureRequest, stand: Running) -> Running:
    accounts, others = request.param
    await stand.move(accounts, ["account"])
    await stand.move(others, ["profile", "video", "notification"])
    return stand


async def accounts_of(proxim8: Running, wallet: str) -> tuple[int, int]:
    """How many accounts each side has for this wallet."""
    rows = await proxim8.sql('SELECT count(*)::int AS n FROM "accounts" WHERE "walletAddress" = $1', wallet)
    return await proxim8.legacy["accounts"].count_documents({"walletAddress": wallet}), rows[0]["n"]


async def test_a_new_wallet_gets_an_account_on_both_sides(proxim8: Running) -> None:
    wallet = f"0x{fresh()}"
    answer = await proxim8.ask("POST", PROFILE.create, PROFILE.make(fresh(), ""), wallet=wallet)
    assert answer.status == 201, answer.body
    await proxim8.quiet()
    account = await proxim8.on_legacy("account", answer.data["accountId"])
    assert account is not None
    assert account["walletAddress"] == wallet
    assert await proxim8.on_prisma("account", answer.data["accountId"]) == account
    assert await proxim8.on_legacy("profile", answer.data["_id"]) == await proxim8.on_prisma(
        "profile", answer.data["_id"]
    )
    assert await accounts_of(proxim8, wallet) == (1, 1)
    assert await proxim8.marks() == NO_MARKS


async def test_a_known_wallet_keeps_its_account(proxim8: Running) -> None:
    wallet, account = await proxim8.account()
    before = await proxim8.ask("GET", f"/api/accounts/{account}")
    answer = await proxim8.ask("POST", PROFILE.create, PROFILE.make(fresh(), ""), wallet=wallet)
    assert (answer.status, answer.data["accountId"]) == (201, account)
    assert (await proxim8.ask("GET", f"/api/accounts/{account}")).data == before.data


async def test_a_new_wallet_that_calls_many_times_at_once_gets_one_account(proxim8: Running) -> None:
    wallet = f"0x{fresh()}"
    paths = [("POST", PROFILE), ("POST", VIDEO), ("GET", None)] * 4
    answers = await asyncio.gather(
        *(
            proxim8.ask(method, subject.create, subject.make(fresh(), ""), wallet=wallet)
            if subject
            else proxim8.ask(method, "/api/videos", wallet=wallet)
            for method, subject in paths
        )
    )
    assert {answer.status for answer in answers} == {200, 201}
    owners = {answer.data["accountId"] for answer in answers if answer.status == 201}
    assert len(owners) == 1
    await proxim8.quiet()
    assert await accounts_of(proxim8, wallet) == (1, 1)
    assert await proxim8.marks() == NO_MARKS


async def test_a_read_of_a_new_wallet_finds_nothing_and_fails_nobody(proxim8: Running) -> None:
    wallet = f"0x{fresh()}"
    listed = await proxim8.ask("GET", "/api/notifications", wallet=wallet)
    assert (listed.status, listed.data, listed.body["unreadCount"]) == (200, [], 0)
    me = await proxim8.ask("GET", "/api/accounts/me", wallet=wallet)
    assert (me.status, me.data["walletAddress"], me.data["profiles"]) == (200, wallet, [])
    await proxim8.quiet()
    assert not proxim8.said("mismatch", route="GET /api/accounts/me")


async def test_a_comparison_makes_no_second_account(stand: Running) -> None:
    """The old server makes an account for whoever it does not know. While a new one cannot settle, for a lock on another
    that is before it, nobody asks that server on its behalf."""
    await stand.move(Stage.LIVE)
    _, other = await stand.account()
    await stand.quiet()
    wallet = f"0x{fresh()}"
    async with stand.legacy.client.start_session() as session:
        await session.start_transaction()
        await stand.legacy["accounts"].update_one({"_id": ObjectId(other)}, {"$set": {"lock": 1}}, session=session)
        assert (await stand.ask("PATCH", f"/api/accounts/{other}", {"walletAddress": f"0x{fresh()}"})).status == 200
        await stand.until(lambda: stand.proxy.replicator.pending("account", other), "a settle that waits")
        assert (await stand.ask("GET", "/api/videos", wallet=wallet)).data == []
        for _ in range(50):
            assert await accounts_of(stand, wallet) == (0, 1)
            await asyncio.sleep(0.01)
        await session.abort_transaction()
    await stand.quiet()
    assert await accounts_of(stand, wallet) == (1, 1)
    assert not stand.said("settle_refused", entity="account")


async def test_callers_see_what_is_theirs(proxim8: Running) -> None:
    mine, others = await proxim8.account(), await proxim8.account()
    key = await proxim8.create(VIDEO, *mine)
    await proxim8.create(VIDEO, *others)
    listed = await proxim8.ask("GET", "/api/videos", wallet=mine[0])
    assert [(video["id"], video["account"]["walletAddress"]) for video in listed.data] == [(key, mine[0])]


def claims(**changes: Any) -> dict[str, Any]:
    return {"wallet": {"address": f"0x{fresh()}"}, "exp": int(time.time()) + 60, **changes}


def signed(payload: Any, secret: str, algorithm: str = "HS256") -> str:
    return "Bearer " + jwt.encode(payload, secret, algorithm=algorithm)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(lambda secret: None, id="none"),
        pytest.param(lambda secret: "", id="empty"),
        pytest.param(lambda secret: "Bearer", id="no token"),
        pytest.param(lambda secret: "Bearer ", id="blank token"),
        pytest.param(lambda secret: "Bearer not.a.token", id="no JWT"),
        pytest.param(lambda secret: "Basic dXNlcjpwYXNz", id="another scheme"),
        pytest.param(lambda secret: signed(claims(), secret).replace("Bearer ", ""), id="no scheme"),
        pytest.param(lambda secret: signed(claims(), secret + "!"), id="another secret"),
        pytest.param(lambda secret: signed(claims(), secret)[:-2], id="a broken signature"),
        pytest.param(lambda secret: signed(claims(exp=int(time.time()) - 60), secret), id="expired"),
        pytest.param(lambda secret: signed(claims(nbf=int(time.time()) + 600), secret), id="not yet valid"),
        pytest.param(lambda secret: "Bearer " + jwt.encode(claims(), None, algorithm="none"), id="alg none"),
        pytest.param(lambda secret: signed(claims(), secret * 2, "HS512"), id="another algorithm"),
        pytest.param(lambda secret: signed({"exp": int(time.time()) + 60}, secret), id="no claim"),
        pytest.param(lambda secret: signed(claims(wallet="0xabc"), secret), id="a text for a wallet"),
        pytest.param(lambda secret: signed(claims(wallet=None), secret), id="null for a wallet"),
        pytest.param(lambda secret: signed(claims(wallet={"address": 7}), secret), id="a number"),
        pytest.param(lambda secret: signed(claims(wallet={"address": ""}), secret), id="an empty address"),
        pytest.param(lambda secret: signed(claims(wallet={"address": "  "}), secret), id="a blank address"),
        pytest.param(lambda secret: signed(claims(wallet={"address": {"$ne": None}}), secret), id="an operator"),
        pytest.param(lambda secret: signed(claims(wallet={"address": ["0xabc"]}), secret), id="a list"),
    ],
)
@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE], ids=str)
async def test_other_tokens_are_refused(stand: Running, stage: Stage, header: Any) -> None:
    await stand.move(stage)
    before = await stand.legacy["accounts"].count_documents({})
    value = header(stand.secret)
    for method, path, body in (
        ("POST", PROFILE.create, PROFILE.make(fresh(), "")),
        ("GET", "/api/videos", None),
        ("GET", "/api/accounts/me", None),
    ):
        answer = await stand.ask(method, path, body, headers={} if value is None else {"Authorization": value})
        assert (answer.status, answer.body["success"], answer.body["error"]) == (401, False, "Wallet address required")
        assert answer.forwarded == (stage == Stage.SHADOW)
    await stand.quiet()
    assert await stand.legacy["accounts"].count_documents({}) == before
    assert await stand.marks() == NO_MARKS


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE], ids=str)
async def test_the_scheme_is_known_in_any_case(stand: Running, stage: Stage) -> None:
    await stand.move(stage)
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {stand.token(f'0x{fresh()}')}"}
        assert (await stand.ask("GET", "/api/videos", headers=headers)).status == 200


async def test_no_token_and_no_wallet_is_ever_said(proxim8: Running) -> None:
    wallet = f"0x{fresh()}"
    await proxim8.ask("POST", PROFILE.create, PROFILE.make(fresh(), ""), wallet=wallet)
    await proxim8.ask("GET", "/api/videos", wallet=wallet)
    await proxim8.quiet()
    everything = str(list(proxim8.events))
    assert wallet not in everything
    assert proxim8.token(wallet).split(".")[1] not in everything
