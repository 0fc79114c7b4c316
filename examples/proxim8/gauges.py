"""What a running proxy says of itself: its metrics, and the mismatches among its events."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from examples.proxim8.stand import Stand

_LAG = "strangler_settle_lag_seconds_bucket"


@dataclass(frozen=True, slots=True)
class Gauges:
    """One look at the metrics: triples of name, labels and value."""

    samples: tuple[tuple[str, dict[str, str], float], ...]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name that have these labels."""
        return sum(value for _, value in self._of(name, labels))

    def judged(self, entity: str) -> int:
        """Comparisons of the entity that came to a result."""
        return sum(self.compared(entity, result) for result in ("equal", "lag", "mismatch"))

    def compared(self, entity: str, result: str) -> int:
        return int(self.total("strangler_comparisons_total", entity=entity, result=result))

    def lag(self, entity: str, share: float) -> float:
        """Milliseconds: the bucket that holds this share of the settles, from a write's end to its state on the other side."""
        buckets = [(float(labels["le"]), value) for labels, value in self._of(_LAG, {"entity": entity})]
        most = max(value for _, value in buckets)
        return min(bound for bound, value in buckets if value >= share * most) * 1000

    def _of(self, name: str, labels: dict[str, str]) -> Iterable[tuple[dict[str, str], float]]:
        return (
            (found, value) for known, found, value in self.samples if known == name and labels.items() <= found.items()
        )


async def read_gauges(proxim8: Stand) -> Gauges:
    async with aiohttp.ClientSession() as session, session.get(f"{proxim8.admin_url}/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    return Gauges(tuple((s.name, s.labels, s.value) for family in families for s in family.samples))


def mismatches(proxim8: Stand) -> list[dict[str, str]]:
    """The proxy's mismatch events so far."""
    lines = [line for line in proxim8.proxy.log.read_text().splitlines() if '"mismatch"' in line]
    return [event for event in map(json.loads, lines) if event["event"] == "mismatch"]
