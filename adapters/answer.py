"""Where in an old endpoint's answer the document is, and the body that the old endpoint would have sent.

Places are written `$` (the whole body) or `$.data.items` (by name, from the outside in).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any


class NoSuchPlace(LookupError):
    """The answer has nothing at that place."""


@lru_cache(maxsize=1024)
def parse_place(place: str) -> tuple[str, ...]:
    """The names that lead there. Raises ValueError for what is no place."""
    root, *names = place.split(".")
    if root != "$" or not all(names):
        raise ValueError(f"{place!r} is no place in an answer: expected $ or $.name.name")
    return tuple(names)


def extract(answer: Any, place: str) -> Any:
    """What the answer has at that place. Raises NoSuchPlace, or ValueError for what is no place."""
    for name in parse_place(place):
        if not isinstance(answer, Mapping) or name not in answer:
            raise NoSuchPlace(f"the answer has nothing at {place}")
        answer = answer[name]
    return answer


def enclose(value: Any, place: str, envelope: Mapping[str, Any]) -> Any:
    """The body with the value at that place and the envelope around it, which stays as it is.

    Raises ValueError where there is no room for both: an envelope needs a place inside it.
    """
    names = parse_place(place)
    if not names:
        if envelope:
            raise ValueError("an envelope needs a place for the document: expected $.name, not $")
        return value
    body = dict(envelope)
    inner = body
    for name in names[:-1]:
        held = inner.get(name, {})
        if not isinstance(held, Mapping):
            raise ValueError(f"the envelope has something else on the way to {place}")
        inner[name] = inner = dict(held)
    inner[names[-1]] = value
    return body
