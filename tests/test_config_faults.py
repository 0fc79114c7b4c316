"""Every mistake in a configuration file is one line: the line that is wrong, the path, what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.faults import ConfigError
from config.load import load
from tests.config_case import ENVIRON, GOOD, SCHEMA, broken, faults, only

TABLE = Path(__file__).with_name("config_faults.txt")


def _cases() -> list[tuple[str, str, str]]:
    """What is replaced, by what, and the line that is said: the table's blocks of three lines."""
    lines = [line.rstrip("\n") for line in TABLE.read_text("utf-8").splitlines() if line[:2] in ("- ", "+ ", "= ")]
    assert [line[0] for line in lines] == ["-", "+", "="] * (len(lines) // 3)
    texts = [line[2:].replace("\\n", "\n") for line in lines]
    return list(zip(texts[::3], texts[1::3], texts[2::3], strict=True))


@pytest.mark.parametrize(("old", "new", "expected"), _cases())
def test_one_mistake_is_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert faults(tmp_path, broken(old, new)) == [expected]


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert faults(tmp_path, GOOD, collections={"accounts", "videos", "notes", "others"}) == []


def test_all_mistakes_are_said_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("{to: core}", "{to: cor}").replace("model: Note", "modle: Nota\n    model: Nota")
    text = text.replace("accountId?", "acc{ountId").replace("${CORE_URL}", "${NO_URL}")
    assert [line.split(": ")[0:2] for line in faults(tmp_path, text)] == [
        ["1", "upstreams.core"],
        ["4", "forward[1].to"],
        ["32", "entities.video.routes[1].where.accountId"],
        ["47", "entities.note.modle"],
        ["48", "entities.note.model"],
    ]


def test_mistakes_of_form_are_said_together(tmp_path: Path) -> None:
    text = GOOD.replace("updatedAt: 1s", "updatedAt: soon").replace("model: Note", "stage: on")
    assert [line.split(": ")[0:2] for line in faults(tmp_path, text)] == [
        ["21", "entities.video.compare.tolerance.updatedAt"],
        ["45", "entities.note.model"],
        ["47", "entities.note.stage"],
    ]


def test_a_collection_that_the_database_lacks(tmp_path: Path) -> None:
    lines = faults(tmp_path, GOOD, collections={"account", "videos", "notes"})
    assert only(lines) == (
        "9: entities.account.collection: unknown collection 'accounts'; did you mean account? "
        "expected one of account, notes, videos"
    )


def test_an_empty_database_has_no_collection(tmp_path: Path) -> None:
    lines = faults(tmp_path, GOOD, collections=set())
    assert lines[0] == "9: entities.account.collection: unknown collection 'accounts'; there are none"
    assert len(lines) == 3


SECRETS = {**ENVIRON, "S": "s3cr3t"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("http://127.0.0.1:4002", "${S}"),
        ("{to: core}", "{to: '${S}'}"),
        ("entity: account,", "entity: '${S}',"),
        ("field: walletAddress}", "field: '${S}'}"),
        ("field: walletAddress}", "field: walletAddress, algorithms: ['${S}']}"),
        ("collection: notes", "collection: 'system.${S}'"),
        ("model: Note", "model: '${S}'"),
        ("model: Note", "model: Note\n    stage: 'x${S}'"),
        ("model: Note", "model: Note\n    sample: '${S}'"),
        ("updatedAt: 1s", "updatedAt: '${S}'"),
        ("legacy: objectId", "legacy: '${S}'"),
        ("ignore: [data.at]", "ignore: ['${S}']"),
        ("ignore: [data.at]", "ignore: ['title.${S}']"),
        ("unordered: [tags]", "comparator: '${S}'"),
        ("unordered: [tags]", "comparator: '${S}:x'"),
        ("unordered: [tags]", "comparator: 'tests.config_case:${S}'"),
        ("on: POST /api/videos\n", "on: 'POST /api/{${S}!}'\n"),
        ("isPublic: true", "isPublic: '${S}'"),
        ("isPublic: true", "views: '{query.views:${S}}'"),
        ("isPublic: true", "jobId: '{${S}}'"),
        ("isPublic: true", "jobId: '{body.${S}'"),
        ("order: [-createdAt, id]", "order: ['${S}']"),
        ("accepts: [jobId, title]", "accepts: [jobId, '${S}']"),
        ('take: "{query.limit:20}"', "take: '${S}'"),
        ("body: $.data", "body: '${S}'"),
        ("tests.config_case:handle", "tests.config_case:${S}"),
    ],
)
def test_what_came_from_the_environment_is_not_shown(tmp_path: Path, old: str, new: str) -> None:
    lines = faults(tmp_path, broken(old, new), SECRETS)
    assert lines
    assert "s3cr3t" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty; expected upstreams and entities"),
        ("# nothing\n", "is empty; expected upstreams and entities"),
        ("- a\n- b\n", "1: expected a mapping"),
        ("upstreams: {core: [}\n", "1: no YAML: while parsing a flow node expected the node content, but found '}'"),
        ("a: 1\n---\nb: 1\n", "2: no YAML: expected a single document in the stream but found another document"),
        ("a: &a [*a]\n", "1: a[0]: an alias that holds itself"),
    ],
)
def test_a_file_that_has_no_form(tmp_path: Path, text: str, expected: str) -> None:
    assert faults(tmp_path, text)[0].strip() == expected


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    with pytest.raises(ConfigError) as caught:
        load(file, ENVIRON, SCHEMA)
    assert str(caught.value) == f"{file}: cannot be read: No such file or directory"


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"upstreams: caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        load(file, ENVIRON, SCHEMA)
    assert str(caught.value) == f"{file}: is not UTF-8"
