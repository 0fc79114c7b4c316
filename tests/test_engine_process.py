"""The engine's process: how it starts, dies, comes back and ends."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from adapters.engine import Engine, EngineGone, Unavailable
from adapters.engine.process import PROGRAM, EngineProcess, Settings
from adapters.node import find_node
from examples.servers import postgres_server, temporary_folder

SLOW = "SELECT pg_sleep(0.4)::text AS x"


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    engine = Engine(database_url, patience=10.0)
    await engine.connect()
    yield engine
    await engine.disconnect()


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def ended(pid: int) -> None:
    async with asyncio.timeout(20):
        while alive(pid):
            await asyncio.sleep(0.02)


async def test_a_killed_process_fails_what_was_in_flight_and_comes_back(engine: Engine) -> None:
    first = engine.pid
    assert first is not None
    in_flight = [asyncio.ensure_future(engine.query_raw(SLOW)) for _ in range(3)]
    await engine.metrics()
    os.kill(first, signal.SIGKILL)
    for result in await asyncio.gather(*in_flight, return_exceptions=True):
        assert isinstance(result, EngineGone)
        assert result.sent
    assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]
    assert engine.pid != first
    assert (await engine.metrics())["restarts"] == 1


async def test_a_process_that_hangs_is_replaced(database_url: str) -> None:
    engine = Engine(database_url, silence=6.0, patience=20.0)
    await engine.connect()
    try:
        first = engine.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(EngineGone) as caught:
            await engine.query_raw("SELECT 1 AS one")
        assert caught.value.sent
        assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]
        assert engine.pid != first
        assert not alive(first)
    finally:
        await engine.disconnect()


async def test_a_call_waits_for_a_restart_only_so_long(database_url: str) -> None:
    engine = Engine(database_url, patience=0.0)
    await engine.connect()
    try:
        lost = asyncio.ensure_future(engine.query_raw(SLOW))
        await engine.metrics()
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineGone):
            await lost
        await asyncio.sleep(0)  # the supervisor has seen it
        with pytest.raises(EngineGone) as caught:
            await engine.metrics()
        assert not caught.value.sent
        assert not await engine.is_healthy()
    finally:
        await engine.disconnect()


async def test_disconnecting_lets_what_is_in_flight_finish(engine: Engine) -> None:
    pid = engine.pid
    assert pid is not None
    slow = asyncio.ensure_future(engine.query_raw(SLOW))
    await engine.metrics()
    await engine.disconnect()
    assert await slow == [{"x": ""}]
    await ended(pid)
    with pytest.raises(EngineGone):
        await engine.metrics()
    assert not await engine.is_healthy()
    await engine.connect()
    assert await engine.is_healthy()


async def test_disconnecting_rolls_back_what_is_open(engine: Engine, database_url: str) -> None:
    tx = await engine.begin(timeout=60)
    await engine.call("Account", "create", {"data": {"id": "a" * 24, "walletAddress": "w"}}, tx=tx)
    await engine.disconnect()
    await engine.connect()
    assert await engine.call("Account", "count", {}) == 0


async def test_the_process_ends_with_the_one_that_started_it(database_url: str) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from adapters.engine import Engine\n"
        "async def main():\n"
        "    engine = Engine(os.environ['DATABASE_URL'])\n"
        "    await engine.connect()\n"
        "    tx = await engine.begin(timeout=60)\n"
        "    print(engine.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        env={**os.environ, "DATABASE_URL": database_url},
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    await ended(pid)


async def test_its_socket_is_for_its_owner_only_and_goes_with_it(database_url: str) -> None:
    process = await EngineProcess.start(Settings(database_url))
    folder = process.socket.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(process.socket.stat().st_mode) & 0o077 == 0
    await process.stop()
    assert not folder.exists()
    assert process.status == 0


async def test_a_connection_that_ends_takes_its_transactions_along(database_url: str) -> None:
    process = await EngineProcess.start(Settings(database_url, pool=1))
    try:
        reader, writer = await asyncio.open_unix_connection(str(process.socket))
        writer.write(b'{"id":1,"action":"begin","args":{"timeout":60000}}\n')
        await reader.readline()
        writer.close()
        await writer.wait_closed()
        # The pool's only connection is free again when the transaction is over.
        reader, writer = await asyncio.open_unix_connection(str(process.socket))
        writer.write(b'{"id":2,"action":"health"}\n')
        async with asyncio.timeout(8):
            assert await reader.readline() == b'{"id":2,"result":true}\n'
        writer.close()
    finally:
        await process.stop()


async def test_a_socket_left_behind_is_taken_over_and_one_in_use_is_not(database_url: str) -> None:
    process = await EngineProcess.start(Settings(database_url))

    async def second(socket: Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(find_node(), PROGRAM, socket),
            env=Settings(database_url).environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    try:
        rival = await second(process.socket)
        _, said = await rival.communicate(b"")
        assert rival.returncode == 1
        assert b"another engine answers" in said
        os.kill(process.pid, signal.SIGKILL)
        await ended(process.pid)
        assert process.socket.exists()
        heir = await second(process.socket)
        assert heir.stdout is not None
        assert await heir.stdout.readline() == b"ready\n"
        await heir.communicate(b"")
        assert heir.returncode == 0
    finally:
        await process.stop()


async def test_a_line_that_is_no_request_is_answered_and_the_next_one_works(database_url: str) -> None:
    process = await EngineProcess.start(Settings(database_url))
    try:
        reader, writer = await asyncio.open_unix_connection(str(process.socket))
        for line in (
            b"not json",
            b"{}",
            b'{"id":1,"action":"batch"}',
            b"[]",
            b"null",
            b"",
            b'{"id":1,"action":"commit"}',
        ):
            writer.write(line + b'\n{"id":2,"action":"health"}\n')
            async with asyncio.timeout(10):
                replies = {await reader.readline() for _ in range(2)}
            assert b'{"id":2,"result":true}\n' in replies
            assert sum(b'"error"' in reply for reply in replies) == 1
        writer.close()
    finally:
        await process.stop()


async def test_what_it_says_is_an_event_a_line(database_url: str, tmp_path: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        *(find_node(), PROGRAM, tmp_path / "engine.sock"),
        env=Settings(database_url, client=tmp_path).environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await program.communicate(b"")
    [event] = [json.loads(line) for line in said.splitlines()]
    assert set(event) == {"event", "level", "timestamp", "reason"}
    assert (event["event"], event["level"]) == ("engine_failed", "error")
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None


async def test_no_node_or_a_broken_one_is_told(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(EngineGone, match="could not be started"):
        await Engine(database_url, node=tmp_path / "nothing").connect()
    with pytest.raises(EngineGone, match="status 1"):
        await Engine(database_url, client=tmp_path).connect()


async def test_it_outlives_the_database_and_finds_it_again() -> None:
    with temporary_folder() as folder:
        async with postgres_server(folder) as server:
            url, port = server.url, int(server.url.split(":")[-1].split("/")[0])
            engine = Engine(url, timeout=3.0)
            await engine.connect()
            assert await engine.is_healthy()
        try:
            assert not await engine.is_healthy()
            with pytest.raises(Unavailable):
                await engine.query_raw("SELECT 1 AS one")
            async with postgres_server(folder, port=port):
                assert await engine.query_raw("SELECT 1 AS one") == [{"one": 1}]
                assert await engine.is_healthy()
        finally:
            await engine.disconnect()
