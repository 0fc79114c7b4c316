"""A collection that overlaps an entity by a natural key may be a further source of it, rather than an entity of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import yaml

from proxy.migration.inspection.overlaps import Overlap
from proxy.migration.inspection.profile import Profile
from proxy.migration.inspection.sources import Source

_LIKELY: Final = 0.1


def further_source(
    collection: str,
    natural: Collection[str],
    overlaps: Sequence[Overlap],
    named: Mapping[str, Source],
    profile: Profile,
) -> str:
    """Comment lines for the configuration, that begin with `#`; empty where nothing speaks for it."""
    for overlap in overlaps:
        source = named.get(overlap.collection)
        field = _key(source, overlap.other) if source else None
        if source is None or field is None or overlap.path not in natural or overlap.found < _LIKELY * overlap.asked:
            continue
        also = also_entry(collection, field, overlap.path, source, profile)
        said = f"{overlap.found} of {overlap.asked} values of {overlap.path} are in {overlap.collection}"
        text = yaml.safe_dump({"also": [also]}, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)
        lines = [f"{said}: instead, it may be a further source of {source.name}", *text.splitlines()]
        return "".join(f"# {line}\n" for line in lines)
    return ""


def also_entry(collection: str, by: str, path: str, source: Source, profile: Profile) -> dict[str, Any]:
    """As `config.model.Also` takes it: what the documents do not have under its own name, it lacks."""
    lacks = [
        field.name
        for field in source.model.stored()
        if field.name != by and field.name not in source.model.ids and field.name not in profile.root.fields
    ]
    entry: dict[str, Any] = {"collection": collection, "by": by}
    if path != by:
        entry["fields"] = {by: {"from": path}}
    if lacks:
        entry["lacks"] = lacks
    return entry


def _key(source: Source, path: str) -> str | None:
    """The unique text of the entity that is at the path."""
    uniques = (source.model.fields[names[0]] for names in source.model.uniques if len(names) == 1)
    return next((its.name for its in uniques if its.type == "String" and source.path(its.name) == path), None)
