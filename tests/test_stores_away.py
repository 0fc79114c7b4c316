"""A secondary that is black-holed, on connections that it has and on new ones: nobody waits for it, not even a proxy that
starts. Every deadline that a call on it may run into is longer than the clients' own, so that any wait would be seen, and
its relay is healed only after the answers have come."""

from __future__ import annotations

import asyncio
import copy
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import pytest

from adapters.side import SideName
from config.model import Stage
from examples.processes import free_port
from proxy.breaker import FAILURES, State
from tests.faults.relay import Relay, relayed
from tests.proxy_case import (
    COLLECTION_CONFIG,
    CONFIG,
    DEADLINE,
    Running,
    Via,
    databases,
    fresh,
    running,
    serving,
)
from tests.replica_case import SECONDS, environment_at, readiness, served
from tests.subjects import NFT, PROFILE, VIDEO, Subject

LIMITS: Final = "limits: { connect: 60s, read: 60s, write: 60s, first_byte: 60s }"
SUBJECTS: Final = (PROFILE, VIDEO, NFT)
"""Those that a client can create, change and read by their key, whichever way they are reached."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What is there before the store goes away: an account, and one of each subject."""

    wallet: str
    account: str
    keys: dict[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """A proxy, and the relay through which it reaches one of its stores."""

    proxim8: Running
    relay: Relay
    owned: Owned


@asynccontextmanager
async def scene(
    folder: Path, place: Path, urls: tuple[str, str, str], via: Via, stage: Stage, away: SideName
) -> AsyncIterator[Scene]:
    """Everything at this stage, settled and quiet; at shadow prisma serves all the keys."""
    mongo_url, postgres_url, template = urls
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(databases(mongo_url, postgres_url, template))
        url = stores.mongo_url if away == "legacy" else stores.database_url
        relay = await stack.enter_async_context(relayed(away, urlsplit(url).port or 0))
        through = url.replace(f":{urlsplit(url).port}/", f":{relay.port}/")
        # Not by way of the replica set's own list of its members, which knows nothing of relays.
        settings = {"MONGO_URL": f"{through}?directConnection=true"} if away == "legacy" else {"DATABASE_URL": through}
        proxim8 = await stack.enter_async_context(
            running(folder, stores, via=via, config=written(place, via), settings=settings)
        )
        stack.callback(relay.heal)
        await proxim8.move(stage)
        if stage == Stage.SHADOW:
            for subject in SUBJECTS:
                await proxim8.tune(subject.entity, serve=100)
        wallet, account = await proxim8.account()
        keys = {subject.entity: await proxim8.create(subject, wallet, account) for subject in SUBJECTS}
        await proxim8.quiet()
        yield Scene(proxim8, relay, Owned(wallet, account, keys))


def written(place: Path, via: Via) -> Path:
    config = place / f"{via}.yaml"
    if via == "endpoint":
        config.write_text(f"{CONFIG.read_text()}\n{LIMITS}\n")
    else:
        old = "limits: { connect: 500ms, write: 3s, read: 3s }"
        text = COLLECTION_CONFIG.read_text()
        assert old in text
        config.write_text(text.replace(old, LIMITS))
    return config


async def works(proxim8: Running, owned: Owned) -> dict[str, tuple[Subject, str]]:
    """Clients read what was there before, create, change, read again and list; by key, what they have written."""
    for subject in SUBJECTS:
        key = owned.keys[subject.entity]
        answer = await proxim8.ask("GET", f"{subject.path}/{key}", wallet=owned.wallet)
        assert (answer.status, answer.data[subject.id]) == (200, key)
    done: dict[str, tuple[Subject, str]] = {}
    for subject in SUBJECTS:
        key = await proxim8.create(subject, owned.wallet, owned.account)
        body, expected = subject.change(fresh())
        changed = await proxim8.ask("PATCH", subject.update.format(key), body, wallet=owned.wallet)
        assert changed.status == 200
        read = await proxim8.ask("GET", f"{subject.path}/{key}", wallet=owned.wallet)
        assert read.status == 200
        assert expected.items() <= read.data.items()
        listed = await proxim8.ask("GET", subject.listed(owned.account, owned.wallet), wallet=owned.wallet)
        assert listed.status == 200
        done[key] = (subject, key)
    return done


@asynccontextmanager
async def another(proxim8: Running) -> AsyncIterator[Running]:
    """The proxy as it is after a restart: another one, before the same stores and servers."""
    port = free_port()
    async with serving(proxim8.environment, port) as proxy:
        again = copy.copy(proxim8)
        again.proxy, again.url = proxy, f"http://127.0.0.1:{port}"
        yield again


async def settled(proxim8: Running, entity: str, key: str) -> None:
    """Both stores hold the same of this key, once they do."""
    async with asyncio.timeout(DEADLINE):
        while True:
            held = await proxim8.on_legacy(entity, key)
            if held is not None and held == await proxim8.on_prisma(entity, key):
                return
            await asyncio.sleep(0.05)


async def test_a_proxy_starts_and_stops_without_its_secondary(
    server_folder: Path, tmp_path: Path, urls: tuple[str, str, str]
) -> None:
    """The process itself, with its check of the collections: it is ready, serves, and ends, with Mongo in the hole."""
    async with (
        databases(*urls) as stores,
        relayed("legacy", urlsplit(stores.mongo_url).port or 0) as relay,
    ):
        through = stores.mongo_url.replace(f":{urlsplit(stores.mongo_url).port}/", f":{relay.port}/")
        environment = environment_at("live", stores, tmp_path) | {"MONGO_URL": f"{through}?directConnection=true"}
        relay.hole()
        async with served("alone", environment, server_folder) as proxy, aiohttp.ClientSession() as session:
            [serving] = proxy.said("serving")
            assert [event["side"] for event in proxy.said("store_away")] == ["legacy"]
            async with asyncio.timeout(DEADLINE):
                while await readiness(session, serving["admin"]) != (200, None):
                    await asyncio.sleep(0.05)
            async with session.post(serving["url"] + NFT.create, json=NFT.make(fresh(), "")) as answer:
                assert answer.status == 200
            proxy.tell(signal.SIGTERM)
            assert await proxy.program.exited(SECONDS) == 0
        assert relay.fault.kind == "hole"


@pytest.fixture
def urls(mongo_url: str, postgres_url: str, migrated_template: str) -> tuple[str, str, str]:
    return mongo_url, postgres_url, migrated_template


@pytest.mark.parametrize(
    ("via", "stage", "away"),
    [
        ("endpoint", Stage.DUALWRITE, "prisma"),
        ("endpoint", Stage.SHADOW, "prisma"),
        ("collection", Stage.DUALWRITE, "prisma"),
        ("collection", Stage.SHADOW, "prisma"),
        ("collection", Stage.LIVE, "legacy"),
    ],
)
async def test_nobody_waits_for_a_black_holed_secondary(
    server_folder: Path, tmp_path: Path, urls: tuple[str, str, str], via: Via, stage: Stage, away: SideName
) -> None:
    async with scene(server_folder, tmp_path, urls, via, stage, away) as here:
        proxim8, relay, owned = here.proxim8, here.relay, here.owned
        relay.hole()
        done = await works(proxim8, owned)
        async with another(proxim8) as again:
            done |= await works(again, owned)
            assert relay.fault.kind == "hole"
            for one in (proxim8, again):
                # What could not be known to have settled was served by the primary, and nothing was lost of it.
                assert one.count("strangler_requests_total", status="500") == 0
                assert one.count("strangler_requests_total", status="503") == 0
            relay.heal()
            for subject, key in done.values():
                await settled(proxim8, subject.entity, key)
        assert await proxim8.marks() == {"legacy": 0, "prisma": 0}


async def test_a_dead_secondary_is_asked_no_more_and_noticed_when_it_is_back(
    server_folder: Path, tmp_path: Path, urls: tuple[str, str, str]
) -> None:
    """At shadow, with all the keys served by prisma: after the first few, reads are not even tried there, and no comparison
    waits for it; once it is back they are."""
    async with scene(server_folder, tmp_path, urls, "collection", Stage.SHADOW, "prisma") as here:
        proxim8, relay, owned = here.proxim8, here.relay, here.owned
        path, breaker = f"{NFT.path}/{owned.keys['nft_ownership']}", proxim8.proxy.breakers.store("prisma")
        assert breaker.state is State.CLOSED
        relay.hole()
        for _ in range(10):
            assert (await proxim8.ask("GET", path)).status == 200
        assert breaker.state is not State.CLOSED
        assert proxim8.count("strangler_breaker", side="prisma") > 0
        assert 1 <= len(proxim8.said("secondary_failed")) <= FAILURES
        assert proxim8.count("strangler_fallbacks_total", entity="nft_ownership") == 10
        await proxim8.until(lambda: proxim8.compared("nft_ownership").get("skipped", 0) >= 7, "skipped comparisons")
        assert proxim8.count("strangler_shed_total") == 0

        relay.heal()
        await proxim8.until(lambda: breaker.state is State.CLOSED, "the probe")
        fallbacks = proxim8.count("strangler_fallbacks_total", entity="nft_ownership")
        equal = proxim8.compared("nft_ownership").get("equal", 0)
        assert (await proxim8.ask("GET", path)).status == 200
        assert proxim8.count("strangler_fallbacks_total", entity="nft_ownership") == fallbacks
        await proxim8.until(lambda: proxim8.compared("nft_ownership").get("equal", 0) > equal, "a comparison")
        states = [event["state"] for event in proxim8.said("breaker", side="prisma")]
        assert (states[0], states[-1]) == ("open", "closed")


@pytest.mark.parametrize("side", ["legacy", "prisma"])
async def test_calls_that_hang_take_nothing_from_the_other_side(
    server_folder: Path, tmp_path: Path, urls: tuple[str, str, str], side: SideName
) -> None:
    """More of them than any pool or thread pool has places, before the breaker could know."""
    stage = Stage.LIVE if side == "legacy" else Stage.SHADOW
    async with scene(server_folder, tmp_path, urls, "collection", stage, side) as here:
        proxim8, relay, owned = here.proxim8, here.relay, here.owned
        store = proxim8.proxy.stores.by_side()[side]
        relay.hole()
        hanging = [asyncio.create_task(store.count("nft_ownership")) for _ in range(200)]
        await asyncio.sleep(0)  # all of them have begun
        done = await works(proxim8, owned)
        assert not any(task.done() for task in hanging)
        relay.heal()
        await asyncio.gather(*hanging, return_exceptions=True)
        for subject, key in done.values():
            await settled(proxim8, subject.entity, key)
