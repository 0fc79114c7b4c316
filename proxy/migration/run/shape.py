"""What an entity looks like to what copies and compares it: field by field, as short texts that can be kept and shown.

A run that goes on from its checkpoint has to find the entity as it was: what lies before it was copied, or compared, under
the shape that it had then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from config.model import Entity
from config.schema import Field, Model, Schema

_OF_TRAFFIC: Final = {"stage", "serve", "sample", "routes", "legacy", "fields", "compare"}
"""Parts of an entity's configuration that do not say what its documents are (the fields are told one by one)."""


def shape_of(entity: Entity, schema: Schema, *, compare: bool = False) -> dict[str, str]:
    """By Prisma field: its type there and what the configuration says of it on the legacy side. What concerns the whole
    entity has names with a colon in front. With `compare`, what counts as the same belongs to it."""
    model = schema.models[entity.model]
    rules = entity.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    whole = {name: rule for name, rule in rules.items() if name not in _OF_TRAFFIC or (compare and name == "compare")}
    shape = {f":{name}": text for name, text in _texts(whole)}
    shape[":uniques"] = _uniques(model)
    for field in model.stored():
        legacy = rules.get("fields", {}).get(field.name)
        shape[field.name] = _type(field, schema) + (f" ({_text(legacy)})" if legacy else "")
    return shape


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What is not as it was, a line each, such as `title: String? -> String`."""
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name.removeprefix(':')}: {before.get(name, 'nothing')} -> {after.get(name, 'nothing')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _type(field: Field, schema: Schema) -> str:
    """As `schema.prisma` writes it; an enum with its values."""
    name = f"{field.type}({'|'.join(schema.enums[field.type])})" if field.kind == "enum" else field.type
    native = f" @db.{field.native[0]}({','.join(map(str, field.native[1:]))})" if field.native else ""
    column = f" @map({field.column})" if field.column != field.name else ""
    return name + ("[]" if field.is_list else "" if field.required else "?") + native + column


def _uniques(model: Model) -> str:
    return ", ".join(sorted("+".join(names) for names in model.uniques)) or "none"


def _texts(rules: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, _text(rule)) for name, rule in rules.items())


def _text(rule: Any) -> str:
    """Nested rules on one line."""
    if isinstance(rule, Mapping):
        return ", ".join(f"{name} {_text(value)}" for name, value in rule.items())
    if isinstance(rule, list):
        return ", ".join(map(_text, rule))
    return str(rule)
