"""Everything that Proxim8 is while it migrates: both databases, both old servers, and the proxy before them, as real
processes on free ports."""

import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from examples.processes import Program, free_port, program
from examples.proxim8.servers import old_server
from examples.servers import drop_database, fresh_database, mongod, postgres, with_database

ROOT: Final = Path(__file__).resolve().parents[2]
CONFIG: Final = ROOT / "config" / "proxim8.yaml"


@dataclass(frozen=True, slots=True)
class Stores:
    """Two empty, migrated databases, by their URLs."""

    mongo_url: str
    database_url: str


@dataclass(frozen=True, slots=True)
class Stand:
    """A running Proxim8. `environment` is what the command line needs to reach the same stores and servers."""

    url: str
    admin_url: str
    stores: Stores
    secret: str
    environment: Mapping[str, str]
    proxy: Program
    old: Mapping[str, str]


@contextlib.asynccontextmanager
async def stores(folder: Path, *, durable: bool = False) -> AsyncIterator[Stores]:
    """Databases of this run's own, on servers found or started; dropped with it where the servers stay."""
    name = f"proxim8_{secrets.token_hex(4)}"
    async with mongod(folder, durable=durable) as mongo_url, postgres(folder, durable=durable) as postgres_url:
        database_url = await fresh_database(postgres_url, name)
        try:
            yield Stores(with_database(mongo_url, name), database_url)
        finally:
            await drop_database(postgres_url, name)


@contextlib.asynccontextmanager
async def stand(
    folder: Path, stores: Stores, *, config: Path = CONFIG, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stand]:
    """The old servers and the proxy before them. The jobs of the old server call the API where the clients do: at the
    proxy. `settings` are environment variables of the proxy, which win. Raises NotReady."""
    secret = secrets.token_hex(32)
    url = f"http://127.0.0.1:{free_port()}"
    async with (
        old_server("core", folder, mongo_url=stores.mongo_url, secret=secret) as core,
        old_server(
            "proxim8", folder, mongo_url=stores.mongo_url, secret=secret, settings={"PUBLIC_URL": url}
        ) as proxim8,
    ):
        old = {"core": core.url, "proxim8": proxim8.url}
        environment = {
            "MONGO_URL": stores.mongo_url,
            "DATABASE_URL": stores.database_url,
            "CORE_URL": core.url,
            "PROXIM8_URL": proxim8.url,
            "JWT_SECRET": secret,
            "STRANGLER_CONFIG": str(config),
            "STRANGLER_PORT": url.rpartition(":")[2],
            "STRANGLER_ADMIN_PORT": "0",
            "STRANGLER_LOG": "json",
            "STRANGLER_DRAIN": "0",
            **(settings or {}),
        }
        argv: list[str | Path] = [Path(sys.executable).with_name("strangler"), "serve"]
        async with program("proxy", argv, folder=folder, cwd=ROOT, env=environment, ready_line='"serving"') as proxy:
            admin = json.loads(proxy.greeting)["admin"]
            yield Stand(url, admin, stores, secret, environment, proxy, old)
