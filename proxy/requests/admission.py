"""What else a handler writes: an entity is admitted when it is first written, as if a request for it had come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from adapters.prisma.marking import Unrecorded
from proxy.flags.gate import Gate
from proxy.flags.view import Flags


class Admission:
    """One handler's write. The gate of its own entity has been passed already."""

    def __init__(self, flags: Flags, gates: Mapping[str, Gate], own: str) -> None:
        self._flags = flags
        self._gates = gates
        self._own = own
        self._entered: dict[str, Gate] = {}

    async def admit(self, entity: str) -> bool:
        """Whether this entity's writes have to be marked. Raises Unrecorded where prisma is not its primary: there a
        handler cannot write it. Raises Held past the gate's deadline."""
        if entity != self._own and entity not in self._entered:
            await self._gates[entity].enter()
            self._entered[entity] = self._gates[entity]
        meaning = self._flags.meaning(entity)
        if meaning.primary != "prisma":
            raise Unrecorded(f"{entity} is at {self._flags[entity].stage}: until live only the old server may write it")
        return meaning.settles

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Everything admitted counts as in flight until the block ends."""
        try:
            yield
        finally:
            for gate in self._entered.values():
                gate.leave()
