"""What the proxy says: one structured event a happening, JSON in production, readable lines on a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import orjson
import structlog

Style = Literal["auto", "json", "console"]


def configure(style: Style = "auto", level: str = "info") -> None:
    """Send events to standard error. `auto` is readable lines on a terminal and JSON lines elsewhere."""
    readable = style == "console" or (style == "auto" and sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if readable:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(threshold),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(_json)],
            wrapper_class=structlog.make_filtering_bound_logger(threshold),
            logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )
    logging.basicConfig(level=logging.WARNING, handlers=[_ToEvents()], force=True)


def _json(event: object, **_: object) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)


class _ToEvents(logging.Handler):
    """What libraries say through `logging` becomes an event as well, so that there is one stream to read. Of an exception
    only the type: its text may quote what a client sent."""

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[0] if record.exc_info else None
        structlog.get_logger().log(
            record.levelno,
            "library",
            logger=record.name,
            message=record.getMessage(),
            cause=cause.__name__ if cause else None,
        )
