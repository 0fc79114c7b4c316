"""The command line as its users meet it: processes, exit statuses, one line for each mistake."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from examples.processes import free_port, program
from tests.proxy_case import COLLECTION_CONFIG, Databases, databases
from tests.test_flags import STRANGLER, strangler

ROOT = COLLECTION_CONFIG.parents[1]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
async def stores(mongo_url: str, postgres_url: str, migrated_template: str) -> AsyncIterator[Databases]:
    async with databases(mongo_url, postgres_url, migrated_template) as found:
        yield found


@pytest.fixture(scope="module")
def environment(stores: Databases) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/",
        "MONGO_URL": stores.mongo_url,
        "DATABASE_URL": stores.database_url,
        "CORE_URL": NOWHERE,
        "JWT_SECRET": "the secret of the command line's tests",
        "STRANGLER_CONFIG": str(COLLECTION_CONFIG),
        "STRANGLER_PORT": "0",
        "STRANGLER_ADMIN_PORT": "0",
        "STRANGLER_LOG": "json",
        "STRANGLER_DRAIN": "0",
    }


async def test_a_good_configuration_is_checked(environment: Mapping[str, str]) -> None:
    said = await strangler(environment, "check")
    assert (said.status, said.error) == (0, "")
    assert "5 entities, 25 routes" in " ".join(said.out.split())


async def test_every_fault_of_a_configuration_is_a_line(environment: Mapping[str, str], tmp_path: Path) -> None:
    """Before a port is opened: `serve` says the same as `check`."""
    wrong = tmp_path / "wrong.yaml"
    text = COLLECTION_CONFIG.read_text().replace("model: Video", "model: Vidoe").replace("take: ", "tkae: ", 1)
    wrong.write_text(text)
    checked, served = await asyncio.gather(
        strangler(environment, "check", "--config", str(wrong)), strangler(environment, "serve", "--config", str(wrong))
    )
    assert (checked.status, served.status) == (2, 2)
    assert checked.error == served.error
    lines = checked.error.splitlines()
    assert all(line.startswith("strangler: ") and "wrong.yaml:" in line for line in lines)
    assert any("Vidoe" in line and "Video" in line for line in lines)
    assert any("tkae" in line for line in lines)
    assert served.out == ""


async def test_every_fault_of_the_environment_is_a_line(environment: Mapping[str, str]) -> None:
    wrong = {"MONGO_URL": "mongodb://user:hunter2@host/", "DATABASE_URL": "", "STRANGLER_PORT": "eighty"}
    said = await strangler({**environment, **wrong}, "serve")
    assert (said.status, said.out) == (2, "")
    assert said.error.splitlines() == [
        "strangler: MONGO_URL: expected mongodb://host:port/database",
        "strangler: DATABASE_URL is not set; expected the PostgreSQL that Prisma works on",
        "strangler: STRANGLER_PORT: expected a whole number",
    ]


async def test_a_configuration_that_is_not_there_is_one_line(environment: Mapping[str, str]) -> None:
    said = await strangler({**environment, "STRANGLER_CONFIG": "/nowhere/at-all.yaml"}, "check")
    assert (said.status, said.error.count("\n")) == (2, 1)
    assert "/nowhere/at-all.yaml" in said.error


async def test_what_is_no_command_says_what_is(environment: Mapping[str, str]) -> None:
    unknown, nothing = await asyncio.gather(strangler(environment, "sevre"), strangler(environment))
    assert (unknown.status, unknown.error.count("\n")) == (2, 1)
    assert "sevre" in unknown.error
    assert "serve" in nothing.out + nothing.error
    assert "Traceback" not in unknown.error + nothing.error


async def test_a_port_that_is_taken_is_one_line(environment: Mapping[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = await strangler(environment, "serve", "--port", str(port))
    assert said.status == 1
    [line] = [line for line in said.error.splitlines() if not line.startswith("{")]
    assert line == f"strangler: cannot listen on 127.0.0.1:{port}: Address already in use"


async def test_a_machine_without_node_still_serves_legacy(environment: Mapping[str, str], server_folder: Path) -> None:
    """The engine cannot start: prisma counts as away, and that is said."""
    without = {**environment, "STRANGLER_NODE": "no-such-node"}
    argv: list[str | Path] = [STRANGLER, "serve"]
    async with (
        program("no-node", argv, folder=server_folder, cwd=ROOT, env=without, ready_line='"serving"') as proxy,
        aiohttp.ClientSession(json.loads(proxy.greeting)["url"]) as session,
        session.get("/api/accounts") as answer,
    ):
        assert answer.status == 200
    assert '"store_away"' in proxy.log.read_text()


async def test_both_stores_away_is_one_line(environment: Mapping[str, str]) -> None:
    away = {
        **environment,
        "MONGO_URL": f"mongodb://127.0.0.1:{free_port()}/away",
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/away",
    }
    for said in await asyncio.gather(strangler(away, "flag", "list"), strangler(away, "serve")):
        assert said.status == 1
        lines = [line for line in said.error.splitlines() if not line.startswith("{")]
        assert lines == ["strangler: neither store answers"]


async def test_backfill_copies_what_was_there_before(
    environment: Mapping[str, str], stores: Databases, server_folder: Path
) -> None:
    """The whole way by hand: a running proxy, documents at off, dualwrite, backfill."""
    refused, unknown = await asyncio.gather(
        strangler(environment, "backfill", "nft_ownership"), strangler(environment, "backfill", "nfts")
    )
    assert (refused.status, refused.error.count("\n"), unknown.status, unknown.error.count("\n")) == (2, 1, 2, 1)
    assert "dualwrite" in refused.error
    assert "nft_ownership" in unknown.error
    argv: list[str | Path] = [STRANGLER, "serve"]
    async with program(
        "cli-proxy", argv, folder=server_folder, cwd=ROOT, env=environment, ready_line='"serving"'
    ) as proxy:
        serving = json.loads(proxy.greeting)
        async with aiohttp.ClientSession() as session:
            for number in range(3):
                body = {"nftId": f"n{number}", "walletAddress": "w", "contractAddress": "c", "tokenId": "1"}
                async with session.post(f"{serving['url']}/api/nfts/verify", json=body) as answer:
                    assert answer.status == 200
            assert (await strangler(environment, "flag", "set", "nft_ownership", "dualwrite")).status == 0
            copied = await strangler(environment, "backfill", "nft_ownership")
            told = json.loads(copied.out.splitlines()[-1])
            assert (copied.status, told["documents"], told["refused"]) == (0, 3, 0)

            async with session.get(f"{serving['admin']}/healthz") as answer:
                assert await answer.json() == {"alive": True}
            async with session.get(f"{serving['admin']}/stores") as answer:
                assert (answer.status, await answer.json()) == (200, {"legacy": True, "prisma": True})
            async with session.get(f"{serving['admin']}/metrics") as answer:
                assert "strangler_requests_total{" in await answer.text()
            async with session.get(f"{serving['admin']}/mismatches") as answer:
                assert await answer.json() == {"groups": [], "leftOut": 0}
    for line in proxy.log.read_text().splitlines():
        event = json.loads(line)
        assert {"event", "level", "timestamp"} <= event.keys()
