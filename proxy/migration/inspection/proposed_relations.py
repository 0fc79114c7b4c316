"""What the ObjectIds of a collection may refer to: the collection whose documents they are found to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.mongo.lookups import held, some
from adapters.mongo.reading import Reading
from proxy.migration.inspection.overlaps import Neighbour
from proxy.migration.inspection.proposal import Proposal, ProposedField
from proxy.migration.inspection.questions import Questions

_VALUES: Final = 200
_FIELDS: Final = 20
_COLLECTIONS: Final = 60
_LIKELY: Final = 0.5


async def guesses(
    reading: Reading,
    proposal: Proposal,
    neighbours: Mapping[str, Neighbour],
    models: Mapping[str, str],
    questions: Questions,
) -> dict[str, str]:
    """By the field's key, a remark. `models`: by collection, of those that have one."""
    remarks: dict[str, str] = {}
    fields = [its for its in proposal.fields if its.legacy == "objectId" and not its.is_id and not its.is_list]
    targets = [name for name, its in neighbours.items() if its.listed.ordered][:_COLLECTIONS]
    for field in fields[:_FIELDS]:
        what = f"what {field.key} refers to"
        values = await questions.ask(what, some(reading, proposal.collection, field.key, "objectId", _VALUES))
        if not values:
            continue
        shares: list[tuple[float, str]] = []
        for target in targets:
            found = await questions.ask(what, held(reading, target, "_id", values))
            shares.append((len(found or ()) / len(values), target))
        share, best = max(shares, default=(0.0, ""))
        if share >= _LIKELY:
            remarks[field.key] = _remark(field, share, best, models.get(best))
    return remarks


def _remark(field: ProposedField, share: float, collection: str, model: str | None) -> str:
    said = f"{share:.0%} of its values are in {collection}"
    if model is None:
        return said
    name = field.name.removesuffix("Id").removesuffix("_id")
    called = name if name != field.name else f"{field.name}Record"
    return f"{said}: {called} {model} @relation(fields: [{field.name}], references: [id])"
