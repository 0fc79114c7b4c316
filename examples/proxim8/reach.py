"""What an engineer's command line reaches: the same stores and flags as the running proxy's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from config.load import load
from config.model import Config
from config.schema import load_schema
from config.settings import read_settings
from examples.proxim8.stand import Stand
from proxy.app import Stores, build_stores, parents_of
from proxy.cli.command import coordinator, verifier
from proxy.cutover.coordinator import Cutover
from proxy.flags.view import Flags
from proxy.migration.verification.verify import Verifier
from proxy.replication.settle import Settler


@dataclass(frozen=True, slots=True)
class Reach:
    config: Config
    stores: Stores
    flags: Flags
    cutover: Cutover
    settler: Settler
    verifier: Verifier


@contextlib.asynccontextmanager
async def reach(proxim8: Stand) -> AsyncIterator[Reach]:
    schema = load_schema()
    settings = read_settings(proxim8.environment)
    config = load(settings.config, proxim8.environment, schema)
    reached = build_stores(config, settings, schema)
    parents = parents_of(config, schema)
    flags = Flags(config.entities, reached.by_side())
    try:
        await asyncio.gather(*(store.connect() for store in reached.by_side().values()))
        yield Reach(
            config,
            reached,
            flags,
            coordinator(config, reached, schema),
            Settler(reached.by_side(), flags, parents),
            verifier(config, reached, schema, flags),
        )
    finally:
        await asyncio.gather(*(store.disconnect() for store in reached.by_side().values()))
