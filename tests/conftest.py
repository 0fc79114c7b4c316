"""The real servers that tests run against: started once a session (once a worker under xdist), with fresh databases.

Session fixtures name servers (`mongo_url`, `postgres_url`), function fixtures a database of the test's own
(`mongo_database`, `database_url`), dropped after it. To take a server down, start one with examples.servers.
"""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from examples.servers import drop_database, fresh_database, mongod, postgres, temporary_folder, with_database


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that every server may run in, also PostgreSQL for root; for servers of a test's own make a new one."""
    with temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
async def mongo_url(server_folder: Path) -> AsyncIterator[str]:
    """A MongoDB replica set, primary; ends so that a database name can be put in by with_database."""
    async with mongod(server_folder) as url:
        yield url


@pytest.fixture(scope="session")
async def postgres_url(server_folder: Path) -> AsyncIterator[str]:
    """A PostgreSQL server, by the URL of its maintenance database."""
    async with postgres(server_folder) as url:
        yield url


@pytest.fixture(scope="session")
async def migrated_template(postgres_url: str) -> AsyncIterator[str]:
    """The name of a migrated database that nobody connects to: what each test's database is copied from."""
    name = fresh_name()
    await fresh_database(postgres_url, name)
    yield name
    await drop_database(postgres_url, name)


@pytest.fixture
async def mongo_database(mongo_url: str) -> AsyncIterator[str]:
    """The URL of an empty Mongo database of this test's own."""
    name = fresh_name()
    yield with_database(mongo_url, name)
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(mongo_url)
    async with client:
        await client.drop_database(name)


@pytest.fixture
async def database_url(postgres_url: str, migrated_template: str) -> AsyncIterator[str]:
    """The URL of a migrated, empty PostgreSQL database of this test's own."""
    name = fresh_name()
    yield await fresh_database(postgres_url, name, migrated_template)
    await drop_database(postgres_url, name)


@pytest.fixture(scope="module")
async def module_mongo_database(mongo_url: str) -> AsyncIterator[str]:
    """Like mongo_database, shared by a module's tests."""
    name = fresh_name()
    yield with_database(mongo_url, name)
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(mongo_url)
    async with client:
        await client.drop_database(name)


@pytest.fixture(scope="module")
async def module_database_url(postgres_url: str, migrated_template: str) -> AsyncIterator[str]:
    """Like database_url, shared by a module's tests."""
    name = fresh_name()
    yield await fresh_database(postgres_url, name, migrated_template)
    await drop_database(postgres_url, name)


def fresh_name() -> str:
    """A database name that no other test, worker or run uses."""
    return f"test_{secrets.token_hex(8)}"
