"""What a good file becomes, the file of Proxim8, and the pages and tables that have to keep up with the code."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from adapters.documents.bson_values import forms
from adapters.documents.mapping import Mapper
from comparators.rules import Rules
from config.faults import ConfigError
from config.fields import legacy_forms
from config.load import load
from config.model import Config, Stage
from config.paths import Router, parse_on
from config.reference import reference
from config.schema import Field, load_schema
from tests.config_case import ENVIRON, GOOD, SCHEMA

ROOT = Path(__file__).parent.parent
PROXIM8_ENVIRON = {
    "CORE_URL": "http://127.0.0.1:4001",
    "PROXIM8_URL": "http://127.0.0.1:4002",
    "JWT_SECRET": "thirty-two bytes for the test of it",
}


def loaded(folder: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    file = folder / "good.yaml"
    file.write_text(text, "utf-8")
    return load(file, environ or ENVIRON, SCHEMA)


@pytest.fixture(scope="module")
def proxim8() -> Config:
    return load(ROOT / "config/proxim8.yaml", PROXIM8_ENVIRON, load_schema())


def test_values_and_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    video = config.entities["video"]
    assert config.upstreams == {"core": "http://127.0.0.1:4001", "media": "http://127.0.0.1:4002"}
    assert [(rule.path, rule.to) for rule in config.forward] == [("/media", "media"), ("/", "core")]
    assert video.fields["title"].source == "info.title"
    assert video.compare.tolerance == {"updatedAt": timedelta(seconds=1), "score": 0.5}
    assert (video.stage, video.serve, video.sample) == (Stage.OFF, 0, 100)
    assert config.entities["note"].legacy.via == "collection"
    assert config.limits.body == 1 << 20
    assert video.routes[0].on == "POST /api/videos"


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = GOOD.replace(
        "envelope: {success: true}",
        'envelope: {a: on, b: no, c: 010, d: 0x10, e: 12:30, f: 2026-01-31, g: 1e3, h: ~, i: TRUE, j: "1", k: 0o17, l: -.5}',
    )
    assert loaded(tmp_path, text).entities["video"].routes[0].envelope == {
        "a": "on",
        "b": "no",
        "c": 10,
        "d": 16,
        "e": "12:30",
        "f": "2026-01-31",
        "g": 1000.0,
        "h": None,
        "i": True,
        "j": "1",
        "k": 15,
        "l": -0.5,
    }


@pytest.mark.parametrize(
    ("written", "environ", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("a${A}b${B}", {"A": "x", "B": "y"}, "axby"),
        ("${A:-z}", {}, "z"),
        ("${A:-z}", {"A": ""}, "z"),
        ("${A:-}", {}, ""),
        ("${A:-http://x:1}", {}, "http://x:1"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$A $ {A}", {"A": "x"}, "$A $ {A}"),
        ("${A}", {"A": "${B}"}, "${B}"),
    ],
)
def test_the_environment_fills_in(tmp_path: Path, written: str, environ: dict[str, str], expected: str) -> None:
    text = GOOD.replace("envelope: {success: true}", f'envelope: {{a: "{written}"}}')
    config = loaded(tmp_path, text, {**ENVIRON, **environ})
    assert config.entities["video"].routes[0].envelope == {"a": expected}


def test_an_alias_is_what_it_stands_for(tmp_path: Path) -> None:
    text = GOOD.replace("ignore: [data.at]", "ignore: &i [data.at]").replace("unordered: [tags]", "unordered: *i")
    assert loaded(tmp_path, text).entities["video"].compare.unordered == ["data.at"]


def test_two_fields_may_be_the_parts_of_one_string(tmp_path: Path) -> None:
    first, second = "{from: names, split: {by: ' ', part: 0}}", "{from: names, split: {by: ' ', part: 1}}"
    text = GOOD.replace("title: {from: info.title}", f"title: {first}\n      jobId: {second}")
    assert loaded(tmp_path, text).entities["video"].fields["jobId"].source == "names"


def test_proxim8_has_its_five_entities(proxim8: Config) -> None:
    assert {
        name: (entity.collection, entity.model, entity.legacy.upstream) for name, entity in proxim8.entities.items()
    } == {
        "account": ("accounts", "Account", "core"),
        "profile": ("profiles", "Profile", "core"),
        "video": ("videos", "Video", "proxim8"),
        "notification": ("notifications", "Notification", "proxim8"),
        "nft_ownership": ("nft_ownership", "NFTOwnership", "proxim8"),
    }
    assert {entity.legacy.via for entity in proxim8.entities.values()} == {"endpoint"}


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET /api/accounts/me", "account"),
        ("GET /api/accounts/wallet/0xab?x=1", "account"),
        ("PATCH /api/profiles/65f0c0ffee65f0c0ffee65f0", "profile"),
        ("POST /api/videos/generate", "video"),
        ("PATCH /api/videos/65f0c0ffee65f0c0ffee65f0/status", "video"),
        ("POST /api/notifications/read-all", "notification"),
        ("GET /api/nfts/token/12", "nft_ownership"),
        ("GET /api/jobs", None),
        ("GET /health", None),
        ("POST /api/uploads", None),
        ("OPTIONS /api/videos", None),
    ],
)
def test_proxim8_claims(proxim8: Config, request_line: str, expected: str | None) -> None:
    routes = ((*parse_on(route.on), name) for name, entity in proxim8.entities.items() for route in entity.routes)
    method, _, path = request_line.partition(" ")
    matched = Router(routes).match(method, path)
    assert (matched and matched[0]) == expected


def test_proxim8_can_be_mapped_and_compared(proxim8: Config) -> None:
    schema = load_schema()
    for entity in proxim8.entities.values():
        mapper = Mapper(entity, schema.models[entity.model], schema)
        assert mapper.key_path == "_id"
        assert mapper.body_name("id") == ("_id" if entity.legacy.upstream == "core" else "id")
        assert Rules.of(entity.compare).comparator is None


def test_proxim8_needs_its_environment() -> None:
    with pytest.raises(ConfigError) as caught:
        load(ROOT / "config/proxim8.yaml", {"CORE_URL": "http://127.0.0.1:1"}, load_schema())
    assert [(fault.path, fault.message) for fault in caught.value.faults] == [
        (
            "upstreams.proxim8",
            "the environment variable PROXIM8_URL is not set; set it, or write ${PROXIM8_URL:-default}",
        ),
        (
            "auth.wallet.secret",
            "the environment variable JWT_SECRET is not set; set it, or write ${JWT_SECRET:-default}",
        ),
    ]


def test_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs/config.md").read_text("utf-8")
    assert page == reference(), "docs/config.md is stale: python -m config.reference > docs/config.md"


@pytest.mark.parametrize(
    "prisma_type", ["String", "Int", "BigInt", "Float", "Decimal", "Boolean", "DateTime", "Bytes", "Json", "Enum"]
)
def test_the_bson_types_that_are_accepted_are_those_that_can_be_mapped(prisma_type: str) -> None:
    field = Field("f", "f", prisma_type, "enum" if prisma_type == "Enum" else "scalar")
    assert sorted(legacy_forms(field)) == forms(prisma_type)
