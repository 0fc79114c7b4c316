"""Durations, sizes and shares, as a configuration file writes them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value.strip())
        if not match:
            raise ValueError("expected a duration such as 250ms, 1s or 5m")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def _size(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB|)", value.strip())
        if not match:
            raise ValueError("expected a size in bytes such as 1048576, 512KiB or 1MiB")
        return int(match[1]) * _SIZES[match[2]]
    return value


def _tolerance(value: Any) -> Any:
    return value if isinstance(value, int | float) else _duration(value)


def _not_negative(value: timedelta | float) -> timedelta | float:
    amount = value.total_seconds() if isinstance(value, timedelta) else value
    if not amount >= 0:
        raise ValueError("expected a tolerance of 0 or more")
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("expected more than nothing: a deadline that has passed at once lets nothing through")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
Size = Annotated[int, BeforeValidator(_size)]
Tolerance = Annotated[timedelta | float, BeforeValidator(_tolerance), AfterValidator(_not_negative)]
Percent = Annotated[int, Field(ge=0, le=100)]
