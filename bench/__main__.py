"""`make bench`: every figure, as a table and in bench/latest.json. Names of benches may be given, to run only those; with
`--videos N`, data is moved of so many, for a try."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table

from bench import compare, forward, migrator, move, stages
from bench.figure import Figure

_BENCHES: Final[Mapping[str, Callable[[], Awaitable[list[Figure]]]]] = {
    "forward": forward.measure,
    "stages": stages.measure,
    "migrator": migrator.measure,
    "move": move.measure,
    "compare": compare.measure,
}
_LATEST: Final = Path(__file__).with_name("latest.json")


async def run(names: list[str], videos: int | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    figures: list[Figure] = []
    for name in names:
        console.print(f"{name} …")
        figures += await (move.measure(videos) if name == "move" and videos else _BENCHES[name]())
    table = Table("figure", "value", "unit", "goal", "peer", "")
    for figure in figures:
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.3g}", figure.unit, figure.goal, figure.peer, verdict)
    console.print(table)
    if set(names) == set(_BENCHES) and not videos:
        _LATEST.write_bytes(orjson.dumps([asdict(figure) for figure in figures], option=orjson.OPT_INDENT_2) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Measures what is named, or everything.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_BENCHES))
    parser.add_argument("--videos", type=int, help="move so many, for a try; nothing is written to latest.json then")
    arguments = parser.parse_args()
    names = arguments.names or list(_BENCHES)
    if unknown := [name for name in names if name not in _BENCHES]:
        parser.error(f"unknown {', '.join(unknown)}; expected {', '.join(_BENCHES)}")
    asyncio.run(run(names, arguments.videos))


if __name__ == "__main__":
    main()
