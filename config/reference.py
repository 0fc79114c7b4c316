"""Writes docs/config.md from the model: `python -m config.reference > docs/config.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config import check_sources as sources
from config import templates
from config.model import (
    Also,
    Auth,
    Compare,
    Config,
    Entity,
    FieldRule,
    Forward,
    Functions,
    Legacy,
    Limits,
    Route,
    Split,
    Wallet,
)
from config.settings import Settings

_PARTS: Final[Mapping[str, type[BaseModel]]] = {
    "The file": Config,
    "entities.NAME": Entity,
    "entities.NAME.fields.FIELD": FieldRule,
    "entities.NAME.fields.FIELD.split": Split,
    "entities.NAME.fields.FIELD.functions": Functions,
    "entities.NAME.also[N]": Also,
    "entities.NAME.legacy": Legacy,
    "entities.NAME.compare": Compare,
    "entities.NAME.routes[N]": Route,
    "forward[N]": Forward,
    "auth": Auth,
    "auth.wallet": Wallet,
    "limits": Limits,
}

_INTRODUCTION: Final = """\
# Configuration

<!-- Made by `python -m config.reference`. A test fails when it is not up to date. -->

One YAML file says which entities migrate, how each is found on either side, and which requests ask for it;
[`config/proxim8.yaml`](../config/proxim8.yaml) is a whole one. It is checked before a port is opened: everything that
is wrong is said at once, a line each, with the file, the line and what was expected.

`${NAME}` in a value is replaced from the environment, `${NAME:-default}` has a default, `$${` is the text `${`. What
comes from the environment is never shown in a message. Scalars are those of YAML 1.2: `on` and `yes` are text.
"""

_PLACEHOLDERS: Final = """\
## Placeholders

`where`, `set`, `take` and `skip` of a route may hold them:

```
{source}
```

{notes}
"""

_SOURCES: Final = """\
### Several sources

Two old servers may each keep the same people, each in a collection and under an `_id` of its own, and know them by a
natural key such as a wallet's address. `also` makes their documents one record:

```yaml
account:
  collection: accounts
  model: Account
  also:
    - {{ collection: users, by: walletAddress, fields: {{ createdAt: {{ from: since }} }}, lacks: [bio] }}
  merge: {{ createdAt: earliest, updatedAt: latest, nick: [users, accounts] }}
```

{rules}
"""

_ENVIRONMENT: Final = (
    "## Environment\n\nWhat differs between processes, and what is secret, comes from their environment.\n"
)


def reference() -> str:
    """The whole page, in Markdown."""
    sections = [_INTRODUCTION]
    for title, part in _PARTS.items():
        heading = title if " " in title else f"`{title}`"
        sections.append(f"## {heading}\n\n{_first_paragraph(part)}\n\n{_table('key', part)}")
        if part is Also:
            sections.append(_SOURCES.format(rules=_rest(sources)))
        if part is Route:
            sections.append(_placeholders().replace("## ", "### ", 1))
    sections.append(f"{_ENVIRONMENT}\n{_table('variable', Settings)}")
    return "\n".join(sections)


def _first_paragraph(part: type[BaseModel]) -> str:
    return (part.__doc__ or "").split("\n\n")[0].replace("\n    ", " ").strip()


def _rest(module: ModuleType) -> str:
    """What a module's own description says after its first paragraph."""
    return (module.__doc__ or "").strip().split("\n\n", 1)[1]


def _placeholders() -> str:
    """What the templates' own description says: its table, and the paragraph after it."""
    _, table, notes = (templates.__doc__ or "").strip().split("\n\n", 2)
    source = "\n".join(line.removeprefix("    ") for line in table.splitlines())
    return _PLACEHOLDERS.format(source=source, notes=notes)


def _table(first: str, part: type[BaseModel]) -> str:
    rows = [f"| {first} | type | default | meaning |", "|---|---|---|---|", *_rows(part)]
    return "\n".join(rows) + "\n"


def _rows(part: type[BaseModel]) -> Iterator[str]:
    for name, field in part.model_fields.items():
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, BaseModel):
        return "as below"
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case timedelta():
            return f"{value.total_seconds():g}s"
        case list() | tuple():
            return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _type(field: FieldInfo) -> str:
    bounds = {
        key: getattr(rule, key)
        for rule in field.metadata
        for key in ("ge", "le")
        if getattr(rule, key, None) is not None
    }
    text = _name(field.annotation)
    if "ge" in bounds and "le" in bounds:
        return f"{text}, {bounds['ge']} to {bounds['le']}"
    return f"{text}, at least {bounds['ge']}" if "ge" in bounds else text


def _name(annotation: Any) -> str:
    """The type in words that the file's author knows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _name(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_name(member) for member in arguments if member is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return f"mapping to {_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return next(f"[{title}](#{_anchor(title)})" for title, part in _PARTS.items() if part is annotation)
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false", "timedelta": "duration"}
    return words.get(getattr(annotation, "__name__", ""), "path" if annotation.__name__ == "Path" else "any value")


def _anchor(title: str) -> str:
    """As GitHub makes them: lower case, letters, digits, hyphens and underscores only."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


if __name__ == "__main__":
    sys.stdout.write(reference())
