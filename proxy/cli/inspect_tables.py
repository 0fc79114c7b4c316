"""An inspection as engineers read it: a table of the fields, then only what they have to think about."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from proxy.migration.inspection.inspection import Inspected, Inspection
from proxy.migration.inspection.profile import Node, Span, text_of
from proxy.migration.inspection.questions import Questions


def print_inspected(inspected: Inspected, console: Console) -> None:
    for found in inspected.collections:
        _print_collection(found, console)
    if inspected.others:
        table = Table("collection", "kind", "documents", title="no entity names these")
        for other in inspected.others:
            table.add_row(Text(other.listed.name), other.listed.kind, _number(other.documents))
        console.print(table)
    _print_unasked(inspected.questions, console)


def _print_collection(found: Inspection, console: Console) -> None:
    console.rule(Text(_title(found)), align="left")
    if found.read:
        console.print(_fields(found))
    for title, columns, rows in (
        ("cannot be held by the model", ("path", "reason", "documents", "keys"), list(_refused(found))),
        ("the same under a unique", ("fields", "values", "documents", "pairs of keys"), list(_doubled(found))),
        ("references that point nowhere", ("field", "to", "missing", "of", "keys"), list(_orphaned(found))),
        ("indexes", ("fields", "", "legacy", "prisma", "notes"), list(_indexes(found))),
        ("also found in other collections", ("path", "in", "share", "of values"), list(_overlaps(found))),
    ):
        if rows:
            table = Table(*columns, title=title, title_justify="left")
            for row in rows:
                table.add_row(*map(Text, row))
            console.print(table)
    for note in found.notes:
        console.print(Text(f"note: {note}"))
    _print_proposed(found, console)
    _print_unasked(found.questions, console)
    if found.read and found.proposed is None and not (found.refused or found.unknown):
        console.print(Text("the model can hold all that was looked at"))
    console.print()


def _title(found: Inspection) -> str:
    kind = "" if found.listed.kind == "collection" else f" ({found.listed.kind})"
    named = f"{found.entity}: " if found.entity else ""
    model = f" -> {found.model}" if found.model else ", no entity"
    read = "all read" if found.all else f"{_number(found.read)} read, by chance"
    return f"{named}{found.listed.name}{kind}{model}, {_number(found.documents)} documents, {read}"


def _fields(found: Inspection) -> Table:
    table = Table("path", "types", "missing", "null", "empty", "lengths, ranges")
    for node, of in found.profile.paths():
        shares = (_share(of - node.seen, of), _share(node.nulls, node.seen), _share(node.empty, node.seen))
        table.add_row(*map(Text, (node.path, _types(node), *shares, _ranges(node))))
    if found.profile.left_out:
        table.caption = f"{_number(found.profile.left_out)} values are at more paths than are shown"
    return table


def _types(node: Node) -> str:
    others = [(name, count) for name, count in node.types.most_common() if name != "null" and count]
    if len(others) == 1:
        return others[0][0]
    total = sum(count for _, count in others)
    return ", ".join(f"{name} {_share(count, total)}" for name, count in others) or "null"


def _ranges(node: Node) -> str:
    parts = [
        _range(node.lengths, "{} long"),
        _range(node.numbers, "{}"),
        _range(node.dates, "{}"),
        _range(node.elements, "{} elements"),
        "more keys than are told apart" if node.scattered else "",
        "" if node.finite else "some not finite",
    ]
    return "; ".join(filter(None, parts))


def _range(span: Span, form: str) -> str:
    if span.low is None:
        return ""
    low, high = text_of(span.low), text_of(span.high)
    return form.format(low if low == high else f"{low} to {high}")


def _refused(found: Inspection) -> Iterator[tuple[str, ...]]:
    for (path, reason), its in found.refusals.most_first():
        yield path, reason, _number(its.count), ", ".join(its.keys)


def _doubled(found: Inspection) -> Iterator[tuple[str, ...]]:
    for one in found.uniques:
        if one.documents:
            pairs = ", ".join(f"{first} = {second}" for first, second in one.keys)
            yield ", ".join(one.fields), _number(one.values), _number(one.documents), pairs


def _orphaned(found: Inspection) -> Iterator[tuple[str, ...]]:
    for one in found.references:
        if one.missing:
            yield one.by, one.entity, _number(one.missing), _number(one.checked), ", ".join(one.keys)


def _indexes(found: Inspection) -> Iterator[tuple[str, ...]]:
    for one in found.indexes:
        if one.differs:
            yield ", ".join(one.fields), one.verdict, one.legacy or "", one.prisma or "", "; ".join(one.notes)


def _overlaps(found: Inspection) -> Iterator[tuple[str, ...]]:
    for one in found.overlaps:
        if one.found:
            yield one.path, f"{one.collection}.{one.other}", _share(one.found, one.asked), _number(one.asked)


def _print_proposed(found: Inspection, console: Console) -> None:
    proposed = found.proposed
    if proposed is None:
        return
    if proposed.why_not:
        console.print(Text(f"no model is proposed: {proposed.why_not}"))
        return
    console.print(Text("a model to start from, for schema.prisma:"))
    console.print(Syntax(proposed.model, "text", background_color="default", word_wrap=True))
    console.print(Text("and an entity, for the configuration:"))
    console.print(Syntax(proposed.config, "yaml", background_color="default", word_wrap=True))


def _print_unasked(questions: Questions, console: Console) -> None:
    for one in questions.unasked:
        console.print(Text(f"not known: {one.what}: {one.why}"))


def _share(part: int, whole: int) -> str:
    """In percent; what is more than nothing is never 0 %, what is less than all never 100 %."""
    if not part or not whole:
        return ""
    percent = 100 * part / whole
    if percent < 1:
        return "< 1 %"
    return "> 99 %" if 99 < percent < 100 else f"{percent:.0f} %"


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
