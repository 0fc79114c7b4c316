"""Several Prisma fields that are the parts of one legacy string, such as the two names in "Ada Lovelace"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.documents.paths import ABSENT
from adapters.documents.values import Refused, text


@dataclass(frozen=True, slots=True)
class Cut:
    """This part, counted from 0, of a string that is cut at `by`, at most `last` times: the last part takes the rest."""

    by: str
    part: int
    last: int

    def of(self, value: Any) -> Any:
        """The part; None where the string has fewer, ABSENT without string. Raises Refused for what is no string."""
        if value is None or value is ABSENT:
            return value
        parts = text(value).split(self.by, self.last)
        return parts[self.part] if self.part < len(parts) else None


def join(by: str, parts: Sequence[str | None]) -> str | None:
    """The string of all its parts; None without any. Raises Refused for parts that would not be read back as they are."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    if any(part is None for part in parts[: len(present)]):
        raise Refused("a part of a split string is missing before one that is there")
    result = by.join(present)
    if result.split(by, len(parts) - 1) != present:
        raise Refused("a part of a split string holds the separator")
    return result
