"""The migrations, by the schema engine in WebAssembly: what they make is what the schema says."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.engine import Engine
from adapters.node import find_node
from config.schema import load_schema
from examples.commands import CommandFailed, run
from examples.databases import PRISMA, drop_database, run_sql, with_database
from tests.conftest import fresh_name

MORE = """
model Extra {
  id    String @id
  note  String @default("-")
  score Int    @unique
}
"""


@pytest.fixture
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    name = fresh_name()
    await run_sql(postgres_url, [f'CREATE DATABASE "{name}"'])
    yield with_database(postgres_url, name)
    await drop_database(postgres_url, name)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The schema and its migrations, to be changed."""
    shutil.copy(PRISMA / "schema.prisma", tmp_path)
    shutil.copytree(PRISMA / "migrations", tmp_path / "migrations")
    return tmp_path


async def migrate(folder: Path, url: str, *command: str) -> str:
    env = {"DATABASE_URL": url, "STRANGLER_SCHEMA": str(folder / "schema.prisma")}
    return await run([find_node(), PRISMA / "migrate.mjs", *command], cwd=folder, env=env)


async def rows(url: str, sql: str) -> list[dict[str, object]]:
    engine = Engine(url)
    await engine.connect()
    try:
        return await engine.query_raw(sql)
    finally:
        await engine.disconnect()


async def test_they_make_every_table_of_the_schema_and_the_counter(empty_url: str) -> None:
    assert "applied 0001_init, 0002_nothing_lost" in await migrate(PRISMA, empty_url, "deploy")
    assert "nothing to apply" in await migrate(PRISMA, empty_url, "deploy")
    found = await rows(
        empty_url,
        "SELECT table_name::text AS table, column_name::text AS column FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name NOT LIKE '\\_prisma%'",
    )
    expected = {(m.table, field.column) for m in load_schema().models.values() for field in m.stored()}
    assert {(row["table"], row["column"]) for row in found} == expected
    [counter] = await rows(empty_url, "SELECT nextval('strangler_token') AS token")
    assert counter == {"token": 1}
    await rows(empty_url, "SELECT strangler_turn('video', 3) AS turned")
    assert await rows(empty_url, "SELECT strangler_gate('video', 3) AS open") == [{"open": True}]


async def test_they_make_exactly_what_the_schema_says(copy: Path, empty_url: str, postgres_url: str) -> None:
    assert "nothing to write" in await migrate(copy, empty_url, "diff", "nothing")
    assert sorted(os.listdir(copy / "migrations")) == sorted(os.listdir(PRISMA / "migrations"))
    left = await rows(
        postgres_url, "SELECT datname::text AS name FROM pg_database WHERE datname LIKE 'strangler\\_shadow%'"
    )
    assert left == []


async def test_a_change_of_the_schema_becomes_the_next_migration(copy: Path, empty_url: str) -> None:
    await migrate(copy, empty_url, "deploy")
    with (copy / "schema.prisma").open("a") as schema:
        schema.write(MORE)
    before = len(list((copy / "migrations").glob("*/")))
    said = await migrate(copy, empty_url, "diff", "add_extra")
    name = f"{before + 1:04}_add_extra"
    assert name in said
    script = (copy / "migrations" / name / "migration.sql").read_text()
    assert 'CREATE TABLE "Extra"' in script
    assert "DROP" not in script
    assert name in await migrate(copy, empty_url, "deploy")
    assert "nothing to write" in await migrate(copy, empty_url, "diff", "again")
    applied = await rows(
        empty_url, "SELECT migration_name AS name FROM _prisma_migrations WHERE finished_at IS NOT NULL"
    )
    assert {row["name"] for row in applied} == {path.name for path in (copy / "migrations").glob("*/")}


async def test_a_script_that_fails_is_named_and_holds_up_the_next(copy: Path, empty_url: str) -> None:
    broken = copy / "migrations" / "0999_broken"
    broken.mkdir()
    (broken / "migration.sql").write_text("CREATE TABLE fine (id int);\nCREATE TABLE nonsense (;\n")
    with pytest.raises(CommandFailed, match="0999_broken"):
        await migrate(copy, empty_url, "deploy")
    with pytest.raises(CommandFailed, match="failed migrations"):
        await migrate(copy, empty_url, "deploy")


async def test_a_script_may_hold_functions_and_happens_whole_or_not(copy: Path, empty_url: str) -> None:
    await migrate(copy, empty_url, "deploy")
    for number, last in (("0998", "SELECT 1;"), ("0999", "SELECT nonsense;")):
        folder = copy / "migrations" / f"{number}_function"
        folder.mkdir()
        (folder / "migration.sql").write_text(
            f"CREATE FUNCTION f{number}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; RETURN 2; END $$;\n{last}\n"
        )
    with pytest.raises(CommandFailed, match="0999_function"):
        await migrate(copy, empty_url, "deploy")
    found = await rows(empty_url, "SELECT proname::text AS name FROM pg_proc WHERE proname LIKE 'f099%'")
    assert found == [{"name": "f0998"}]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ((), "expected"),
        (("up",), "expected"),
        (("diff",), "NAME"),
        (("diff", "../evil"), "NAME"),
        (("diff", "A"), "NAME"),
    ],
)
async def test_mistakes_are_one_line_and_status_two(command: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandFailed, match=rf"status 2: migrate: .*{says}"):
        await migrate(PRISMA, "postgresql://nobody@127.0.0.1:9/nothing", *command)


async def test_a_database_that_is_away_is_told(empty_url: str) -> None:
    with pytest.raises(CommandFailed, match="status 1"):
        await migrate(PRISMA, "postgresql://nobody@127.0.0.1:9/nothing", "deploy")
    with pytest.raises(CommandFailed, match="DATABASE_URL names no database"):
        await migrate(PRISMA, "", "deploy")


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((PRISMA / "package-lock.json").read_text())["packages"]
    assert packages
    assert [name for name, package in packages.items() if "resolved" in package] == []
