"""What has to hold before a copy of an entity may begin: from then on nothing that is written is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from adapters.side import Replica, SideError, SideName, Store
from proxy.flags.registry import live_replicas
from proxy.flags.view import Flags

_PATIENCE: Final = 5.0
"""Seconds that replicas have to acknowledge the flag as it is."""
_LOOK: Final = 0.1


class NotSettling(SideError):
    """The entity cannot be copied now: what was copied would be stale at once."""


def check_settles(entity: str, flags: Flags) -> None:
    """Raises NotSettling where the entity's stage settles nothing."""
    if not flags.meaning(entity).settles:
        raise NotSettling(
            f"{entity} is at {flags[entity].stage}, where nothing that is written is copied; "
            f"expected dualwrite or later: strangler flag set {entity} dualwrite"
        )


async def admit(
    entity: str, stores: Mapping[SideName, Store], flags: Flags, *, lasts: float, waits: Callable[[str], None]
) -> None:
    """Return when every proxy that lives knows that the entity settles, and what was begun before has ended.

    `lasts`: seconds that a write of which no record was kept may take; 0 where the change stream is the record, which
    hears of it all the same. `waits` is told what is waited for. Raises NotSettling, or Unavailable.
    """
    await flags.refresh()
    check_settles(entity, flags)
    if flags[entity].target is not None:
        raise NotSettling(f"{entity} is being moved to {flags[entity].target}; expected it to stand still")
    await _acknowledged(entity, stores, flags)
    flag = flags[entity]
    # One that nobody ever changed has been as it is since before the proxies started.
    rest = lasts - flag.age if flag.epoch else 0.0
    if rest > 0:
        waits(f"for {rest:.0f} s, until writes that began before {entity} was at {flag.stage} have ended")
        await asyncio.sleep(rest)


async def _acknowledged(entity: str, stores: Mapping[SideName, Store], flags: Flags) -> None:
    """Every replica that lives goes by the flag."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while True:
        live = await live_replicas(stores)
        if not live:
            raise NotSettling(
                "no proxy is running: nobody would copy what is written meanwhile; start one with strangler serve"
            )
        late = [replica for replica in live if replica.epochs.get(entity, 0) < flags[entity].epoch]
        if not late:
            return
        if loop.time() > deadline:
            raise NotSettling(_late(entity, late, flags[entity].epoch))
        await asyncio.sleep(_LOOK)
        await flags.refresh()


def _late(entity: str, late: list[Replica], epoch: int) -> str:
    names = ", ".join(sorted(f"{replica.id} (at epoch {replica.epochs.get(entity, 0)})" for replica in late))
    return (
        f"{entity} is at epoch {epoch}, which has not been acknowledged by {names}; expected every proxy to follow it"
    )
