"""Which replicas live, by the registries of both stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from adapters.side import Replica, SideName, Store, Unavailable
from proxy.flags.both import ask_both
from proxy.flags.lease import LEASE, now


async def live_replicas(stores: Mapping[SideName, Store]) -> list[Replica]:
    """Every replica that either store has heard of within its lease, with the highest epochs that it told either.

    Raises Unavailable where a registry cannot be read: then nobody may be declared gone.
    """
    begun = now()
    answers = await ask_both(stores, lambda _, store: store.state.replicas())
    if missing := stores.keys() - answers.keys():
        raise Unavailable(f"the registry of {', '.join(sorted(missing))} cannot be read")
    # A beat may have come to one store after it was asked and before the other one was: silence counts from before both.
    silent = LEASE + now() - begun
    found: dict[str, Replica] = {}
    for replica in (one for answer in answers.values() for one in answer):
        known = found.get(replica.id)
        found[replica.id] = replica if known is None else _together(known, replica)
    return [replica for replica in found.values() if replica.age < silent]


def _together(one: Replica, other: Replica) -> Replica:
    """What both registries say of one replica: the younger one, with everything that it has acknowledged."""
    younger = one if one.age <= other.age else other
    epochs = {
        entity: max(one.epochs.get(entity, 0), other.epochs.get(entity, 0))
        for entity in one.epochs.keys() | other.epochs.keys()
    }
    return replace(younger, epochs=epochs)
