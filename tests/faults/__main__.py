"""`make faults`: every campaign, or those named by C=; a line a scenario, a table, and bench/faults.json."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from tests.faults import flip, kill, lag, links, memory, pause, poison, steps, stores
from tests.faults.campaign import Campaign, Size
from tests.faults.result import Result

CAMPAIGNS: Final[Mapping[str, Campaign]] = {
    part.CAMPAIGN.name: part.CAMPAIGN for part in (kill, steps, stores, links, flip, pause, poison, lag, memory)
}
_MEASURES: Final = ("lag", "memory")
"""What is measured when it is asked for, and is no part of the whole run."""
_WRITTEN: Final = Path(__file__).resolve().parents[2] / "bench" / "faults.json"


async def _run(campaign: Campaign, size: Size, seed: int, console: Console, *, prove: bool) -> Result:
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    began = time.monotonic()
    result = await campaign.whole(size, seed, say)
    if prove:
        for rule in campaign.rules:
            caught = await campaign.proof(rule, seed, say)
            say(f"{campaign.name} without {rule!r}: {caught.verdict or 'NOT CAUGHT'} (run {caught.runs})")
            result.proofs.append(caught)
            result.must(caught.verdict is not None, f"the checker does not notice that {rule!r} is disobeyed")
    result.figures["seconds"] = round(time.monotonic() - began)
    return result


def _table(results: list[Result]) -> Table:
    table = Table("campaign", "scenarios", "acknowledged", "lost", "unequal", "foreign", "errors", "caught without", "")
    for result in results:
        caught = ", ".join(f"{proof.rule} ({proof.runs})" for proof in result.proofs if proof.verdict)
        verdict = "[red]FAILED[/]" if result.failures else "[green]held[/]"
        counts = (result.scenarios.total(), result.acknowledged, result.lost, result.unequal, result.foreign)
        table.add_row(
            result.campaign, *(f"{count:,}" for count in counts), f"{result.errors.total():,}", caught, verdict
        )
    return table


def _write(results: list[Result]) -> None:
    """The entries of the campaigns that ran; those of others stay."""
    known: dict[str, Any] = orjson.loads(_WRITTEN.read_bytes()) if _WRITTEN.exists() else {}
    known |= {result.campaign: result.as_json() for result in results}
    _WRITTEN.write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2) + b"\n")


async def _main(names: list[str], size: Size, seed: int, *, prove: bool, write: bool) -> int:
    console = Console(width=None if sys.stdout.isatty() else 160)
    results = []
    for name in names:
        results.append(await _run(CAMPAIGNS[name], size, seed, console, prove=prove))
        if write:
            _write(results)
    console.print(_table(results))
    for result in results:
        for failure in result.failures:
            console.print(f"{result.campaign}: {failure}", markup=False, style="red", soft_wrap=True)
    return 1 if any(result.failures for result in results) else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("campaigns", nargs="*", choices=[*CAMPAIGNS, []], help="all of them unless named")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the full counts; below 1 nothing is written")
    parser.add_argument("--most", type=int, help="scenarios in a scene; nothing is written")
    parser.add_argument("--no-proof", action="store_true", help="leave out the runs with a rule disobeyed")
    options = parser.parse_args()
    names = options.campaigns or [name for name in CAMPAIGNS if name not in _MEASURES]
    size = Size(options.share, most=options.most)
    whole = options.share >= 1 and options.most is None and not options.no_proof
    sys.exit(asyncio.run(_main(names, size, options.seed, prove=not options.no_proof, write=whole)))


if __name__ == "__main__":
    main()
