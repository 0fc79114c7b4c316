"""Progress for somebody who looks on: a bar for each entity, with its rate and the time that is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn

from proxy.migration.run.progress import Meter

_SHOWN: Final = 20
"""Refused keys that a summary names."""


class Bars:
    """Use it as a context: it draws while the block lasts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._task = TaskID(0)
        self._entity = ""
        self._meter = Meter(None, 0)
        self._trouble = ""
        self._counts: Mapping[str, int] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, entity: str, total: int | None, done: int) -> None:
        self._entity, self._meter, self._counts, self._trouble = entity, Meter(total, done), {}, ""
        self._task = self._progress.add_task(entity, total=total, completed=done, note="")

    def show(self, done: int, counts: Mapping[str, int]) -> None:
        self._meter.moved(done)
        self._counts = counts
        self._draw()

    def say(self, text: str | None) -> None:
        self._trouble = f"waits: {text}" if text else ""
        self._draw()

    def end(self, summary: Mapping[str, Any]) -> None:
        done = self._meter.done
        said = ", ".join(f"{value} {name}" for name, value in summary.items() if isinstance(value, int | float))
        self._progress.update(self._task, total=max(done, 1), completed=max(done, 1), note="")
        self._console.print(f"{self._entity}: {said}", markup=False, highlight=False)
        for key, reason in list(summary.get("reasons", {}).items())[:_SHOWN]:
            self._console.print(f"  {key}: {reason}", markup=False, highlight=False)

    def _draw(self) -> None:
        """A total that was passed was that of before: it goes along, and nothing is ever more than whole."""
        total, done, eta = self._meter.total, self._meter.done, self._meter.eta
        left = "" if eta is None else f"{int(eta) // 60}:{int(eta) % 60:02d} left"
        counts = [f"{value} {name}" for name, value in self._counts.items() if value]
        parts = [f"{self._meter.rate:,.0f}/s", left, *counts, self._trouble]
        known = None if total is None else max(total, done)
        note = " · ".join(part for part in parts if part)
        self._progress.update(self._task, total=known, completed=done, note=note)
