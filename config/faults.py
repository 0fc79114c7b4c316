"""What is wrong with a configuration file, and where: one line a fault."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

Place = tuple[str | int, ...]
"""Where in the file: keys and list indices, from the top."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault before its line is known.

    `problem` holds no value of the file. `got` is the value found there, where showing it helps: it is left out when it
    came from the environment. `among` is what was expected, `see` another place that the fault is about.
    """

    place: Place
    problem: str
    got: str | None = None
    among: tuple[str, ...] | None = None
    see: Place | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One line for whoever has to mend it: `file:line: path: message`. `line` counts from 1; None is the whole file."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ConfigError(Exception):
    """The file cannot be used. Its text is all faults, a line each, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line or 0))
        super().__init__("\n".join(map(str, self.faults)))


def unknown(place: Place, what: str, got: str | None, among: Collection[str]) -> Finding:
    """A name that is not one of those that there are. `got` None: the name is the key itself."""
    return Finding(place, f"unknown {what}", got, tuple(among))


def path_text(place: Place) -> str:
    """`entities.video.routes[2].where`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


def message(finding: Finding, *, hidden: bool, see_line: int | None = None) -> str:
    """The text of a finding; `hidden` when the value there came from the environment."""
    shown = None if hidden else finding.got
    text = finding.problem if shown is None else f"{finding.problem} {shown!r}"
    if finding.see is not None:
        text += f" {path_text(finding.see)}" + ("" if see_line is None else f" (line {see_line})")
    if finding.among is None:
        return text
    if not finding.among:
        return f"{text}; there are none"
    name = None if hidden else finding.got if finding.got is not None else str(finding.place[-1])
    close = get_close_matches(name, finding.among, 1) if name else []
    hint = f" did you mean {close[0]}?" if close else ""
    return f"{text};{hint} expected one of {', '.join(finding.among)}"
