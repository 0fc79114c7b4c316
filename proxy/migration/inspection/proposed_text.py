"""A proposal as it goes into files: the model in Prisma's schema language, the entry in the configuration's YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import yaml

from proxy.migration.inspection.proposal import Proposal, ProposedField, ProposedIndex


def model_text(proposal: Proposal, guesses: Mapping[str, str]) -> str:
    """`guesses`: by key, a remark on what its values may refer to."""
    lines = [f"model {proposal.model} {{", *_fields(proposal, guesses)]
    lines += [f"  // {_line(remark)}" for remark in proposal.remarks]
    lines += [""]
    lines += [f"  {_index(index)}" for index in proposal.indexes]
    lines += [f"  @@map({_quoted(proposal.collection)})", "}"]
    for name, values in proposal.enums.items():
        lines += ["", f"enum {name} {{", *(f"  {value}" for value in values), "}"]
    return "\n".join(lines) + "\n"


def config_text(proposal: Proposal) -> str:
    """To be merged under the file's `entities`."""
    entry = {"entities": {proposal.entity: proposal.settings()}}
    return yaml.safe_dump(entry, sort_keys=False, allow_unicode=True)


def _fields(proposal: Proposal, guesses: Mapping[str, str]) -> Iterator[str]:
    name = max(len(field.name) for field in proposal.fields)
    kind = max(len(_type(field)) for field in proposal.fields)
    for field in proposal.fields:
        remarks = "; ".join(filter(None, (field.remark, guesses.get(field.key, ""))))
        text = f"  {field.name:{name}} {_type(field):{kind}} {' '.join(_attributes(field))}".rstrip()
        yield f"{text} // {_line(remarks)}" if remarks else text


def _type(field: ProposedField) -> str:
    return field.type + ("[]" if field.is_list else "" if field.required else "?")


def _attributes(field: ProposedField) -> Iterator[str]:
    if field.is_id:
        yield '@id @map("_id")'
    if field.unique:
        yield "@unique"
    if field.type == "DateTime" and field.required and not field.is_list:
        if field.key == "createdAt":
            yield "@default(now())"
        if field.key == "updatedAt":
            yield "@updatedAt"


def _index(index: ProposedIndex) -> str:
    fields = ", ".join(index.fields)
    return f"@@{'unique' if index.unique else 'index'}([{fields}]{', type: Hash' if index.hash else ''})"


def _line(text: str) -> str:
    """On one line, whatever the names in it hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
