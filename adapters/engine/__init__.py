"""Prisma Client for Python, over a Node process: see `Engine`."""

from adapters.engine.errors import (
    EngineError,
    EngineGone,
    EngineTimeout,
    ForeignKeyViolation,
    Invalid,
    RecordNotFound,
    TransactionClosed,
    Unavailable,
    UniqueViolation,
    Unreadable,
    ValueRefused,
    WriteConflict,
)
from adapters.engine.service import Call, Engine
from adapters.engine.values import Json, JsonText

__all__ = [
    "Call",
    "Engine",
    "EngineError",
    "EngineGone",
    "EngineTimeout",
    "ForeignKeyViolation",
    "Invalid",
    "Json",
    "JsonText",
    "RecordNotFound",
    "TransactionClosed",
    "Unavailable",
    "UniqueViolation",
    "Unreadable",
    "ValueRefused",
    "WriteConflict",
]
