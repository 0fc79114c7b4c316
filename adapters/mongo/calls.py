"""What every call on Mongo needs: a deadline, and its errors in the words of `adapters.side`.

The messages of the server quote values (the duplicate key, the refused document), so none of them travels on: an error
is named by its class and code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import pymongo
from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from adapters.side import Conflict, Invalid, SideError, Unavailable

GRACE: Final = 0.5
"""Seconds by which the driver's own deadline is given the chance to end a call before its waiter gives up on it."""

_DUPLICATE: Final = frozenset({11000, 11001, 12582})
_VALIDATOR: Final = 121
_UNSTORABLE: Final = frozenset({2, 14, 28, 52, 55, 56, 57, 66, 10334, 17280, 17419, 17420})
"""Bad value, type mismatch, path not viable, field names that cannot be stored, immutable field, too large."""

_MAYBE_DONE: Final = frozenset({6, 7, 50, 64, 89, 91, 189, 262, 9001, 11600, 11601, 11602})
"""Time-outs, interruptions and changes of primary: they may strike after the write."""

FieldsOf = Callable[[str], str]
"""From a path in the collection to the Prisma field that it holds (the path itself where none does)."""


@asynccontextmanager
async def within(seconds: float, *, write: bool = False) -> AsyncIterator[None]:
    """One deadline for all the calls inside, waiting for a thread of the driver included.

    Errors of the driver come out as SideError; `write` says that a call which was cut short may have changed something.
    """
    try:
        with pymongo.timeout(seconds), translated(write=write):
            async with asyncio.timeout(seconds + GRACE):
                yield
    except TimeoutError as error:
        raise Unavailable("no answer in time", sent=write) from error


@contextmanager
def translated(fields: FieldsOf | None = None, *, write: bool = True) -> Iterator[None]:
    """Raise errors of the driver as Conflict, Invalid or Unavailable; `fields` gives the names for the first two."""
    try:
        yield
    except (PyMongoError, BSONError, OverflowError) as error:
        raise as_side_error(error, fields, write=write) from None


def as_side_error(error: Exception, fields: FieldsOf | None = None, *, write: bool = True) -> SideError:
    """What an error of the driver means."""
    if isinstance(error, BSONError | OverflowError | DocumentTooLarge):
        return Invalid("document", "cannot be stored in or read from BSON")
    details = _details(error)
    code = details.get("code")
    name = fields or (lambda path: path)
    if code in _DUPLICATE:
        return Conflict([name(path) for path in details.get("keyPattern", {})])
    if code == _VALIDATOR:
        return Invalid(_failed_property(details, name), "refused by the collection's validator")
    if code in _UNSTORABLE and write:
        return Invalid("document", f"cannot be stored ({name_of(error)})")
    return Unavailable(name_of(error), sent=write and _may_have_happened(error, code))


def name_of(error: Exception) -> str:
    """The error without the values that its message may quote."""
    details = _details(error)
    code = details.get("codeName") or details.get("code")
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def is_transient(error: PyMongoError) -> bool:
    """The transaction that it ended can be run again from its start."""
    return error.has_error_label("TransientTransactionError")


def seconds_since(time: object) -> dict[str, Any]:
    """The expression for how long ago a time was by the server's clock; a time still to come was now."""
    return {"$max": [0.0, {"$divide": [{"$subtract": ["$$NOW", time]}, 1000]}]}


def _details(error: Exception) -> Mapping[str, Any]:
    """The part of the server's answer that says what went wrong."""
    if isinstance(error, BulkWriteError):
        refused = error.details.get("writeErrors") or [{}]
        return dict(refused[0])
    if isinstance(error, OperationFailure):
        return {"code": error.code, **(error.details or {})}
    return {}


def _may_have_happened(error: Exception, code: object) -> bool:
    if isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError | InvalidOperation):
        return False
    if isinstance(error, OperationFailure):
        return isinstance(error, WriteConcernError) or code is None or code in _MAYBE_DONE
    return True


def _failed_property(details: Mapping[str, Any], name: FieldsOf) -> str:
    """The first property that a `$jsonSchema` validator names, as far as it names one."""
    rules = details.get("errInfo", {}).get("details", {}).get("schemaRulesNotSatisfied", [])
    for rule in rules:
        for failed in rule.get("propertiesNotSatisfied", []):
            return name(str(failed.get("propertyName")))
        for missing in rule.get("missingProperties", []):
            return name(str(missing))
    return "document"
