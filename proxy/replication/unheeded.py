"""Changes of entities that settle nothing, as far as this replica's flags know: its flags may be the last to hear."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from adapters.side import Key
from proxy.flags.lease import now
from proxy.flags.view import Flags
from proxy.metrics import Metrics

_SURE: Final = 1.0
"""Seconds after a change by which a look at the flags, in either store, tells what its writer may have known."""
_MOST: Final = 10_000


class Unheeded:
    """Another replica may have read that an entity settles, and written without a mark, for the change stream is the record,
    before this one, which hears of the write, has read so. Until it is sure the keys are kept here."""

    def __init__(self, flags: Flags, metrics: Metrics) -> None:
        self._flags = flags
        self._metrics = metrics
        self._heard: OrderedDict[tuple[str, Key], float] = OrderedDict()

    def add(self, entity: str, key: Key) -> None:
        self._heard[entity, key] = now()
        self._heard.move_to_end((entity, key))
        if len(self._heard) > _MOST:
            self._metrics.shed.labels("unheeded").inc()
            self._heard.popitem(last=False)

    def some_before(self, moment: float) -> bool:
        """Whether one heard before that moment, by `proxy.flags.lease.now`, is still kept."""
        return next(iter(self._heard.values()), moment) < moment

    def take(self) -> list[tuple[str, Key]]:
        """Let go of those that settle after all: they are the caller's now; and of those that surely do not."""
        found = [which for which in self._heard if self._flags.meaning(which[0]).settles]
        for which in found:
            del self._heard[which]
        while self._heard and next(iter(self._heard.values())) + _SURE < self._flags.looked:
            self._heard.popitem(last=False)
        return found
