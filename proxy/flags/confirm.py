"""A write is confirmed to its client only in the tenure of the lease in which it began."""

from __future__ import annotations

from collections.abc import Callable

from proxy.failure import Failure
from proxy.flags.lease import Lease
from proxy.metrics import Metrics

Confirm = Callable[[], None]
"""Raises Failure 503 `lease_lost` where what has landed cannot be acknowledged; settling takes it back."""


class Confirmations:
    def __init__(self, lease: Lease, metrics: Metrics) -> None:
        self._lease = lease
        self._metrics = metrics

    def begin(self, entity: str) -> Confirm:
        """Called where the write's flag is read, before it begins: what it returns is called once the write has landed.
        Raises Failure where the lease does not hold now."""
        tenure = self._lease.tenure()
        if tenure is None:
            raise self._lost(entity)

        def confirm() -> None:
            if self._lease.tenure() != tenure:
                raise self._lost(entity)

        return confirm

    def _lost(self, entity: str) -> Failure:
        self._metrics.refused_writes.labels(entity, "lease_lost").inc()
        return Failure(503, "This replica has lost touch: the write does not count", reason="lease_lost", retry_after=1)
