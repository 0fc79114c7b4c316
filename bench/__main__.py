"""`make bench`: every figure, as a table and in bench/latest.json. Names of benches may be given, to run only those."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from bench import compare, forward, migrator, stages
from bench.figure import Figure

_BENCHES: Final[Mapping[str, Callable[[], Awaitable[list[Figure]]]]] = {
    "forward": forward.measure,
    "stages": stages.measure,
    "migrator": migrator.measure,
    "compare": compare.measure,
}
_LATEST: Final = Path(__file__).with_name("latest.json")


async def run(names: list[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    figures: list[Figure] = []
    for name in names:
        console.print(f"{name} …")
        figures += await _BENCHES[name]()
    table = Table("figure", "value", "unit", "goal", "peer", "")
    for figure in figures:
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.3g}", figure.unit, figure.goal, figure.peer, verdict)
    console.print(table)
    if set(names) == set(_BENCHES):
        _LATEST.write_bytes(orjson.dumps([asdict(figure) for figure in figures], option=orjson.OPT_INDENT_2) + b"\n")


def main() -> None:
    names = sys.argv[1:] or list(_BENCHES)
    unknown = [name for name in names if name not in _BENCHES]
    if unknown:
        sys.stderr.write(f"bench: unknown {', '.join(unknown)}; expected {', '.join(_BENCHES)}\n")
        sys.exit(2)
    asyncio.run(run(names))


if __name__ == "__main__":
    main()
