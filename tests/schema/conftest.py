"""A second schema with both clients generated from it, its tables migrated into a database, and an engine that serves it."""

import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.client import client
from adapters.engine import Engine
from adapters.node import find_node
from config.schema import DATAMODEL_FILE, Schema, load_schema
from examples.commands import run
from examples.databases import PRISMA, drop_database, run_sql, with_database
from tests.conftest import fresh_name

PACKAGE = "prisma_types"


@dataclass(frozen=True, slots=True)
class Generated:
    """A folder with schema, migrations and both clients, and the URL of a database that the migrations made."""

    folder: Path
    url: str
    schema: Schema

    def engine(self) -> Engine:
        return Engine(self.url, client=self.folder / "client", schema=self.schema)

    async def migrate(self, *command: str) -> str:
        return await run([find_node(), PRISMA / "migrate.mjs", *command], cwd=self.folder, env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url, "STRANGLER_SCHEMA": str(self.folder / "types.prisma")}


@pytest.fixture(scope="session")
async def generated(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Generated]:
    folder = tmp_path_factory.mktemp("types")
    shutil.copy(Path(__file__).with_name("types.prisma"), folder)
    (folder / "node_modules").symlink_to(PRISMA / "node_modules")
    python = {"STRANGLER_PYTHON": sys.executable}
    await run([find_node(), PRISMA / "generate.mjs", f"--schema={folder / 'types.prisma'}"], cwd=PRISMA, env=python)
    name = fresh_name()
    await run_sql(postgres_url, [f'CREATE DATABASE "{name}"'])
    schema = load_schema(folder / PACKAGE / DATAMODEL_FILE)
    made = Generated(folder, with_database(postgres_url, name), schema)
    await made.migrate("diff", "init")
    await made.migrate("deploy")
    sys.path.insert(0, str(folder))
    yield made
    sys.path.remove(str(folder))
    await drop_database(postgres_url, name)


@pytest.fixture(scope="session")
async def engine(generated: Generated) -> AsyncIterator[Engine]:
    engine = generated.engine()
    await engine.connect()
    yield engine
    await engine.disconnect()


@pytest.fixture
async def db(engine: Engine) -> Any:
    """The generated Python client of the second schema, over empty tables."""
    for model in ("Book", "Author", "Thing", "Config"):
        await engine.call(model, "deleteMany", {})
    return client(engine, package=PACKAGE)


@pytest.fixture
def fields(db: Any) -> Any:
    """The generated package's `fields`: Json and Base64 of its own."""
    return sys.modules[f"{PACKAGE}.fields"]
