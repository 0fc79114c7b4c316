"""Whole documents of a legacy collection, to and from canonical ones; and the questions and changes put to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from adapters.documents.paths import ABSENT, Path, find, inside_list, overlapping, place, whole
from adapters.documents.slots import RuleError, Slot, finder
from adapters.documents.splitting import join
from adapters.documents.values import Refused, alike
from adapters.side import Document, Invalid, Key


@dataclass(frozen=True, slots=True)
class Place:
    """One value of a legacy document, and the fields that live in it: one, or the parts of a split string."""

    path: Path
    dotted: str
    slots: tuple[Slot, ...]

    def holds_one_of(self, names: Collection[str]) -> bool:
        return any(slot.name in names for slot in self.slots)

    def stored(self, document: Mapping[str, Any]) -> Any:
        """The BSON value that belongs here; None: nothing does. Raises Invalid by the field's name."""
        slot = self.slots[0]
        try:
            if slot.cut is None:
                return slot.stored(document.get(slot.name))
            return join(slot.cut.by, [part.stored(document.get(part.name)) for part in self.slots])
        except Refused as error:
            raise error.invalid(slot.name) from error


class LegacyDocuments:
    """Raises RuleError, on construction, for fields that claim the same place."""

    def __init__(self, slots: Sequence[Slot], id: Slot) -> None:
        self._id = id
        self._find_id = finder(id.path, id.cut)
        self._by_name = {slot.name: slot for slot in slots}
        self._plan = [
            (
                slot.name,
                slot.path[0] if len(slot.path) == 1 and not slot.cut else None,
                finder(slot.path, slot.cut),
                slot.canonical if slot.always else slot.read,
                slot,
            )
            for slot in slots
        ]
        self._places = _places(slots)
        self._but_id = [here for here in self._places if here.slots[0] is not id]

    def from_legacy(self, raw: Mapping[str, Any]) -> Document:
        document: Document = {}
        for name, at_top, find_raw, read, slot in self._plan:
            try:
                value = find_raw(raw) if at_top is None else raw.get(at_top)
                document[name] = slot.canonical(value) if value is None or value is ABSENT else read(value)
            except Refused as error:
                raise error.invalid(slot.dotted) from error
        return document

    def to_legacy(self, document: Mapping[str, Any]) -> dict[str, Any]:
        return self._tree(document, self._places)

    def changes(
        self, raw: Mapping[str, Any] | None, document: Mapping[str, Any], only: Collection[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if raw is None:
            return self._tree(document, self._but_id), {}
        places = self._but_id if only is None else [here for here in self._but_id if here.holds_one_of(only)]
        return self._assignments(raw, document, [here for here in places if _differs(raw, document, here)])

    def value_in(self, raw: Mapping[str, Any], name: str) -> Any:
        """The canonical value of one field; None where there is nothing. Raises Invalid."""
        slot = self._by_name[name]
        try:
            found = finder(slot.path, slot.cut)(raw)
            if found is not None and found is not ABSENT:
                return slot.read(found)
            return slot.read(None) if slot.always else None
        except Refused as error:
            raise error.invalid(slot.dotted) from error

    def holds(self, name: str) -> bool:
        return name in self._by_name

    def key_of(self, raw: Mapping[str, Any]) -> Key:
        try:
            return str(self._id.canonical(self._find_id(raw)))
        except Refused as error:
            raise error.invalid(self._id.dotted) from error

    def where(self, where: Mapping[str, Any]) -> dict[str, Any]:
        return {self._sole(name).dotted: {"$eq": self.value(name, value)} for name, value in where.items()}

    def order(self, order: Sequence[tuple[str, bool]]) -> list[tuple[str, int]]:
        return [(self._sole(name).dotted, -1 if descending else 1) for name, descending in order]

    def value(self, name: str, value: Any) -> Any:
        """The BSON value of one field's canonical value."""
        try:
            return self._sole(name).stored(value)
        except Refused as error:
            raise error.invalid(name) from error

    def _sole(self, name: str) -> Slot:
        slot = self._by_name.get(name)
        if slot is None:
            raise Invalid(name, "no such field")
        if slot.cut:
            raise Invalid(name, "a part of a legacy string cannot be asked for")
        return slot

    def _assignments(
        self, raw: Mapping[str, Any], document: Mapping[str, Any], differing: Sequence[Place]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        to_set: dict[str, Any] = {}
        unset: dict[str, Any] = {}
        for here in differing:
            target = whole(raw, here.path)
            dotted = ".".join(target)
            if target == here.path:
                value = here.stored(document)
            else:
                under = [p for p in self._places if p.path[: len(target)] == target]
                value = find(self._tree(document, under), target)
            if value is not None and value is not ABSENT:
                to_set[dotted] = value
            elif inside_list(raw, target):
                to_set[dotted] = None
            else:
                unset[dotted] = ""
        return to_set, unset

    def _tree(self, document: Mapping[str, Any], places: Sequence[Place]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for here in places:
            value = here.stored(document)
            if value is not None:
                place(tree, here.path, value)
        return tree


def _differs(raw: Mapping[str, Any], document: Mapping[str, Any], here: Place) -> bool:
    for slot in here.slots:
        try:
            found = find(raw, slot.path)
            present = slot.canonical(slot.cut.of(found) if slot.cut else found)
        except Refused:
            return True  # whatever it is, it is not what it should be
        wanted = document.get(slot.name)
        if not alike(present, [] if wanted is None and slot.field.is_list else wanted):
            return True
    return False


def _places(slots: Sequence[Slot]) -> list[Place]:
    """Raises RuleError where a field stands inside another's place, or the parts of a string leave a gap."""
    parts = sorted((slot for slot in slots if slot.cut), key=lambda slot: (slot.path, slot.cut.part if slot.cut else 0))
    places = [Place(slot.path, slot.dotted, (slot,)) for slot in slots if not slot.cut]
    for path, group in groupby(parts, key=lambda slot: slot.path):
        together = tuple(group)
        cuts = [slot.cut for slot in together if slot.cut]
        if [cut.part for cut in cuts] != list(range(len(cuts))) or len({cut.by for cut in cuts}) != 1:
            raise RuleError(
                together[0].name,
                f"the parts of {together[0].dotted} are not each one field, counted from 0; expected that, split by the same",
            )
        places.append(Place(path, together[0].dotted, together))
    clash = overlapping([here.path for here in places])
    if clash:
        both = [here for here in places if here.path in clash]
        # The field whose rule put it there is the one to blame.
        moved = next((here for here in both if here.dotted != _implied(here.slots[0])), both[0])
        other = next(here for here in both if here is not moved)
        raise RuleError(
            moved.slots[0].name,
            f"its place {moved.dotted} is at, inside or around that of {other.slots[0].name}, {other.dotted}",
        )
    return places


def _implied(slot: Slot) -> str:
    return "_id" if slot.field.id else slot.name
