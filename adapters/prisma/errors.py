"""How the engine's errors, and those that the Python client makes of them, are a side's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from adapters import engine
from adapters.side import Conflict, Invalid, Missing, Orphan, SideError, Stale, Unavailable, Unreadable

_STALE: Final = "ST001"  # with which `strangler_gate` refuses a settle, its message ends with the term that is known


@contextmanager
def translated() -> Iterator[None]:
    """Whatever is raised inside, as a SideError where it came from the engine: by itself, or as the cause of what the Python
    client makes of it, which this does not import: it takes half a second, and most commands go without."""
    try:
        yield
    except engine.EngineError as error:
        raise _as_side(error) from error
    except Exception as error:
        if isinstance(error, SideError) or not isinstance(error.__cause__, engine.EngineError):
            raise
        raise _as_side(error.__cause__) from error


def _as_side(error: engine.EngineError) -> SideError:
    match error:
        case engine.UniqueViolation():
            return Conflict(error.fields)
        case engine.ForeignKeyViolation():
            return Orphan(error.field)
        case engine.RecordNotFound():
            return Missing("there is no such record")
        case engine.Unreadable():
            return Unreadable(error.message)
        case engine.Invalid() | engine.ValueRefused():
            return Invalid("document", _without_values(error))
        case engine.EngineGone() | engine.EngineTimeout() | engine.Unavailable():
            return Unavailable(error.message, sent=error.sent)
        case engine.WriteConflict() | engine.TransactionClosed():
            return Unavailable(error.message)
        case _ if error.sqlstate == _STALE:
            return Stale(int(error.meta["databaseMessage"].rsplit(" ", 1)[1]))
        case _:
            return SideError(_without_values(error))


def _without_values(error: engine.EngineError) -> str:
    """PostgreSQL's own words for a raw query quote what they refuse."""
    return f"refused by PostgreSQL (SQLSTATE {error.sqlstate})" if error.code == "P2010" else error.message
