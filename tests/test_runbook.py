"""The runbook says nothing that is not so: its commands are those of the command line, its metrics and events exist, every
event that calls for somebody is in it, and its links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from typer.exceptions import TyperException

from proxy.cli.main import app
from proxy.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ("docs/runbook.md", "docs/values.md", "README.md")
RUNBOOK: Final = (ROOT / "docs" / "runbook.md").read_text("utf-8")
LOUD: Final = {"critical", "error", "exception"}
SAID: Final = {*LOUD, "warning", "info", "debug"}
SOURCES: Final = [path for room in ("proxy", "adapters", "config") for path in sorted((ROOT / room).rglob("*.py"))]


def commands(page: str, program: str) -> Iterator[str]:
    """What is to be typed: the lines of shell blocks, without their comments, and what stands in backticks."""
    text = (ROOT / page).read_text("utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for found in [*lines, *re.findall(r"`([^`\n]+)`", prose)]:
        command = found.split(" #")[0].strip()
        if re.match(rf"{program}(?= [a-z-])", command):
            yield command


def typed(program: str) -> list[str]:
    found = list(dict.fromkeys(command for page in PAGES for command in commands(page, program)))
    assert found
    return found


@pytest.mark.parametrize("command", typed("strangler"))
def test_every_command_is_one_of_the_command_line(command: str) -> None:
    parse(command)


@pytest.mark.parametrize(
    "wrong",
    ["strangler backfil video", "strangler flag set video live --forse", "strangler flag set", "strangler check x"],
)
def test_one_that_is_not_would_be_found(wrong: str) -> None:
    with pytest.raises(TyperException):
        parse(wrong)


def parse(command: str) -> None:
    """As the command line reads it, without doing it. Raises TyperException."""
    name, *rest = shlex.split(command)
    found: Any = typer.main.get_command(app)
    context: Any = None
    while True:
        context = found.make_context(name, rest, parent=context)
        if not hasattr(found, "resolve_command"):
            return
        name, found, rest = found.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("command", typed("npm run"))
def test_every_script_is_in_the_package(command: str) -> None:
    scripts = json.loads((ROOT / "prisma" / "package.json").read_text())["scripts"]
    assert command.split()[2] in scripts


def test_every_metric_exists() -> None:
    """A name of the proxy's own is that of a metric, or of a collection, table, sequence or function of the stores."""
    ours = "\n".join(path.read_text("utf-8") for path in [*SOURCES, *(ROOT / "prisma").glob("migrations/*/*.sql")])
    names = set(re.findall(r"`(strangler_\w+)`", RUNBOOK)) - {"strangler_"}
    families = {family.name: family.type for family in Metrics().registry.collect()}
    counted = {f"{name}_total" if kind == "counter" else name for name, kind in families.items()}
    unknown = {name for name in names - counted if f'"{name}"' not in ours and f"'{name}'" not in ours}
    assert not unknown
    assert len(names & counted) > 10
    assert counted <= names, "the runbook leaves metrics out"


def test_every_event_exists_and_none_that_is_loud_is_left_out() -> None:
    events = dict(said_events())
    named = set(
        re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", RUNBOOK.partition("## Events")[2].partition("## Metrics")[0], re.M)
    )
    listed = {event.strip("`") for row in named for event in row.split(", ")}
    assert listed - events.keys() == set()
    assert {event for event, levels in events.items() if levels & LOUD} - listed == set()


def said_events() -> Iterator[tuple[str, set[str]]]:
    """Each event that the code says, with the levels that it says it at."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            level = _level(node.func)
            for event in _texts(node.args[0]) if level else ():
                found.setdefault(event, set()).add(str(level))
    assert len(found) > 30
    yield from found.items()


def _level(function: ast.expr) -> str | None:
    """Of `log.error(…)`; and of `say(…)`, which is one of several."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "log":
        return function.attr if function.attr in SAID else None
    return "info" if isinstance(function, ast.Name) and function.id == "say" else None


def _texts(argument: ast.expr) -> Iterator[str]:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value
    elif isinstance(argument, ast.IfExp):
        yield from _texts(argument.body)
        yield from _texts(argument.orelse)


@pytest.mark.parametrize("page", [*PAGES, "docs/config.md", "docs/protocol.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in {_anchor(title) for title in re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.M)}, (
                target
            )


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
