"""Numbers and dates as text, the forms that bodies, paths, queries and legacy strings have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Final

from adapters.documents.values import Refused, moment

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def parse_integer(value: str) -> int:
    digits = value[1:] if value[:1] == "-" else value
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise Refused("expected an integer in decimal digits")
    return int(value)


def parse_decimal(value: str) -> Decimal:
    try:
        return Decimal(value)
    except DecimalException as error:
        raise Refused("expected a decimal number") from error


def parse_date(value: str) -> datetime:
    """ISO 8601 with a zone; a date alone is its midnight in UTC, as in JavaScript."""
    try:
        when = datetime.fromisoformat(value)
    except ValueError as error:
        raise Refused("expected an ISO 8601 date with a time zone") from error
    if when.tzinfo is None:
        if len(value) != 10:
            raise Refused("expected an ISO 8601 date with a time zone")
        when = when.replace(tzinfo=UTC)
    return moment(when)


def millis_date(value: int) -> datetime:
    try:
        return EPOCH + timedelta(milliseconds=value)
    except OverflowError as error:
        raise Refused("a date out of the range 0001 to 9999") from error


def iso(value: datetime) -> str:
    """As JavaScript's toISOString writes it. `value` is in UTC."""
    return value.isoformat(timespec="milliseconds")[:-6] + "Z"


def to_millis(value: datetime) -> int:
    return (value - EPOCH) // _MILLISECOND
