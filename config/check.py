"""What the form of a configuration cannot say: whether its names exist and its parts fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from config.check_routes import check_routes
from config.check_sources import check_sources
from config.faults import Finding, Place, unknown
from config.fields import entity_models, legacy_forms, needed_to_create, stored
from config.functions import check_function
from config.model import Compare, Config, Entity, FieldRule, Wallet
from config.schema import Field, Model, Schema

_ALGORITHMS: Final = tuple(f"{family}{bits}" for family in ("HS", "RS", "ES", "PS") for bits in (256, 384, 512))
_ALGORITHMS_ALL: Final = (*_ALGORITHMS, "EdDSA")
_NUMBERS: Final = ("Int", "BigInt", "Float", "Decimal")


def check(config: Config, schema: Schema) -> list[Finding]:
    """Everything about the file that is wrong whatever the databases hold. Imports the modules that it names."""
    return [
        *_upstreams(config),
        *_forward(config),
        *_wallet(config, schema),
        *_distinct(config),
        *(finding for name, entity in config.entities.items() for finding in _entity(name, entity, config, schema)),
        *check_routes(config, schema),
    ]


def check_collections(config: Config, existing: Collection[str]) -> list[Finding]:
    """Every entity's collection is one of those that the database has."""
    return [
        unknown(place, "collection", collection, sorted(existing))
        for name, entity in config.entities.items()
        for collection, place in _collections(name, entity)
        if collection not in existing
    ]


def _collections(name: str, entity: Entity) -> Iterator[tuple[str, Place]]:
    yield entity.collection, ("entities", name, "collection")
    for index, also in enumerate(entity.also):
        yield also.collection, ("entities", name, "also", index, "collection")


def _upstreams(config: Config) -> Iterator[Finding]:
    for name, url in config.upstreams.items():
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment or parts.username is not None:
            yield Finding(
                ("upstreams", name), "expected http://host:port or https://host, without user, query and fragment"
            )


def _forward(config: Config) -> Iterator[Finding]:
    for index, forward in enumerate(config.forward):
        place: Place = ("forward", index)
        if forward.to not in config.upstreams:
            yield unknown((*place, "to"), "upstream", forward.to, config.upstreams)
        if not forward.path.startswith("/"):
            yield Finding((*place, "path"), "a path starts with /")
        for earlier, other in enumerate(config.forward[:index]):
            if forward.path.startswith(other.path):
                yield Finding(
                    (*place, "path"), "can never fit: every such path fits an earlier entry,", see=("forward", earlier)
                )
                break


def _wallet(config: Config, schema: Schema) -> Iterator[Finding]:
    wallet = config.auth.wallet
    if wallet is None:
        return
    place: Place = ("auth", "wallet")
    yield from _algorithms(wallet, place)
    if not all(wallet.claim.split(".")):
        yield Finding((*place, "claim"), "expected a claim's name, or a dotted path to it")
    if wallet.entity not in config.entities:
        yield unknown((*place, "entity"), "entity", wallet.entity, config.entities)
        return
    model = schema.models.get(config.entities[wallet.entity].model)
    if model is None:
        return
    field = model.fields.get(wallet.field)
    if field is None or not field.stored:
        yield unknown((*place, "field"), f"field of model {model.name}", wallet.field, stored(model))
    elif field.type != "String" or (wallet.field,) not in (*model.uniques, model.ids):
        yield Finding((*place, "field"), f"expected a unique String field of model {model.name}, unlike", wallet.field)
    else:
        needed = [name for name in needed_to_create(model) if name != wallet.field]
        if needed:
            problem = f"the wallet alone cannot make a {model.name}, which also needs {', '.join(needed)}"
            yield Finding((*place, "entity"), problem)


def _algorithms(wallet: Wallet, place: Place) -> Iterator[Finding]:
    for index, algorithm in enumerate(wallet.algorithms):
        if algorithm not in _ALGORITHMS_ALL:
            yield unknown((*place, "algorithms", index), "signature algorithm", algorithm, _ALGORITHMS_ALL)
    if len({algorithm.startswith("HS") for algorithm in wallet.algorithms}) > 1:
        problem = "HS… and others together would let a public key sign tokens; expected algorithms of one kind"
        yield Finding((*place, "algorithms"), problem)


def _distinct(config: Config) -> Iterator[Finding]:
    """No two entities share a collection or a model."""
    collections: dict[str, Place] = {}
    models: dict[str, Place] = {}
    for name, entity in config.entities.items():
        for collection, place in _collections(name, entity):
            if collection in collections:
                yield Finding(place, "two entities with one collection; the other is", see=collections[collection])
            collections.setdefault(collection, place)
        of_model: Place = ("entities", name, "model")
        if entity.model in models:
            yield Finding(of_model, "two entities with one model; the other is", see=models[entity.model])
        models.setdefault(entity.model, of_model)


def _entity(name: str, entity: Entity, config: Config, schema: Schema) -> Iterator[Finding]:
    place: Place = ("entities", name)
    for collection, where in _collections(name, entity):
        if not collection or collection.startswith(("strangler_", "system.")):
            yield Finding(where, "expected a collection of the application, unlike", collection)
    legacy = entity.legacy
    if legacy.upstream is not None and legacy.upstream not in config.upstreams:
        yield unknown((*place, "legacy", "upstream"), "upstream", legacy.upstream, config.upstreams)
    if legacy.via == "endpoint" and legacy.upstream is None:
        among = ", ".join(config.upstreams)
        yield Finding((*place, "legacy", "via"), f"an endpoint without upstream; expected upstream: one of {among}")
    if entity.model not in entity_models(schema):
        yield unknown((*place, "model"), "model", entity.model, entity_models(schema))
        return
    model = schema.models[entity.model]
    if len(model.ids) != 1:
        yield Finding((*place, "model"), f"model {model.name} has no single id field")
        return
    yield from _fields(entity.fields, model, (*place, "fields"))
    for index, also in enumerate(entity.also):
        yield from _fields(also.fields, model, (*place, "also", index, "fields"))
    yield from check_sources(name, entity, config, schema)
    yield from _compare(entity.compare, model, (*place, "compare"))


def _fields(rules: Mapping[str, FieldRule], model: Model, place: Place) -> Iterator[Finding]:
    known = stored(model)
    for name, rule in rules.items():
        below: Place = (*place, name)
        if name not in known:
            yield unknown(below, f"field of model {model.name}", None, known)
        if rule.functions:
            yield from check_function((*below, "functions", "to_prisma"), rule.functions.to_prisma, 1)
            yield from check_function((*below, "functions", "to_legacy"), rule.functions.to_legacy, 1)
        if rule.functions and rule.split:
            yield Finding(below, "expected either split or functions, not both")
        for key, path in (("from", rule.source), ("body", rule.body)):
            if path is not None and not _is_path(path):
                yield Finding((*below, key), "expected names separated by dots, none starting with $, unlike", path)
        if name in model.ids and rule.source not in (None, "_id"):
            yield Finding((*below, "from"), "a document is known by its _id and by nothing else; expected _id")
        if rule.split and rule.source is None:
            yield Finding((*below, "split"), "expected from, the legacy string that is split")
        if name in known:
            yield from _legacy_type(rule, model.fields[name], below)
    yield from _sources(rules, model, place)
    yield from _parts(rules, place)


def _is_path(path: str) -> bool:
    """A place in a document: never an operator, never inside a document that is a list."""
    first, *rest = path.split(".")
    return all((first, *rest)) and not any(step.startswith("$") for step in (first, *rest)) and not first.isdigit()


def _legacy_type(rule: FieldRule, field: Field, place: Place) -> Iterator[Finding]:
    forms = legacy_forms(field)
    if rule.legacy and rule.functions:
        yield Finding((*place, "legacy"), "functions leave nothing to convert; expected one of the two")
    elif rule.legacy and rule.legacy not in forms:
        yield unknown((*place, "legacy"), f"BSON type of a {field.type} field", rule.legacy, forms)
    if rule.split and (field.type != "String" or field.is_list or rule.legacy not in (None, "string")):
        yield Finding((*place, "split"), "only a string can be split; expected a field of type String")


def _sources(rules: Mapping[str, FieldRule], model: Model, place: Place) -> Iterator[Finding]:
    """No two fields are written to the same legacy path, or one inside the other."""
    taken: dict[str, tuple[str, FieldRule | None]] = {}
    for name in stored(model):
        rule = rules.get(name)
        path = rule.source if rule and rule.source else "_id" if name in model.ids else name
        for other_path, (other, other_rule) in taken.items():
            inside = path.startswith(other_path + ".") or other_path.startswith(path + ".")
            if not inside and (path != other_path or _share(rule, other_rule)):
                continue
            where, sibling = (name, other) if rule else (other, name)
            problem = f"{sibling} is at the same legacy path or around it; expected a path of its own"
            yield Finding((*place, where, "from"), problem)
        taken[path] = (name, rule)


def _parts(rules: Mapping[str, FieldRule], place: Place) -> Iterator[Finding]:
    """The fields that share a string are its parts 0, 1 and so on, without a gap."""
    taken = {(rule.source, rule.split.part): name for name, rule in rules.items() if rule.split}
    for (source, part), name in taken.items():
        if part > 0 and (source, part - 1) not in taken:
            yield Finding(
                (*place, name, "split", "part"), f"no field is part {part - 1}; expected parts from 0 without a gap"
            )


def _share(one: FieldRule | None, other: FieldRule | None) -> bool:
    """Two different parts of one split string."""
    if not one or not other or not one.split or not other.split:
        return False
    return one.split.by == other.split.by and one.split.part != other.split.part


def _compare(compare: Compare, model: Model, place: Place) -> Iterator[Finding]:
    for key, paths in (("ignore", compare.ignore), ("unordered", compare.unordered)):
        for index, path in enumerate(paths):
            field = model.fields.get(path.split(".")[0])
            if problem := _path_problem((*place, key, index), path, path, model):
                yield problem
            elif key == "unordered" and field and not (field.is_list or field.type == "Json"):
                yield Finding((*place, key, index), "expected a list, or a path in a Json field, unlike", path)
    for path, tolerance in compare.tolerance.items():
        below: Place = (*place, "tolerance", path)
        if problem := _path_problem(below, path, None, model):
            yield problem
            continue
        field = model.fields[path.split(".")[0]]
        if isinstance(tolerance, timedelta) and field.type not in ("DateTime", "Json"):
            yield Finding(below, f"a duration is a tolerance of dates; {field.name} is {field.type}")
        elif not isinstance(tolerance, timedelta) and field.type not in (*_NUMBERS, "Json"):
            remedy = "expected a duration such as 1s" if field.type == "DateTime" else "expected no tolerance"
            yield Finding(below, f"a number is a tolerance of numbers; {field.name} is {field.type}; {remedy}")
    if compare.comparator:
        yield from check_function((*place, "comparator"), compare.comparator, 2)


def _path_problem(place: Place, path: str, got: str | None, model: Model) -> Finding | None:
    """A compare path starts with a field; only a list (by index or *) and Json have anything below."""
    first, *rest = path.split(".")
    field = model.fields.get(first)
    if field is None or not field.stored:
        return unknown(place, f"field of model {model.name}", first if got else None, stored(model))
    if not all((first, *rest)):
        return Finding(place, "expected a dotted path without empty parts")
    in_list = field.is_list and len(rest) == 1 and (rest[0] == "*" or rest[0].isdigit())
    if rest and field.type != "Json" and not in_list:
        return Finding(place, f"nothing has such a path in a {_shape(field)}", got)
    return None


def _shape(field: Field) -> str:
    return f"list of {field.type}" if field.is_list else field.type
