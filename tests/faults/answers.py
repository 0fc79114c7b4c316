"""What a client is told, or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from tests.faults.subjects import Json


@dataclass(frozen=True, slots=True)
class Answer:
    url: str
    status: int
    body: Any

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", "")) if isinstance(self.body, dict) else ""

    def document(self) -> Json:
        data = self.body.get("data") if isinstance(self.body, dict) else None
        return data if isinstance(data, dict) else {}


class NotAsked(Exception):
    """No replica accepts connections."""


class Unanswered(Exception):
    """The connection to that replica broke, or it took too long."""

    def __init__(self, url: str, kind: str) -> None:
        super().__init__(kind)
        self.url = url


def parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
