"""What is wrong with the routes: requests that never come, placeholders that nothing fills, answers of no shape."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from config.faults import Finding, Place, unknown
from config.fields import expected, expected_text, needed_to_create, stored
from config.functions import check_function
from config.model import Config, Entity, Route
from config.paths import Pattern, PatternError, parse_on, shape
from config.schema import Field, Model, Schema
from config.templates import SOURCES, Placeholder, Template, TemplateError, compile

_AT: Final = re.compile(r"\$(\.[^.\s$]+)*")
_ONE: Final = ("read", "update", "delete")
_WRITES: Final = ("create", "update")


@dataclass(frozen=True, slots=True)
class _Scene:
    """One route with all that it is checked against."""

    place: Place
    route: Route
    entity: Entity
    model: Model
    account: Model | None
    schema: Schema
    method: str
    pattern: Pattern


def check_routes(config: Config, schema: Schema) -> Iterator[Finding]:
    """Findings in the order of the file. Of an entity whose model is unknown only the paths are checked."""
    account = _account_model(config, schema)
    taken: dict[tuple[str, tuple[str | None, ...]], Place] = {}
    for name, entity in config.entities.items():
        model = schema.models.get(entity.model)
        for index, route in enumerate(entity.routes):
            place: Place = ("entities", name, "routes", index)
            try:
                method, pattern = parse_on(route.on)
            except PatternError as error:
                yield Finding((*place, "on"), str(error))
                continue
            first = taken.setdefault((method, shape(pattern, strict=config.strict_paths)), place)
            if first != place:
                yield Finding((*place, "on"), "can never match: such requests match an earlier route,", see=first)
            if route.upstream is not None and route.upstream not in config.upstreams:
                yield unknown((*place, "upstream"), "upstream", route.upstream, config.upstreams)
            elif route.upstream is not None and entity.legacy.via != "endpoint":
                yield Finding((*place, "upstream"), "has a meaning only with legacy via: endpoint")
            if route.auth == "wallet" and config.auth.wallet is None:
                yield Finding((*place, "auth"), "nothing says how to verify a wallet; expected auth.wallet at the top")
            if model is not None and len(model.ids) == 1:
                yield from _route(_Scene(place, route, entity, model, account, schema, method, pattern))


def _account_model(config: Config, schema: Schema) -> Model | None:
    wallet = config.auth.wallet
    entity = config.entities.get(wallet.entity) if wallet else None
    return schema.models.get(entity.model) if entity else None


def _route(scene: _Scene) -> Iterator[Finding]:
    where, find_templates = _compiled(scene, "where")
    values, _ = _compiled(scene, "set")
    yield from where
    yield from values
    yield from _numbers(scene)
    yield from _names(scene)
    yield from _pointless(scene)
    yield from _answer(scene)
    if scene.route.handler is not None:
        yield from _handler(scene, scene.route.handler)
    elif scene.route.do in _ONE and not where:
        yield from _finds_one(scene, find_templates)
    elif scene.route.do == "create" and not values:
        yield from _makes_one(scene)


def _compiled(scene: _Scene, key: str) -> tuple[list[Finding], dict[str, Template]]:
    """What is wrong with a route's `where` or `set`, and its templates by field."""
    findings: list[Finding] = []
    templates: dict[str, Template] = {}
    given: Mapping[str, Any] = getattr(scene.route, key)
    for name, value in given.items():
        place: Place = (*scene.place, key, name)
        field = scene.model.fields.get(name)
        if field is None or not field.stored:
            findings.append(unknown(place, f"field of model {scene.model.name}", None, stored(scene.model)))
            continue
        try:
            template = compile(value)
        except TemplateError as error:
            findings.append(Finding(place, error.problem, error.piece, error.among))
            continue
        templates[name] = template
        findings += [finding for item in template.placeholders for finding in _fills(scene, place, item)]
        findings += _type(scene, place, field, template, value)
    return findings, templates


def _fills(scene: _Scene, place: Place, item: Placeholder) -> Iterator[Finding]:
    """Something fills the placeholder."""
    match item.source:
        case "path" if item.name not in scene.pattern.names:
            others = (
                *scene.pattern.names,
                "now",
                *(f"{source}.…" for source in SOURCES if source not in ("path", "now")),
            )
            yield unknown(place, "placeholder", item.name, others)
        case "body" if scene.method == "GET":
            yield Finding(place, "nothing fills a placeholder of the body: a GET has none")
        case "account" if scene.route.auth != "wallet":
            yield Finding(place, "nothing fills a placeholder of the account; expected auth: wallet on this route")
        case "account" if scene.account is not None and item.name not in stored(scene.account):
            yield unknown(place, f"field of model {scene.account.name}", item.name, stored(scene.account))


def _type(scene: _Scene, place: Place, field: Field, template: Template, value: Any) -> Iterator[Finding]:
    """A constant, a default, or the kind of what fills the placeholder, is something that the field can hold."""
    whole = template.whole
    if template.constant:
        constant = template.fill_constant()
        problem = expected(field, scene.schema, constant)
        as_text = expected_text(field, scene.schema, constant) if isinstance(constant, str) else problem
        if problem and as_text:
            yield Finding(place, f"expected {problem}, unlike", str(value))
    elif whole is None:
        if isinstance(value, str) and field.kind == "scalar" and field.type not in ("String", "Json"):
            yield Finding(place, f"text with a placeholder in it is no {field.type}")
    elif whole.source == "now" and field.type != "DateTime":
        yield Finding(place, f"{{now}} is a DateTime; {field.name} is {field.type}")
    elif whole.default is not None and (problem := expected_text(field, scene.schema, whole.default)):
        yield Finding(place, f"the default: expected {problem}, unlike", whole.default)


def _numbers(scene: _Scene) -> Iterator[Finding]:
    """`take` and `skip`: whole numbers, or one placeholder whose default is one."""
    most = scene.route.most
    for key, value, least in (("take", scene.route.take, 1), ("skip", scene.route.skip, 0)):
        place: Place = (*scene.place, key)
        try:
            template = compile(value)
        except TemplateError as error:
            yield Finding(place, error.problem, error.piece, error.among)
            continue
        for item in template.placeholders:
            yield from _fills(scene, place, item)
        if template.placeholders and template.whole is None:
            yield Finding(place, "expected one placeholder and nothing else, or a whole number")
            continue
        text = value if template.whole is None else template.whole.default
        if text is None:
            continue
        number = int(text) if re.fullmatch(r"-?\d{1,9}", str(text)) else None
        if number is None or number < least:
            yield Finding(place, f"expected a whole number of at least {least}, unlike", str(text))
        elif key == "take" and number > most:
            yield Finding(place, f"more than most allows, which is {most}")


def _names(scene: _Scene) -> Iterator[Finding]:
    known = stored(scene.model)
    for key, names in (("accepts", scene.route.accepts or []), ("order", scene.route.order)):
        for index, name in enumerate(names):
            bare = name.removeprefix("-") if key == "order" else name
            if bare not in known:
                yield unknown((*scene.place, key, index), f"field of model {scene.model.name}", bare, known)


def _pointless(scene: _Scene) -> Iterator[Finding]:
    """What such an operation makes no use of."""
    route = scene.route
    unused = {
        "create": ("where", "order", "take", "skip", "most"),
        "read": ("set", "accepts", "order", "take", "skip", "most", "input"),
        "list": ("set", "accepts", "input"),
        "update": ("order", "take", "skip", "most"),
        "delete": ("set", "accepts", "order", "take", "skip", "most", "input"),
    }[route.do]
    for key in unused:
        if key in route.model_fields_set:
            yield Finding((*scene.place, key), f"has no meaning with do: {route.do}")


def _answer(scene: _Scene) -> Iterator[Finding]:
    route = scene.route
    for key, path in (("input", route.input), ("body", route.body)):
        if not _AT.fullmatch(path):
            yield Finding((*scene.place, key), "expected $, or $. and a dotted path, unlike", path)
    if route.envelope and route.body == "$":
        yield Finding((*scene.place, "envelope"), "nothing can stand beside a body at $; expected body: $.name")
    top = route.body.split(".")[1:2]
    if top and top[0] in route.envelope:
        yield Finding((*scene.place, "envelope", top[0]), "body puts the document here already")


def _handler(scene: _Scene, reference: str) -> Iterator[Finding]:
    place: Place = (*scene.place, "handler")
    if scene.entity.legacy.via == "collection":
        yield Finding(place, "nothing could answer before a handler may; expected an entity with legacy.via: endpoint")
    yield from check_function(place, reference, 1, awaited=True)


def _finds_one(scene: _Scene, templates: Mapping[str, Template]) -> Iterator[Finding]:
    """What is always there in `where` can equal one document at the most."""
    route, model = scene.route, scene.model
    always = {name for name, item in templates.items() if item.whole is None or not item.whole.optional}
    if always.issuperset(model.ids) or any(always.issuperset(unique) for unique in model.uniques):
        return
    ways = " or ".join(" with ".join(names) for names in (model.ids, *model.uniques))
    key = () if "where" not in route.model_fields_set else ("where",)
    yield Finding(
        (*scene.place, *key), f"do: {route.do} needs a where that finds one document; expected {ways}, or a handler"
    )


def _makes_one(scene: _Scene) -> Iterator[Finding]:
    """The fields that a document cannot do without come from somewhere."""
    accepts = scene.route.accepts
    missing = [
        name
        for name in needed_to_create(scene.model)
        if accepts is not None and name not in {*accepts, *scene.route.set}
    ]
    if missing:
        text = ", ".join(missing)
        yield Finding((*scene.place, "accepts"), f"nothing gives {text}; expected each in accepts or set, or a handler")
