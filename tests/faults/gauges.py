"""What the replicas count, as their admin ports say it."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.scene import Replica


async def counted(replicas: Iterable[Replica], name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels, over the replicas."""
    total = 0.0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for replica in replicas:
            async with session.get(f"{replica.admin}/metrics") as response:
                text = await response.text()
            total += sum(
                sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )
    return total
