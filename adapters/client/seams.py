"""The two seams of the generated client, and its batches, which bypass them.

`_create_engine` gives it an engine, `_make_query_builder` a builder, whose `build()` is what the engine's `query` is
given. Classes are made for a generated package at run time: there may be several, none known before generation.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from adapters.client.calls import Translator
from adapters.client.shared import Observer, Rewriter, SharedEngine
from adapters.engine import Call, Engine

if TYPE_CHECKING:
    from prisma import Prisma

__all__ = ["Observer", "Rewriter", "client"]


def client(
    engine: Engine,
    *,
    observe: Observer | None = None,
    before: Rewriter | None = None,
    tx: str | None = None,
    package: str = "prisma",
) -> Prisma:
    """What users of `prisma` know as `prisma.Prisma()`, connected: models, `batch_`, `tx`, raw queries, its own errors.

    It shares the engine: connecting it starts the engine, disconnecting it leaves the engine running. With `tx`, the
    id of a transaction begun on the engine, everything is part of that transaction, which stays its owner's to end.
    `before` may change a call, or refuse it by raising, before it is sent; `observe` is told of what succeeded.
    `package` names the generated client where it is not `prisma`.
    """
    made: Any = _client_class(package)(use_dotenv=False)
    made._attach(SharedEngine(engine, Translator(package, engine.schema), observe, before))
    made._tx_id = tx
    connected: Prisma = made
    return connected


@functools.cache
def _client_class(package: str) -> Callable[..., Any]:
    generated: Any = importlib.import_module(f"{package}.client")
    batch_class = _batch_class(generated)

    def attach(self: Any, shared: SharedEngine) -> None:
        self._shared = self._internal_engine = shared

    def copy(self: Any) -> Any:
        copied = generated.Prisma._copy(self)
        copied._shared = self._shared
        return copied

    def make_query_builder(self: Any, **query: Any) -> Any:
        return self._shared.translator.builder(self, **query)

    methods = {
        "_attach": attach,
        "_copy": copy,
        "_create_engine": lambda self, dml_path=None: self._shared,
        "_make_query_builder": make_query_builder,
        "batch_": lambda self: batch_class(self),
    }
    return type("Prisma", (generated.Prisma,), methods)


def _batch_class(generated: Any) -> Callable[[Any], Any]:
    def init(self: Any, client: Any) -> None:
        generated.Batch.__init__(self, client)
        self._client = client
        self._calls = []

    def add(self: Any, **query: Any) -> None:
        complete = {"model": None, "root_selection": None} | query
        self._calls.append(self._client._make_query_builder(**complete).build())

    async def commit(self: Any) -> None:
        calls: list[Call] = self._calls
        self._calls = []
        if calls:
            await self._client._engine.batch(calls, self._client._tx_id)

    return type("Batch", (generated.Batch,), {"__init__": init, "_add": add, "commit": commit})
