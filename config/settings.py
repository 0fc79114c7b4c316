"""The settings of one process, from its environment: where the stores are, where it listens, how it logs."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class SettingsError(Exception):
    """The environment cannot be used: a line for each variable that is missing or wrong. No values are in it."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _mongo_url(url: str) -> str:
    if urlsplit(url).scheme not in ("mongodb", "mongodb+srv") or not _database(url):
        raise ValueError("expected mongodb://host:port/database")
    return url


def _database_url(url: str) -> str:
    if urlsplit(url).scheme not in ("postgresql", "postgres"):
        raise ValueError("expected postgresql://user:password@host:port/database")
    return url


def _database(url: str) -> str:
    return unquote(urlsplit(url).path.removeprefix("/"))


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _replica() -> str:
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


class Settings(BaseModel):
    """Read once, at the start. The URLs hold passwords: they are not shown when this is printed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    mongo_url: Annotated[str, AfterValidator(_mongo_url)] = Field(alias="MONGO_URL", repr=False)
    """The MongoDB that holds the legacy collections, with the database's name."""

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(alias="DATABASE_URL", repr=False)
    """The PostgreSQL that Prisma works on."""

    config: Path = Field(alias="STRANGLER_CONFIG")
    """The configuration file."""

    host: str = Field(default="127.0.0.1", alias="STRANGLER_HOST")
    """The address to listen on."""

    port: int = Field(default=8080, ge=0, le=65535, alias="STRANGLER_PORT")
    """The port to listen on; 0 takes any that is free."""

    admin_host: str = Field(default="127.0.0.1", alias="STRANGLER_ADMIN_HOST")
    """The address of the port that is not for traffic: health and metrics."""

    admin_port: int = Field(default=8081, ge=0, le=65535, alias="STRANGLER_ADMIN_PORT")
    """The port for health and metrics; 0 takes any that is free."""

    drain: float = Field(default=2.0, ge=0, le=300, allow_inf_nan=False, alias="STRANGLER_DRAIN")
    """Seconds from SIGTERM, when /readyz turns 503, until connections are no longer accepted: as long as load balancers need
    to notice."""

    pool: int = Field(default=10, ge=1, le=1000, alias="STRANGLER_POOL")
    """How many connections to PostgreSQL the Prisma engine keeps."""

    log: Annotated[Literal["json", "console", "auto"], BeforeValidator(_lower)] = Field(
        default="auto", alias="STRANGLER_LOG"
    )
    """How events are written; `auto` is `console` on a terminal and `json` elsewhere."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", alias="STRANGLER_LOG_LEVEL"
    )
    """The least severe events that are written."""

    replica: str = Field(default_factory=_replica, min_length=1, alias="STRANGLER_REPLICA")
    """The name of this process among the replicas, unlike any other's. Unless said: the host's name and digits."""

    @property
    def mongo_database(self) -> str:
        """The name of the database in `mongo_url`."""
        return _database(self.mongo_url)


_EXPECTED: Final[Mapping[str, str]] = {
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "string_too_short": "some text",
}


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in the environment; an empty variable is as none. Raises SettingsError with everything found."""
    names = [field.alias or name for name, field in Settings.model_fields.items()]
    try:
        return Settings.model_validate({name: environ[name] for name in names if environ.get(name)})
    except ValidationError as error:
        raise SettingsError(tuple(_problem(detail) for detail in error.errors(include_url=False))) from None


def _problem(detail: Mapping[str, Any]) -> str:
    name, kind, context = str(detail["loc"][0]), detail["type"], detail.get("ctx", {})
    if kind == "missing":
        field = next(field for field in Settings.model_fields.values() if field.alias == name)
        text = field.description or ""
        return f"{name} is not set; expected {text[:1].lower()}{text[1:].rstrip('.')}"
    if kind == "value_error":
        return f"{name}: {context['error']}"
    if "ge" in context:
        return f"{name}: expected at least {context['ge']}"
    if "le" in context:
        return f"{name}: expected at most {context['le']}"
    return f"{name}: expected {context.get('expected') or _EXPECTED.get(kind, 'another value')}"
