"""An inspection as one JSON document. Keys are only ever added to it.

    {status, collections: [{collection, kind, capped, entity, model, documents, read, all, fields, leftOut, refused, uniques,
     references, indexes, overlaps, notes, proposed, unasked}], others: [{collection, kind, documents}], unasked}

- `kind`: collection, view or timeseries; `entity` and `model` are null where there are none yet; `documents` are what the
  collection says it has, `read` those that were looked at, `all` of them or some by chance.
- `fields`: {path, of, present, missing, null, empty, types, length, number, date, elements, scattered}. `*` in a path is
  any element of an array. `of` is the number of objects (or elements) that could have it, `present` those that do, `types`
  how many have which BSON type. `length` (characters, bytes), `number`, `date`, `elements` (of arrays) are {min, max} or
  null; decimals and dates are texts. `scattered`: an object with more keys than are told apart. `leftOut`: values at paths
  that there was no room for.
- `refused`: {documents, reasons: [{path, reason, documents, keys}]}: what the model, or the proposed one, cannot hold.
- `uniques`: {fields, guard, values, documents, keys}: `values` that several `documents` have; pairs of keys that share one;
  `guard` is the index by which there are none.
- `references`: {field, entity, checked, missing, keys}: values whose parent does not exist.
- `indexes`: {fields, verdict, legacy, prisma, notes}; the verdicts are those of `index_pairs`.
- `overlaps`: {path, collection, other, asked, found}: of the values at `path`, how many are at `other` in `collection`.
- `proposed`: {model, config} for a collection without a model, or {whyNot}.
- `unasked`: {what, why, failed}: what is not known; `failed` where a store did not answer.

Strings of the documents are in none of it, but for constants that a proposed enum lists, and keys.
"""

from __future__ import annotations

from typing import Any

from proxy.migration.inspection.inspection import Inspected, Inspection, Proposed
from proxy.migration.inspection.profile import Node, Span, text_of
from proxy.migration.inspection.questions import Questions


def as_json(inspected: Inspected) -> dict[str, Any]:
    return {
        "status": inspected.status,
        "collections": [_collection(one) for one in inspected.collections],
        "others": [
            {"collection": one.listed.name, "kind": one.listed.kind, "documents": one.documents}
            for one in inspected.others
        ],
        "unasked": _unasked(inspected.questions),
    }


def _collection(found: Inspection) -> dict[str, Any]:
    return {
        "collection": found.listed.name,
        "kind": found.listed.kind,
        "capped": found.listed.capped,
        "entity": found.entity,
        "model": found.model,
        "documents": found.documents,
        "read": found.read,
        "all": found.all,
        "fields": [_field(node, of) for node, of in found.profile.paths()],
        "leftOut": found.profile.left_out,
        "refused": {
            "documents": found.refusals.documents,
            "reasons": [
                {"path": path, "reason": reason, "documents": its.count, "keys": its.keys}
                for (path, reason), its in found.refusals.most_first()
            ],
        },
        "uniques": [
            {
                "fields": list(one.fields),
                "guard": one.guard,
                "values": one.values,
                "documents": one.documents,
                "keys": [list(pair) for pair in one.keys],
            }
            for one in found.uniques
        ],
        "references": [
            {
                "field": one.by,
                "entity": one.entity,
                "checked": one.checked,
                "missing": one.missing,
                "keys": one.keys,
            }
            for one in found.references
        ],
        "indexes": [
            {
                "fields": list(one.fields),
                "verdict": one.verdict,
                "legacy": one.legacy,
                "prisma": one.prisma,
                "notes": list(one.notes),
            }
            for one in found.indexes
        ],
        "overlaps": [
            {
                "path": one.path,
                "collection": one.collection,
                "other": one.other,
                "asked": one.asked,
                "found": one.found,
            }
            for one in found.overlaps
        ],
        "notes": found.notes,
        "proposed": _proposed(found.proposed),
        "unasked": _unasked(found.questions),
    }


def _field(node: Node, of: int) -> dict[str, Any]:
    return {
        "path": node.path,
        "of": of,
        "present": node.seen,
        "missing": of - node.seen,
        "null": node.nulls,
        "empty": node.empty,
        "types": {name: count for name, count in node.types.most_common() if count},
        "length": _span(node.lengths),
        "number": _span(node.numbers),
        "date": _span(node.dates),
        "elements": _span(node.elements),
        "scattered": node.scattered,
    }


def _span(span: Span) -> dict[str, Any] | None:
    return None if span.low is None else {"min": text_of(span.low), "max": text_of(span.high)}


def _proposed(proposed: Proposed | None) -> dict[str, Any] | None:
    if proposed is None:
        return None
    if proposed.why_not:
        return {"whyNot": proposed.why_not}
    return {"model": proposed.model, "config": proposed.config}


def _unasked(questions: Questions) -> list[dict[str, Any]]:
    return [{"what": one.what, "why": one.why, "failed": one.failed} for one in questions.unasked]
