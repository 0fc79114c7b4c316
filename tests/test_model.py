"""The protocol as models, checked by spin: no state of a model breaks a promise, and each rule left out is found out.

What the rules are and where the code enforces them is in docs/protocol.md, which is checked here too. The bounds of a
model are macros; `STRANGLER_MODELS=large` checks larger ones, which takes a quarter of an hour and 6 GB.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

MODELS: Final = Path(__file__).parent / "model"
PAGE: Final = Path(__file__).parent.parent / "docs" / "protocol.md"
_DEPTH: Final = 1_000_000
_MEGABYTES: Final = 12_000

Record = Callable[[str, object], None]

needs_spin = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="the models need spin and gcc on PATH"
)
needs_time = pytest.mark.skipif(
    os.environ.get("STRANGLER_MODELS") != "large", reason="larger bounds: set STRANGLER_MODELS=large"
)


@dataclass(frozen=True, slots=True)
class Run:
    """A model under certain bounds, or with a rule left out."""

    model: str
    macros: tuple[str, ...]

    def but(self, *macros: str) -> Run:
        return Run(self.model, self.macros + macros)


@dataclass(frozen=True, slots=True)
class Found:
    """What spin found: how many states there are and how many errors, and what it says of them."""

    states: int
    errors: int
    said: str


RUNS: Final = {
    "marks": Run("settle", ("WAY=Inside", "SWEEPERS=2")),
    "marks-first": Run("settle", ("WAY=Keyed",)),
    "marks-without-keys": Run("settle", ("WAY=Keyless", "KEYS=2")),
    "quarantine": Run("settle", ("WAY=Inside", "REFUSES")),
    "stream": Run("settle", ("WAY=Keyed", "FOLLOWERS=1")),
    "followers": Run("settle", ("WAY=Keyed", "FOLLOWERS=2", "SWEEPERS=0", "STARTED", "LOSSES=1")),
    "followers-quarantine": Run("settle", ("WAY=Keyed", "FOLLOWERS=2", "SWEEPERS=0", "STARTED", "REFUSES")),
    "flip": Run("flip", ("FLIPS=1", "LAPSES=1", "RETURNS=0", "STRAYS=1")),
    "flip-returns": Run("flip", ("FLIPS=1", "LAPSES=1", "RETURNS=1", "STRAYS=0")),
    "there-and-back-lapses": Run("flip", ("FLIPS=2", "WRITES=1", "LAPSES=1", "STRAYS=0")),
}

LARGE: Final = {
    "marks-quarantine": Run("settle", ("WAY=Inside", "SWEEPERS=2", "REFUSES")),
    "stream-lost": Run("settle", ("WAY=Keyed", "FOLLOWERS=1", "LOSSES=1")),
    "stream-quarantine": Run("settle", ("WAY=Keyed", "FOLLOWERS=1", "REFUSES")),
    "flip-where-lower": Run("flip", ("FLIPS=1", "LAPSES=1", "RETURNS=1", "STRAYS=0", "WHERE_LOWER")),
    "there-and-back": Run("flip", ("FLIPS=2", "LAPSES=0", "STRAYS=0")),
    "flip-returns-strays": Run("flip", ("FLIPS=1", "LAPSES=1", "RETURNS=1", "STRAYS=1")),
    "there-and-back-strays": Run("flip", ("FLIPS=2", "WRITES=1", "LAPSES=1", "STRAYS=1")),
    "there-and-back-returns": Run("flip", ("FLIPS=2", "LAPSES=1", "STRAYS=0")),
}

REACHED: Final = (
    "marks",
    "marks-without-keys",
    "stream",
    "followers-quarantine",
    "flip-returns",
    "there-and-back-lapses",
)

WITHOUT: Final = {
    "MARK_AFTER_WRITE": "marks",
    "TOKEN_BEFORE_WRITE": "quarantine",
    "READ_BEFORE_TOKEN": "marks",
    "NO_FENCE": "marks",
    "UNMARK_BEFORE_APPLY": "marks",
    "CLEAR_IN_FLIGHT": "marks",
    "SWEEP_EARLY": "marks-first",
    "SINCE_THE_SWEEP": "marks-without-keys",
    "DELETES": "marks-without-keys",
    "PUT_LAST": "followers-quarantine",
    "BLIND_RELEASE": "quarantine",
    "TAKE_FIRST": "followers-quarantine",
    "TRUST_OPEN_STREAM": "stream",
    "SAVE_EARLY": "stream",
    "RESTART_WITHOUT_REPAIR": "followers",
    "NO_CLAIM": "followers",
    "NO_LEASE": "flip-returns",
    "ANY_TENURE": "flip-returns",
    "HOLD_BEFORE_LOOK": "flip-returns",
    "FENCE_ONE_STORE": "flip-returns",
    "DRAIN_FIRST": "flip-returns",
    "NO_TERM": "flip",
    "TERM_NOT_LOCKED": "flip",
    "DECIDE_FIRST": "flip",
    "OVERWRITE": "flip-returns",
    "TAKE_BACK_ELSEWHERE": "flip-returns",
    "NO_WATCH": "flip-returns",
    "NO_COPIES": "flip-returns",
}
"""Rules left out, by the macro that does it, and the run that has to find it out."""


def check(run: Run, folder: Path, *options: str) -> Found:
    """Search every state. Raises where spin cannot say that it has."""
    (folder / "model.pml").write_bytes((MODELS / f"{run.model}.pml").read_bytes())
    _do(folder, "spin", "-a", *_macros(run), "model.pml")
    _do(folder, "gcc", "-w", "-DSAFETY", f"-DMEMLIM={_MEGABYTES}", *options, "-o", "pan", "pan.c")
    said = _do(folder, "./pan", f"-m{_DEPTH}", "-w22")
    states, errors = re.search(r"(\d+) states, stored", said), re.search(r"errors: (\d+)", said)
    assert states, said
    assert errors, said
    assert "Search not completed" not in said or errors[1] != "0", said
    assert "max search depth too small" not in said, said
    return Found(int(states[1]), int(errors[1]), said)


def way_to_error(run: Run, folder: Path) -> str:
    """The last steps to the error that a check in this folder has found."""
    return "\n".join(_do(folder, "spin", "-t", "-p", *_macros(run), "model.pml").splitlines()[-80:])


def _macros(run: Run) -> list[str]:
    return [f"-D{macro}" for macro in run.macros]


def _do(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@needs_spin
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RUNS)
def test_no_state_breaks_a_promise(name: str, tmp_path: Path, record_property: Record) -> None:
    found = check(RUNS[name], tmp_path, "-O2")
    assert not found.errors, way_to_error(RUNS[name], tmp_path)
    record_property("states", found.states)
    print(f"{name}: {found.states} states")


@needs_spin
@needs_time
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", LARGE)
def test_no_state_breaks_a_promise_under_larger_bounds(name: str, tmp_path: Path, record_property: Record) -> None:
    found = check(LARGE[name], tmp_path, "-O2", "-DCOLLAPSE")
    assert not found.errors, way_to_error(LARGE[name], tmp_path)
    record_property("states", found.states)
    print(f"{name}: {found.states} states")


@needs_spin
@pytest.mark.timeout(300)
@pytest.mark.parametrize("macro", WITHOUT)
def test_a_rule_left_out_is_found_out(macro: str, tmp_path: Path) -> None:
    found = check(RUNS[WITHOUT[macro]].but(macro), tmp_path, "-O0")
    assert found.errors == 1
    assert "assertion violated" in found.said, found.said


@needs_spin
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", REACHED)
def test_a_model_gets_to_where_all_is_done(name: str, tmp_path: Path) -> None:
    """A promise is also kept by whoever never gets anywhere."""
    assert check(RUNS[name].but("REACH"), tmp_path, "-O0").errors == 1


def test_the_page_names_what_there_is() -> None:
    """Each function, class and module that the page names exists; each run and each rule left out is on the page."""
    page = PAGE.read_text()
    for name in re.findall(r"`((?:proxy|adapters)\.[\w.]+)`", page):
        assert _found(name), f"{name} is not there"
    assert set(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", page)) >= set(WITHOUT)
    assert set(re.findall(r"^\| ([a-z-]+) \|", page, re.MULTILINE)) >= {*RUNS, *LARGE}


def test_every_macro_is_of_its_model() -> None:
    """A macro that the model does not know would leave nothing out."""
    for run in [*RUNS.values(), *LARGE.values(), *(RUNS[name].but(macro) for macro, name in WITHOUT.items())]:
        text = (MODELS / f"{run.model}.pml").read_text()
        for macro in run.macros:
            assert re.search(rf"(ifdef|ifndef|defined\() ?{macro.split('=')[0]}\b", text), macro


def _found(name: str) -> bool:
    """Whether a dotted name leads to something: the longest part of it that is a module, and its attributes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False
