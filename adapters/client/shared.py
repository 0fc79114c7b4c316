"""Our engine as the generated client wants one: by its method names, its units and its errors."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from adapters.client.calls import Translator
from adapters.client.errors import raise_as_client
from adapters.engine import Call, Engine, EngineError

_T = TypeVar("_T")

Observer = Callable[[Call, Any, str | None], None]
"""Told of every call that succeeded: the call, its result as the engine gave it, and the transaction it is part of."""

Rewriter = Callable[[Call], Awaitable[Call]]
"""Given every call before it is sent; returns what is sent instead, or refuses it by raising."""


class SharedEngine:
    """The engine stays its owner's: closing this ends nothing."""

    def __init__(
        self, engine: Engine, translator: Translator, observe: Observer | None, before: Rewriter | None
    ) -> None:
        self._engine = engine
        self._observe = observe
        self._before = before
        self.translator = translator

    async def connect(self, **_: Any) -> None:
        await self._own_errors(self._engine.connect())

    def stop(self, **_: Any) -> None: ...

    def close(self, **_: Any) -> None: ...

    async def aclose(self, **_: Any) -> None: ...

    async def query(self, call: Call, *, tx_id: str | None) -> dict[str, Any]:
        if self._before is not None:
            call = await self._own_errors(self._before(call))
        result = await self._own_errors(self._run(call, tx_id))
        if self._observe is not None:
            self._observe(call, result, tx_id)
        return {"data": {"result": result}}

    async def batch(self, calls: list[Call], tx_id: str | None) -> None:
        if self._before is not None:
            calls = [await self._own_errors(self._before(call)) for call in calls]
        results = await self._own_errors(self._engine.transaction(calls, tx=tx_id))
        if self._observe is not None:
            for call, result in zip(calls, results, strict=True):
                self._observe(call, result, tx_id)

    async def start_transaction(self, *, content: str) -> str:
        options = json.loads(content)
        begun = self._engine.begin(timeout=options["timeout"] / 1000, max_wait=options["max_wait"] / 1000)
        return await self._own_errors(begun)

    async def commit_transaction(self, tx_id: str) -> None:
        await self._own_errors(self._engine.commit(tx_id))

    async def rollback_transaction(self, tx_id: str) -> None:
        await self._own_errors(self._engine.rollback(tx_id))

    async def metrics(self, *, format: str, global_labels: dict[str, str] | None) -> str | dict[str, Any]:
        counted = await self._own_errors(self._engine.metrics())
        labels = global_labels or {}
        counters = {"prisma_client_queries_total": counted["calls"], "prisma_client_errors_total": counted["errors"]}
        gauges = {
            "prisma_client_queries_active": counted["inFlight"],
            "prisma_client_queries_wait": counted["pool"]["waiting"],
            "prisma_pool_connections_open": counted["pool"]["total"],
            "prisma_pool_connections_idle": counted["pool"]["idle"],
        }
        if format == "prometheus":
            return _exposition("counter", counters, labels) + _exposition("gauge", gauges, labels)
        return {
            "counters": [_metric(name, value, labels) for name, value in counters.items()],
            "gauges": [_metric(name, value, labels) for name, value in gauges.items()],
            "histograms": [],
        }

    async def _run(self, call: Call, tx: str | None) -> Any:
        if call.model is not None:
            return await self._engine.call(call.model, call.action, call.args, tx=tx, json_text=True)
        sql, params = call.args["sql"], call.args["params"]
        raw = self._engine.query_table if call.action == "queryRaw" else self._engine.execute_raw
        return await raw(sql, *params, tx=tx)

    async def _own_errors(self, doing: Awaitable[_T]) -> _T:
        try:
            return await doing
        except EngineError as error:
            raise_as_client(error, self.translator.package)


def _metric(name: str, value: float, labels: dict[str, str]) -> dict[str, Any]:
    return {"key": name, "value": value, "labels": labels, "description": name.replace("_", " ")}


def _exposition(kind: str, values: dict[str, int], labels: dict[str, str]) -> str:
    inside = ",".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
    shown = f"{{{inside}}}" if inside else ""
    return "".join(f"# TYPE {name} {kind}\n{name}{shown} {value}\n" for name, value in values.items())
