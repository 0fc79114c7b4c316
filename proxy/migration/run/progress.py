"""What a long run says while it works: how far, how fast, how long still. JSON lines where nobody looks on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import IO, Any, Final, Protocol

import orjson

_SAY_EVERY: Final = 1.0
_WINDOW: Final = 10.0
"""Seconds over which the rate is taken."""


class Progress(Protocol):
    """Told of one entity after the other."""

    def begin(self, entity: str, total: int | None, done: int) -> None:
        """Work on this entity begins, `done` of about `total` documents being done already."""
        ...

    def show(self, done: int, counts: Mapping[str, int]) -> None:
        """So many are done; `counts` says what became of them."""
        ...

    def say(self, text: str | None) -> None:
        """What it waits for; None: it goes on."""
        ...

    def end(self, summary: Mapping[str, Any]) -> None:
        """The entity is done; or it was `stopped` before, by whatever is raised after this."""
        ...


class Meter:
    """Documents a second lately, and the seconds that the rest will take."""

    def __init__(self, total: int | None, done: int) -> None:
        self.total = total
        self.done = done
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), done)])

    def moved(self, done: int) -> None:
        now = time.monotonic()
        self.done = done
        # A few points are enough, however often it is told.
        if now - self._seen[-1][0] >= _WINDOW / 100:
            self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        since, before = self._seen[0]
        passed = time.monotonic() - since
        return (self.done - before) / passed if passed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Never negative: documents that were written meanwhile may make it more than there were. None: nobody knows."""
        if self.total is None or not self.rate:
            return None
        return max(0.0, (self.total - self.done) / self.rate)


class Silent:
    """For who does not want to know."""

    def begin(self, entity: str, total: int | None, done: int) -> None:
        pass

    def show(self, done: int, counts: Mapping[str, int]) -> None:
        pass

    def say(self, text: str | None) -> None:
        pass

    def end(self, summary: Mapping[str, Any]) -> None:
        pass


class Lines:
    """JSON, a line at most every second, and the summary of each entity always."""

    def __init__(self, command: str, out: IO[bytes]) -> None:
        self._command = command
        self._out = out
        self._entity = ""
        self._meter = Meter(None, 0)
        self._said = 0.0

    def begin(self, entity: str, total: int | None, done: int) -> None:
        self._entity = entity
        self._meter = Meter(total, done)
        self._said = time.monotonic()

    def show(self, done: int, counts: Mapping[str, int]) -> None:
        self._meter.moved(done)
        if time.monotonic() - self._said < _SAY_EVERY:
            return
        self._said = time.monotonic()
        eta = self._meter.eta
        self._write(
            "progress",
            {
                **counts,
                "done": done,
                "total": self._meter.total,
                "rate": round(self._meter.rate, 1),
                "eta": None if eta is None else round(eta, 1),
            },
        )

    def say(self, text: str | None) -> None:
        self._write("goes on" if text is None else "waits", {} if text is None else {"cause": text})

    def end(self, summary: Mapping[str, Any]) -> None:
        self._write("stopped" if summary.get("stopped") else "done", summary)

    def _write(self, event: str, parts: Mapping[str, Any]) -> None:
        line = {"event": event, "command": self._command, "entity": self._entity, **parts}
        self._out.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._out.flush()
