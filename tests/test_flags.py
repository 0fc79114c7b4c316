"""`strangler flag` as engineers run it: a process of its own beside a running proxy."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from config.load import load
from config.model import Stage
from config.schema import load_schema
from config.settings import read_settings
from examples.processes import program
from examples.proxim8.stand import CONFIG, ROOT, Stand, Stores, stand
from proxy.cli.command import connected, coordinator
from proxy.cutover.coordinator import Cutover
from proxy.cutover.flip import Reached, Step
from tests.proxy_case import Databases, databases

STRANGLER = Path(sys.executable).with_name("strangler")
SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a command did: its exit status and what it printed."""

    status: int
    out: str
    error: str


async def strangler(environment: Mapping[str, str], *arguments: str) -> Said:
    """Run the command line to its end."""
    command = await asyncio.create_subprocess_exec(
        STRANGLER,
        *arguments,
        cwd=ROOT,
        env={**environment, "COLUMNS": "200"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, error = await command.communicate()
    assert command.returncode is not None
    return Said(command.returncode, out.decode(), error.decode())


@pytest.fixture(scope="module")
async def stores(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Databases]:
    async with databases(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration, with time for a fence to be seen by commands that are slow to start."""
    changed = tmp_path_factory.mktemp("config") / "patient.yaml"
    changed.write_text(f"{CONFIG.read_text()}\nlimits: {{ hold: 60s }}\n")
    return changed


@pytest.fixture(scope="module")
async def proxim8(server_folder: Path, stores: Databases, patient: Path) -> AsyncIterator[Stand]:
    """The proxy as a process, everything at off."""
    async with stand(server_folder, Stores(stores.mongo_url, stores.database_url), config=patient) as running:
        yield running


@pytest.fixture(scope="module")
def environment(proxim8: Stand) -> Mapping[str, str]:
    return dict(proxim8.environment)


def row(listed: str, entity: str) -> list[str]:
    """The cells of one entity in `flag list`."""
    [line] = [line for line in listed.splitlines() if f" {entity} " in line]
    return [cell.strip() for cell in line.strip("│┃| ").replace("┃", "│").split("│")]


@asynccontextmanager
async def coordinated(environment: Mapping[str, str], reached: Reached) -> AsyncIterator[Cutover]:
    """A coordinator in this process."""
    schema, settings = load_schema(), read_settings(environment)
    config = load(settings.config, environment, schema)
    async with connected(config, settings, schema) as reached_stores:
        yield coordinator(config, reached_stores, schema, reached=reached)


async def seen(proxim8: Stand, entity: str, stage: str) -> None:
    """The running proxy says that it has seen the flag."""
    async with asyncio.timeout(SECONDS):
        while not any(
            '"flag_changed"' in line and f'"entity":"{entity}"' in line and f'"after":"{stage}"' in line
            for line in proxim8.proxy.log.read_text().splitlines()
        ):
            await asyncio.sleep(0.05)


async def test_a_walk_by_hand(proxim8: Stand, environment: Mapping[str, str]) -> None:
    """One entity walks to live, and the running proxy follows each step."""
    before = "off"
    async with aiohttp.ClientSession(proxim8.url) as session:
        for number, stage in enumerate(("dualwrite", "shadow", "live")):
            if stage == "live":
                unverified = await strangler(environment, "flag", "set", "nft_ownership", stage)
                assert (unverified.status, "strangler verify nft_ownership" in unverified.error) == (2, True)
                verified = await strangler(environment, "verify", "nft_ownership")
                assert (verified.status, verified.error) == (0, "")
            said = await strangler(environment, "flag", "set", "nft_ownership", stage)
            assert (said.status, said.error) == (0, "")
            assert f"nft_ownership: {before} -> {stage}" in said.out
            await seen(proxim8, "nft_ownership", stage)
            body = {"nftId": f"n-{number}", "walletAddress": "0x1", "contractAddress": "0x2", "tokenId": "3"}
            async with session.post("/api/nfts/verify", json=body) as answer:
                assert answer.status == 200
                assert ("strangler" in answer.headers.get("Via", "")) == (stage != "live")
            before = stage
    tuned = await strangler(environment, "flag", "set", "nft_ownership", "--serve", "25", "--sample", "50")
    assert (tuned.status, tuned.error) == (0, "")
    listed = await strangler(environment, "flag", "list")
    assert (listed.status, listed.error) == (0, "")
    # Four steps and a fence have each taken an epoch.
    assert row(listed.out, "nft_ownership")[:5] == ["nft_ownership", "live", "25 %", "50 %", "5"]
    for entity in ("account", "profile", "video", "notification"):
        assert row(listed.out, entity)[:4] == [entity, "off", "0 %", "100 %"]


async def test_a_flip_is_seen_and_cancelled_by_another_process(proxim8: Stand, environment: Mapping[str, str]) -> None:
    fenced, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Step) -> None:
        fenced.set()
        await go_on.wait()

    async with coordinated(environment, wait) as cutover:
        flipping = asyncio.ensure_future(anext(cutover.flip("nft_ownership", Stage.SHADOW, "slow")))
        async with asyncio.timeout(SECONDS):
            await fenced.wait()
        listed = await strangler(environment, "flag", "list")
        cancelled = await strangler(environment, "flag", "cancel", "nft_ownership")
        go_on.set()
        assert "fenced at epoch" in await flipping
    assert (listed.status, cancelled.status) == (0, 0), cancelled.error
    assert row(listed.out, "nft_ownership")[1].startswith("live -> shadow (fenced for ")
    assert cancelled.out.startswith("nft_ownership: live, epoch ")
    assert row((await strangler(environment, "flag", "list")).out, "nft_ownership")[1] == "live"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["set", "vidoe", "shadow"], ["vidoe", "account", "video", "nft_ownership"]),
        (["set", "video", "shadwo"], ["shadwo", "off", "dualwrite", "shadow", "live", "rampdown", "complete"]),
        (["set", "account", "shadow"], ["account is at off", "shadow", "dualwrite"]),
        (["set", "account", "off"], ["account is at off already"]),
        (["set", "video", "dualwrite"], ["video refers to account", "account"]),
        (["set", "video", "--serve", "101"], ["--serve", "100"]),
        (["cancel", "video"], ["video is not being moved", "off"]),
        (["cancel", "vidoe"], ["unknown entity vidoe", "nft_ownership"]),
    ],
    ids=lambda value: "-".join(value).replace("--", "") if isinstance(value, list) else str(value),
)
async def test_a_mistake_is_one_line_and_status_two(
    environment: Mapping[str, str], arguments: list[str], parts: list[str]
) -> None:
    said = await strangler(environment, "flag", *arguments)
    assert said.status == 2
    assert said.error.count("\n") == 1
    assert said.error.startswith("strangler: ")
    assert [part for part in parts if part not in said.error] == []


async def test_a_flag_is_kept_without_a_proxy_and_a_flip_needs_one(
    server_folder: Path, proxim8: Stand, environment: Mapping[str, str]
) -> None:
    """Last of this file: the proxy is stopped and another one started."""
    proxim8.proxy.signal(signal.SIGTERM)
    assert await proxim8.proxy.exited() == 0
    flip = ("flag", "set", "nft_ownership", "shadow")
    async with asyncio.timeout(SECONDS):
        # One that could not take its leave of a store counts as running until its lease is over.
        while "no proxy is running" not in (refused := await strangler(environment, *flip)).error:
            assert refused.status == 2
    assert refused.status == 2
    assert refused.error.splitlines() == [
        "strangler: nft_ownership stays at live; --force goes past this:",
        "strangler:   replicas: no proxy is running; expected one, to settle what is still under way",
    ]

    again: list[str | Path] = [STRANGLER, "serve"]
    async with (
        program("again", again, folder=server_folder, cwd=ROOT, env=environment, ready_line='"serving"'),
        aiohttp.ClientSession(proxim8.url) as session,
    ):
        body = {"nftId": "n-0", "walletAddress": "0x1", "contractAddress": "0x2", "tokenId": "after the restart"}
        async with session.post("/api/nfts/verify", json=body) as answer:
            assert (answer.status, "Via" in answer.headers) == (200, False)
        moved = await strangler(environment, *flip)
        assert moved.status == 0, moved.error
        async with session.get("/api/nfts/token/n-0") as answer:
            assert (await answer.json())["data"]["tokenId"] == "after the restart"
        async with session.post("/api/nfts/verify", json=body) as answer:
            assert (answer.status, "Via" in answer.headers) == (200, True)
