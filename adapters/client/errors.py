"""The engine's errors as the generated client's own, told from each other by the client itself."""

from __future__ import annotations

import importlib
from typing import Any, NoReturn

from adapters.engine import EngineError, EngineGone, EngineTimeout, ForeignKeyViolation, Unavailable, UniqueViolation


def raise_as_client(error: EngineError, package: str) -> NoReturn:
    """Raises what the client's users expect, from the engine's error, which stays its `__cause__`."""
    engine: Any = importlib.import_module(f"{package}.engine")
    if isinstance(error, EngineGone | EngineTimeout | Unavailable) and error.code != "P2028":
        raise engine.errors.EngineConnectionError(error.message) from error
    described = {
        "error": error.message,
        "user_facing_error": {"error_code": _code(error), "message": error.message, "meta": _meta(error)},
    }
    try:
        engine.utils.handle_response_errors(None, [described])
    except Exception as own:
        raise own from error
    raise error


def _code(error: EngineError) -> str:
    # The client takes every P2009 for an unknown field; a value of the wrong type is an input error.
    return "P2019" if error.meta.get("kind") == "InvalidArgument" else error.code or "P2019"


def _meta(error: EngineError) -> dict[str, Any]:
    meta = {**error.meta, "code": error.sqlstate, "message": error.meta.get("databaseMessage", error.message)}
    if isinstance(error, UniqueViolation):
        meta["target"] = list(error.fields)
    if isinstance(error, ForeignKeyViolation):
        meta["field_name"] = error.field
    return meta
