"""How a call on the engine fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# The driver's words for a connection that had been there, and PostgreSQL's codes for one that never was.
_LOST_UNDERWAY: Final = frozenset({"ConnectionClosed", "SocketTimeout"})
_NEVER_CONNECTED: Final = frozenset({"08001", "08004", "57P03"})


class EngineError(Exception):
    """A call failed. `code` is Prisma's (P2002 …) or none, `sqlstate` PostgreSQL's where it was the one to refuse.

    `message` names fields and constraints; only that of a raw query may quote a value. `meta` is what else is known:
    `modelName`, `constraint`, `databaseMessage`, `kind` …
    """

    def __init__(self, message: str, *, code: str | None = None, meta: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.meta: Mapping[str, Any] = meta or {}

    @property
    def sqlstate(self) -> str | None:
        return self.meta.get("sqlstate")


class EngineGone(EngineError):
    """The engine process is not there. `sent` tells whether the request had gone out: then its outcome is unknown."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class EngineTimeout(EngineError):
    """No answer in time. `sent` as with EngineGone; a statement that the database itself cancelled had no effect."""

    def __init__(
        self, message: str, *, sent: bool, code: str | None = None, meta: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, code=code, meta=meta)
        self.sent = sent


class Unavailable(EngineError):
    """The database cannot be reached, has no connection to spare, or too many calls are in flight.

    `sent`: the connection was lost under the statement, so that its outcome is unknown.
    """

    @property
    def sent(self) -> bool:
        if self.code == "P1017" or self.meta.get("kind") in _LOST_UNDERWAY:
            return True
        return (self.sqlstate or "").startswith(("57P", "08")) and self.sqlstate not in _NEVER_CONNECTED


class UniqueViolation(EngineError):
    """`fields` of `model` hold values that exist already; none are known of a constraint that Prisma did not name."""

    fields: tuple[str, ...] = ()


class ForeignKeyViolation(EngineError):
    """`fields` refer to a record that does not exist, or a record that others still refer to was to go."""

    fields: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        return ", ".join(self.fields)


class RecordNotFound(EngineError):
    """What was to be changed, connected or found is not there."""


class Invalid(EngineError):
    """The arguments do not fit the schema; nothing was executed."""


class ValueRefused(EngineError):
    """The database refused a value: too long, out of range, null where it must not be, malformed. Nothing written."""


class Unreadable(EngineError):
    """The call was done, but what it answered is more than its reader takes."""


class WriteConflict(EngineError):
    """A deadlock, a transaction that could not be serialised, or tables that changed under it.

    It had no effect and may be tried again.
    """


class TransactionClosed(EngineError):
    """The interactive transaction is over. `reason`: committed, rolled back, expired, abandoned or unknown."""

    @property
    def reason(self) -> str:
        return str(self.meta.get("reason", "unknown"))


_BY_CODE: Final[Mapping[str, type[EngineError]]] = {
    "P2002": UniqueViolation,
    "P2003": ForeignKeyViolation,
    "P2014": ForeignKeyViolation,
    "P2015": RecordNotFound,
    "P2018": RecordNotFound,
    "P2025": RecordNotFound,
    "P2009": Invalid,
    "P2012": Invalid,
    "P2013": Invalid,
    "P2019": Invalid,
    "P2000": ValueRefused,
    "P2005": ValueRefused,
    "P2006": ValueRefused,
    "P2007": ValueRefused,
    "P2011": ValueRefused,
    "P2020": ValueRefused,
    "P2023": ValueRefused,
    "P2033": ValueRefused,
    "P2034": WriteConflict,
    "P2028": TransactionClosed,
    "P2024": Unavailable,
    "P2037": Unavailable,
    "BUSY": Unavailable,
}

_BY_SQLSTATE: Final[Mapping[str, type[EngineError]]] = {
    "23505": UniqueViolation,
    "23503": ForeignKeyViolation,
    "23001": ForeignKeyViolation,
    "40001": WriteConflict,
    "40P01": WriteConflict,
    "P0001": ValueRefused,  # raised by a trigger
}

# Classes of SQLSTATE: connection exception, insufficient resources, operator intervention; data and integrity errors, and
# what is too large for an index or a row.
_BY_CLASS: Final[Mapping[str, type[EngineError]]] = {
    "08": Unavailable,
    "53": Unavailable,
    "57": Unavailable,
    "22": ValueRefused,
    "23": ValueRefused,
    "54": ValueRefused,
}

# The driver's own words, which a raw query's error has under the one code of raw queries.
_UNREACHABLE: Final = frozenset(
    {
        *("AuthenticationFailed", "ConnectionClosed", "DatabaseAccessDenied", "DatabaseDoesNotExist"),
        *("DatabaseNotReachable", "SocketTimeout", "TlsConnectionError", "TooManyConnections"),
    }
)

_QUERY_CANCELED: Final = "57014"


def engine_error(raw: Mapping[str, Any], constraints: Mapping[str, tuple[str, ...]]) -> EngineError:
    """The error that the engine described; `constraints` tells the fields of each by its name in the database."""
    code, message, meta = raw["code"], raw["message"], raw["meta"]
    sqlstate = meta.get("sqlstate") or ""
    if sqlstate == _QUERY_CANCELED:
        return EngineTimeout(message, sent=False, code=code, meta=meta)
    kind = Unavailable if _not_begun(code, message) else _class(code, sqlstate, meta.get("kind"))
    error = kind(message, code=code, meta=meta)
    if isinstance(error, UniqueViolation | ForeignKeyViolation):
        error.fields = tuple(meta.get("target") or constraints.get(meta.get("constraint") or "", ()))
    return error


def _not_begun(code: str | None, message: str) -> bool:
    # Prisma has one code for transactions that are over and for those that found no connection to begin on.
    return code == "P2028" and "Unable to start a transaction" in message


def _class(code: str | None, sqlstate: str, kind: str | None) -> type[EngineError]:
    if kind in _UNREACHABLE or (code or "").startswith("P1"):
        return Unavailable
    if kind == "TransactionWriteConflict":
        return WriteConflict
    return _BY_CODE.get(code or "") or _BY_SQLSTATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2]) or EngineError
