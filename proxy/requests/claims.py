"""What a configuration's routes become: a claim says which operation of which entity a request asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from adapters.answer import NoSuchPlace, extract
from adapters.documents.mapping import Mapper
from adapters.side import Document, HttpRequest, Invalid, Operation
from config import templates
from config.functions import load_function
from config.model import Config, Route
from config.paths import Router, compile_pattern
from config.templates import Missing, Sources, Template


@dataclass(frozen=True, slots=True)
class Claim:
    """One route of one entity, compiled. `handler` performs it on the Prisma client where it is more than a document."""

    entity: str
    route: Route
    mapper: Mapper
    where: Mapping[str, Template]
    set: Mapping[str, Template]
    take: Template | None
    skip: Template
    order: tuple[tuple[str, bool], ...]
    handler: Callable[..., Any] | None

    @property
    def writes(self) -> bool:
        return self.route.do not in ("read", "list")


@dataclass(frozen=True, slots=True)
class Asked:
    """A matched request, read whole: what every way of answering it needs, on the client's path and after it."""

    claim: Claim
    params: Mapping[str, str]
    query: Mapping[str, str]
    http: HttpRequest
    request_id: str
    wallet: str | None = None

    @property
    def identity(self) -> str:
        """What the request is about, for choosing a share of the keys: its parameters, its caller, or its path."""
        return "/".join(self.params.values()) or self.wallet or self.http.target.partition("?")[0]

    def json(self) -> Any:
        """The request's body; no body is an empty object. Raises Invalid."""
        if not self.http.body:
            return {}
        try:
            return orjson.loads(self.http.body)
        except orjson.JSONDecodeError:
            raise Invalid("body", "is not JSON") from None

    def operation(self, account: Document | None = None) -> Operation:
        """The operation in canonical values. Raises Invalid with the field and the reason."""
        claim, route = self.claim, self.claim.route
        body = self.json() if claim.writes else None
        if body is not None and not isinstance(body, dict):
            raise Invalid("body", "is not an object")
        sources = Sources(datetime.now(UTC), self.params, self.query, body, account)
        try:
            where = _parsed(claim.mapper, claim.where, sources)
            given = _parsed(claim.mapper, claim.set, sources)
            take = None if claim.take is None else _count("limit", claim.take.fill(sources), 1, route.most)
            skip = _count("skip", claim.skip.fill(sources), 0, None)
        except Missing as error:
            raise Invalid(error.name, error.reason) from None
        data: Document = {}
        if route.do in ("create", "update"):
            accepted = claim.mapper.from_body(
                _found(body, route.input), partial=route.do == "update", accepts=route.accepts, given=given
            )
            data = {**accepted, **given}
        return Operation(claim.entity, route.do, where, data, claim.order, take, skip, self.http)


def _parsed(mapper: Mapper, declared: Mapping[str, Template], sources: Sources) -> dict[str, Any]:
    """The declared values by field. Raises Missing, and Invalid by the name that the request has for the value."""
    parsed: dict[str, Any] = {}
    for name, value in templates.fill_all(declared, sources).items():
        try:
            parsed[name] = mapper.parse(name, value)
        except Invalid as error:
            asked = declared[name].whole
            raise Invalid(asked.name if asked else error.field, error.reason) from None
    return parsed


def _found(body: Any, place: str) -> Any:
    try:
        return extract(body, place)
    except NoSuchPlace:
        raise Invalid(place.removeprefix("$."), "is required") from None


def _count(name: str, value: Any, least: int, most: int | None) -> int:
    """A number of documents. Raises Invalid outside of its bounds."""
    text = str(value)
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least or (most is not None and int(text) > most):
        raise Invalid(name, f"must be a whole number from {least}" + ("" if most is None else f" to {most}"))
    return int(text)


def compile_claims(config: Config, mappers: Mapping[str, Mapper]) -> Router[Claim]:
    """The router over all routes of all entities."""
    routes = (
        (method, compile_pattern(path), _compile(entity, route, mappers[entity]))
        for entity, declared in config.entities.items()
        for route in declared.routes
        for method, _, path in (route.on.partition(" "),)
    )
    return Router(routes, strict=config.strict_paths)


def _compile(entity: str, route: Route, mapper: Mapper) -> Claim:
    return Claim(
        entity=entity,
        route=route,
        mapper=mapper,
        where=templates.compile_all(route.where),
        set=templates.compile_all(route.set),
        take=None if route.do != "list" else templates.compile(route.most if route.take is None else route.take),
        skip=templates.compile(route.skip),
        order=tuple((name.removeprefix("-"), name.startswith("-")) for name in route.order),
        handler=None if route.handler is None else load_function(route.handler),
    )
