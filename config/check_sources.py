"""Several sources of one entity: what they promise, and whether a configuration's `also`, `lacks`, `merge` and `refers` fit.

- **Which are one.** Documents with the same natural key are one record. A second document with that key in the same
  collection is refused: both go to quarantine with the reason until one of them has another key. The natural key is
  compared exactly, and needs a unique index in every collection.
- **The record's key** is the `_id` of its document in the first collection that has one. When an earlier collection gets
  one too, the record moves to that key, and what refers to its row moves with it (`ON UPDATE CASCADE`, which is what
  Prisma makes unless told). Let the first collection be the one whose `_id` clients know.
- **Which value counts.** For each field the first that there is, in the order of `merge` or of the collections; null, a
  missing field and an empty list are no values. `earliest` and `latest` choose among dates. What one old endpoint answers
  of a field should come first: where its server shows another value than the merged one, comparing reports it.
- **Writes after the cutover** go back to each collection that has a document of the record: those fields that differ from
  the merged ones, and nothing else, so that a collection keeps its own value until somebody changes it. A record that no
  collection has is inserted into the first one. A value that none of the record's documents has a place for makes one in
  the first collection that has. A deletion deletes all of them.
- **References.** A field that refers to such an entity holds the record's key. Where it holds the `_id` of another of its
  collections, `refers` names that collection: it is translated on the way to Prisma and back, and a document that is
  referred to and not there yet is made. An old endpoint goes on showing what it stores; ignore such a field in `compare`.
- **What is remembered.** A deletion tells nothing but an `_id`. Before documents that share a record are first copied, the
  natural keys that they were seen with are kept in the collection `strangler_aliases`.

An entity with several sources, and one with a field that `refers`, is reached `via: endpoint`: one collection alone cannot
answer for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from config.faults import Finding, Place, unknown
from config.fields import stored
from config.model import Also, Config, Entity, FieldRule
from config.schema import Model, Schema

_MOMENTS: Final = ("earliest", "latest")


def check_sources(name: str, entity: Entity, config: Config, schema: Schema) -> Iterator[Finding]:
    """What is wrong with the entity's sources, and with its references to entities that have several. Its model exists."""
    place: Place = ("entities", name)
    model = schema.models[entity.model]
    yield from _references(entity, config, model, place)
    if not entity.also:
        for key in ("lacks", "merge"):
            if getattr(entity, key):
                yield Finding((*place, key), "has a meaning only with also, further collections")
        return
    if entity.legacy.via != "endpoint":
        yield Finding((*place, "legacy", "via"), "several collections are reached via: endpoint only")
    yield from _keys(entity, model, place)
    yield from _lacks(entity, model, place)
    yield from _merge(entity, model, place)
    wallet = config.auth.wallet
    if wallet and wallet.entity == name and wallet.field != entity.also[0].by:
        problem = f"the documents of {name} are found by {entity.also[0].by}; expected that field"
        yield Finding(("auth", "wallet", "field"), problem)


def _keys(entity: Entity, model: Model, place: Place) -> Iterator[Finding]:
    for index, also in enumerate(entity.also):
        here: Place = (*place, "also", index, "by")
        field = model.fields.get(also.by)
        if field is None or not field.stored:
            yield unknown(here, f"field of model {model.name}", also.by, stored(model))
        elif field.type != "String" or field.is_list or (also.by,) not in model.uniques:
            yield Finding(here, f"expected a unique String field of model {model.name}, unlike", also.by)
        elif also.by != entity.also[0].by:
            yield Finding(
                here, "expected the same natural key in every collection, as at", see=(*place, "also", 0, "by")
            )
        for rules, where in ((entity.fields, place), (also.fields, (*place, "also", index))):
            rule = rules.get(also.by, FieldRule())
            if (rule.split or rule.functions) and (index == 0 or rules is also.fields):
                problem = "documents are found by it; expected neither split nor functions"
                yield Finding((*where, "fields", also.by), problem)
            for id in model.ids:
                if rules.get(id, FieldRule()).legacy not in (None, "objectId") and (index == 0 or rules is also.fields):
                    yield Finding((*where, "fields", id, "legacy"), "ids of several collections have to be ObjectIds")


def _lacks(entity: Entity, model: Model, place: Place) -> Iterator[Finding]:
    sources = [(entity.lacks, (*place, "lacks")), *_also_lacks(entity.also, place)]
    for lacks, where in sources:
        for index, name in enumerate(lacks):
            if name not in stored(model):
                yield unknown((*where, index), f"field of model {model.name}", name, stored(model))
            elif name in model.ids or name == entity.also[0].by:
                yield Finding((*where, index), "every collection has the id and the natural key, and so", name)
            elif all(name in lacks for lacks, _ in sources):
                yield Finding((*where, index), "no collection is left that has", name)


def _also_lacks(also: list[Also], place: Place) -> Iterator[tuple[list[str], Place]]:
    return ((one.lacks, (*place, "also", index, "lacks")) for index, one in enumerate(also))


def _merge(entity: Entity, model: Model, place: Place) -> Iterator[Finding]:
    collections = [entity.collection, *(also.collection for also in entity.also)]
    for name, rule in entity.merge.items():
        here: Place = (*place, "merge", name)
        field = model.fields.get(name)
        if field is None or not field.stored:
            yield unknown(here, f"field of model {model.name}", None, stored(model))
        elif name in model.ids or name == entity.also[0].by:
            yield Finding(here, "the id and the natural key are not merged")
        elif rule in _MOMENTS:
            if field.type != "DateTime" or field.is_list:
                yield Finding(here, f"expected a date for {rule}; {name} is {field.type}")
        elif isinstance(rule, list):
            for index, collection in enumerate(rule):
                if collection not in collections or collection in rule[:index]:
                    left = [one for one in collections if one not in rule[:index]]
                    yield unknown((*here, index), "collection of the entity", collection, left)


def _references(entity: Entity, config: Config, model: Model, place: Place) -> Iterator[Finding]:
    targets = {relation.fields[0]: relation.model for relation in model.parents() if len(relation.fields) == 1}
    for name, rule in [*entity.fields.items(), *(entry for also in entity.also for entry in also.fields.items())]:
        if rule.refers is None:
            continue
        here: Place = (*place, "fields", name, "refers")
        parents = [one for one in config.entities.values() if one.model == targets.get(name) and one.also]
        if not parents:
            yield Finding(here, f"{name} is no field that refers to an entity with several collections")
            continue
        among = [parents[0].collection, *(also.collection for also in parents[0].also)]
        if rule.refers not in among:
            yield unknown(here, "collection of that entity", rule.refers, among)
        elif entity.also:
            yield Finding(here, "an entity with several collections cannot have such a field")
        elif entity.legacy.via != "endpoint":
            yield Finding(
                (*place, "legacy", "via"), "a field that refers to one of several collections needs via: endpoint"
            )
