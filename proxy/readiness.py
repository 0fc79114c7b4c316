"""Whether this replica wants requests: from its first flags until it is told to stop, as long as its lease holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

Reason = Literal["starting", "stopping", "lease"]


class Readiness:
    """What load balancers are told. Once `leaving` is set the replica still answers, but wants to be left alone."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._started = False
        self.leaving = asyncio.Event()

    def started(self) -> None:
        """The flags are known, and the port is listened on."""
        self._started = True

    @property
    def hindrance(self) -> Reason | None:
        """Why no requests should be sent here; None where they should."""
        if self.leaving.is_set():
            return "stopping"
        if not self._started:
            return "starting"
        return None if self._holds() else "lease"
