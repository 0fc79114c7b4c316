"""The servers that every other test stands on: they come up, come back, go down with us, and say what went wrong."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from bson import ObjectId
from pymongo import AsyncMongoClient

from examples.databases import run_sql
from examples.servers import (
    CommandFailed,
    NotReady,
    fresh_database,
    mongod,
    mongod_server,
    postgres,
    postgres_server,
    program,
    run,
    temporary_folder,
    with_database,
)

HTTP_SERVER = """
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""


async def test_mongo_is_a_replica_set_with_transactions(mongo_database: str) -> None:
    async with AsyncMongoClient[dict[str, object]](mongo_database) as client:
        collection = client.get_default_database()["things"]
        key = ObjectId()
        async with client.start_session() as session, await session.start_transaction():
            await collection.insert_one({"_id": key}, session=session)
        assert await collection.find_one() == {"_id": key}


async def test_a_test_database_is_migrated_and_empty(database_url: str) -> None:
    await run_sql(database_url, ['INSERT INTO "_prisma_migrations" SELECT * FROM "_prisma_migrations" LIMIT 0'])


async def test_a_failing_statement_says_why(postgres_url: str) -> None:
    with pytest.raises(CommandFailed, match="no_such_table"):
        await run_sql(postgres_url, ["SELECT * FROM no_such_table"])


async def test_a_fresh_database_is_a_copy_of_its_template(postgres_url: str) -> None:
    await run_sql(postgres_url, ["DROP DATABASE IF EXISTS origin", "DROP DATABASE IF EXISTS copy"])
    await run_sql(postgres_url, ["CREATE DATABASE origin"])
    await run_sql(with_database(postgres_url, "origin"), ["CREATE TABLE here (id int)"])
    await run_sql(await fresh_database(postgres_url, "copy", "origin"), ["INSERT INTO here VALUES (1)"])
    await run_sql(postgres_url, ["DROP DATABASE origin", "DROP DATABASE copy"])


async def test_an_outage_keeps_the_data() -> None:
    with temporary_folder() as folder:
        async with mongod_server(folder) as server:
            port = int(server.url.rstrip("/").rpartition(":")[2])
            async with AsyncMongoClient[dict[str, object]](server.url) as client:
                await client["kept"]["things"].insert_one({"_id": 1})
        async with (
            mongod_server(folder, port=port) as again,
            AsyncMongoClient[dict[str, object]](again.url) as client,
        ):
            assert again.url == server.url
            assert await client["kept"]["things"].find_one() == {"_id": 1}
        async with postgres_server(folder) as first:
            await run_sql(first.url, ["CREATE TABLE kept (id int)"])
        async with postgres_server(folder, durable=True) as second:
            await run_sql(second.url, ["INSERT INTO kept VALUES (1)"])


async def test_a_url_in_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URL", "mongodb://elsewhere:1/?replicaSet=a")
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone@elsewhere:2/main?sslmode=require")
    async with mongod(tmp_path) as mongo_url, postgres(tmp_path) as postgres_url:
        assert with_database(mongo_url, "x") == "mongodb://elsewhere:1/x?replicaSet=a"
        assert with_database(postgres_url, "x") == "postgresql://someone@elsewhere:2/x?sslmode=require"
    assert os.listdir(tmp_path) == []


async def test_a_program_is_ready_stops_when_signalled_and_resumes(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HTTP_SERVER]
    async with program("web", argv, folder=tmp_path, ready_line="listening on") as web, aiohttp.ClientSession() as http:
        url = web.greeting.split()[-1]
        web.signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await http.get(url, timeout=aiohttp.ClientTimeout(total=0.2))
        web.signal(signal.SIGCONT)
        assert (await http.get(url)).status == 200
        web.signal(signal.SIGKILL)
        assert await web.exited() == 128 + signal.SIGKILL
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(url)


async def test_a_program_that_ends_says_so_with_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; print('no such setting'); sys.exit(3)"]
    with pytest.raises(NotReady, match=r"^broken ended with status 3; .*broken\.log ends: no such setting$"):
        async with program("broken", argv, folder=tmp_path, ready_line="ready"):
            pass
    with pytest.raises(NotReady, match="cannot start /no/such/binary: No such file or directory"):
        async with program("absent", ["/no/such/binary"], folder=tmp_path, ready_line="ready"):
            pass


async def test_a_program_that_stays_silent_has_a_deadline(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import signal; print('waiting', flush=True); signal.pause()"]
    with pytest.raises(NotReady, match=r"was not ready within 0\.5 s; .* ends: waiting$"):
        async with program("silent", argv, folder=tmp_path, ready_line="ready", seconds=0.5):
            pass


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_survives_its_parent(tmp_path: Path, end: signal.Signals) -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import signal; signal.pause()'])"
    parent = f"""
import asyncio, pathlib, signal, sys
from examples.processes import program
async def main():
    argv = [sys.executable, "-c", "import os; print('up', os.getpgid(0), flush=True); " + {grandchild!r}]
    async with program("child", argv, folder=pathlib.Path({str(tmp_path)!r}), ready_line="up") as child:
        print(child.greeting, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=subprocess.PIPE)
    try:
        async with asyncio.timeout(20):
            assert process.stdout is not None
            group = int((await process.stdout.readline()).split()[1])
            process.send_signal(end)
            await process.wait()
            await _gone(group)
    finally:
        if process.returncode is None:
            process.kill()


async def _gone(group: int) -> None:
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.02)


async def test_a_command_has_a_deadline_and_a_reason(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"did not end within 0\.3 s"):
        await run([sys.executable, "-c", "import signal; signal.pause()"], cwd=tmp_path, seconds=0.3)
    with pytest.raises(CommandFailed, match="ended with status 2: because"):
        await run([sys.executable, "-c", "import sys; print('because'); sys.exit(2)"], cwd=tmp_path)


def test_a_killed_process_s_folder_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned = tmp_path / f"strangler-{os.getuid()}-abandoned"
    abandoned.mkdir()
    (abandoned / "data").touch()
    os.utime(abandoned, (0, 0))
    with temporary_folder() as folder:
        os.utime(folder, (0, 0))
        with temporary_folder():
            assert folder.exists()  # in use, however old
        assert not abandoned.exists()
    assert list(tmp_path.iterdir()) == []
