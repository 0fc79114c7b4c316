"""Which Prisma type holds everything that was seen at a path, and how the configuration has to call it in BSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from adapters.documents.values import EXACT, INT32
from config.model import LegacyType
from proxy.migration.inspection.bson_types import NUMBERS
from proxy.migration.inspection.profile import Node

_SIMPLE: Final[dict[str, tuple[str, LegacyType | None]]] = {
    "string": ("String", None),
    "objectId": ("String", "objectId"),
    "uuid": ("String", "uuid"),
    "bool": ("Boolean", None),
    "date": ("DateTime", None),
    "timestamp": ("BigInt", "timestamp"),
    "binData": ("Bytes", None),
}
_IDS: Final[dict[str, LegacyType]] = {
    "objectId": "objectId",
    "string": "string",
    "uuid": "uuid",
    "int": "int32",
    "long": "int64",
}
_REPEATS: Final = 2
"""How often each constant has to have been seen, on average, before it is one of an enum's."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """`legacy` where it is not what the type implies; `constants`: it is an enum of these."""

    type: str
    legacy: LegacyType | None = None
    is_list: bool = False
    constants: tuple[str, ...] = ()
    remark: str = ""

    def of_enum(self, name: str) -> Proposed:
        return replace(self, type=name)


def proposed_type(node: Node) -> Proposed:
    """Json is what is left where no other type holds all of it."""
    kinds = node.kinds()
    if not kinds:
        return Proposed("Json", remark="never seen with a value")
    if kinds == {"array"}:
        return _list(node)
    return _scalar(node) or Proposed("Json", remark=_types(node) if kinds != {"object"} else "")


def id_form(node: Node) -> tuple[LegacyType | None, str]:
    """The BSON type of the keys, and a remark; no type, where documents are known by something that is no key."""
    kinds = node.kinds()
    known = [(count, kind) for kind, count in node.types.items() if kind in _IDS]
    if not known:
        return None, f"their _id is {_types(node)}; a key is an ObjectId, a string, a UUID or an integer"
    if kinds <= {"int", "long"}:
        return ("int64" if "long" in kinds else "int32"), ""
    form = _IDS[max(known)[1]]
    return form, "" if len(kinds) == 1 else f"_id is {_types(node)}: a key is always of one type"


def _scalar(node: Node) -> Proposed | None:
    kinds = node.kinds()
    if kinds == {"string"} and node.constants and _REPEATS * len(node.constants) <= node.constants.total():
        return Proposed("", constants=tuple(sorted(node.constants)))
    if kinds and kinds <= {"date", "dateOutOfRange"}:
        remark = "some dates are beyond the years 1 to 9999" if "dateOutOfRange" in kinds else ""
        return Proposed("DateTime", remark=remark)
    if kinds and kinds <= NUMBERS:
        return _number(node, kinds)
    [kind, *others] = sorted(kinds) or [""]
    if others or kind not in _SIMPLE:
        return None
    return Proposed(*_SIMPLE[kind])


def _number(node: Node, kinds: set[str]) -> Proposed:
    low, high = node.numbers.low or 0, node.numbers.high or 0
    if "decimal" in kinds:
        return Proposed("Decimal", remark="" if node.finite else "some are NaN or infinite")
    if "double" in kinds and not (node.whole and -EXACT <= low <= high <= EXACT):
        return Proposed("Float")
    remark = "whole numbers, stored as doubles" if kinds == {"double"} else ""
    legacy: LegacyType | None = "double" if kinds == {"double"} else None
    small = low >= -INT32 and high < INT32
    return Proposed("Int" if small and "long" not in kinds else "BigInt", legacy, remark=remark)


def _list(node: Node) -> Proposed:
    if node.each is None:
        return Proposed("Json", remark="arrays that were always empty")
    if node.each.nulls:
        return Proposed("Json", remark="arrays with null in them")
    each = _scalar(node.each)
    if each is None:
        return Proposed("Json", remark=f"arrays of {_types(node.each)}")
    return replace(each, is_list=True)


def _types(node: Node) -> str:
    return ", ".join(sorted(node.kinds()))
