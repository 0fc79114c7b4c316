"""How the engine's errors, and those that the Python client makes of them, are a side's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prisma.errors import PrismaError

from adapters import engine
from adapters.side import Conflict, Invalid, Missing, Orphan, SideError, Unavailable


@contextmanager
def translated() -> Iterator[None]:
    """Whatever is raised inside, as a SideError where it came from the engine."""
    try:
        yield
    except engine.EngineError as error:
        raise _as_side(error) from error
    except PrismaError as error:
        if not isinstance(error.__cause__, engine.EngineError):
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
        case engine.Invalid() | engine.ValueRefused():
            return Invalid("document", error.message)
        case engine.EngineGone() | engine.EngineTimeout() | engine.Unavailable():
            return Unavailable(error.message, sent=error.sent)
        case engine.WriteConflict() | engine.TransactionClosed():
            return Unavailable(error.message)
        case _:
            return SideError(error.message)
