"""The named steps of the protocol: where a test may stop or kill a process, and nobody else can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

Step = Literal["marked", "written", "held", "applied", "unmarked", "position_saved", "found", "landed", "kept"]
"""In the order of one write: its mark is there, where it does not come with the write itself; the primary has it; its key
was read under a token; the secondary has it; its mark is gone; the change stream's saved position has passed it. Then those
of a run over all keys: the next range of them is known; a range is done; that has been kept as its checkpoint."""

Reached = Callable[[Step], Awaitable[None]]
"""Told of each step as it is reached, and waited for before the next one."""


async def unnoticed(_: Step) -> None:
    """What a proxy that serves does at every step: nothing."""
