"""The settings of a process: defaults, and a line for each variable that is missing or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import SettingsError, read_settings

ENVIRON = {
    "MONGO_URL": "mongodb://root:s3cr3t@a:27017,b:27017/app%20data?replicaSet=rs0",
    "DATABASE_URL": "postgresql://me:s3cr3t@127.0.0.1:5432/app",
    "STRANGLER_CONFIG": "config/proxim8.yaml",
}


def test_defaults() -> None:
    settings = read_settings({**ENVIRON, "STRANGLER_PORT": "", "HOME": "/home/me"})
    assert settings.config == Path("config/proxim8.yaml")
    assert (settings.host, settings.port, settings.pool, settings.drain) == ("127.0.0.1", 8080, 10, 2.0)
    assert (settings.log, settings.log_level) == ("auto", "info")
    assert settings.mongo_database == "app data"


def test_all_of_them() -> None:
    settings = read_settings(
        {
            **ENVIRON,
            "STRANGLER_HOST": "::1",
            "STRANGLER_PORT": "0",
            "STRANGLER_POOL": "3",
            "STRANGLER_DRAIN": "0.5",
            "STRANGLER_LOG": "JSON",
            "STRANGLER_LOG_LEVEL": "Warning",
            "STRANGLER_REPLICA": "blue-1",
        }
    )
    assert (settings.host, settings.port, settings.pool, settings.drain) == ("::1", 0, 3, 0.5)
    assert (settings.log, settings.log_level, settings.replica) == ("json", "warning", "blue-1")


def test_replicas_have_names_of_their_own() -> None:
    assert read_settings(ENVIRON).replica != read_settings(ENVIRON).replica


def test_passwords_are_not_shown() -> None:
    assert "s3cr3t" not in repr(read_settings(ENVIRON))
    assert "s3cr3t" not in str(read_settings(ENVIRON))


def test_everything_missing_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({})
    assert caught.value.problems == (
        "MONGO_URL is not set; expected the MongoDB that holds the legacy collections, with the database's name",
        "DATABASE_URL is not set; expected the PostgreSQL that Prisma works on",
        "STRANGLER_CONFIG is not set; expected the configuration file",
    )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("MONGO_URL", "mongodb://root:s3cr3t@a:27017", "MONGO_URL: expected mongodb://host:port/database"),
        ("MONGO_URL", "mongodb://root:s3cr3t@a:27017/", "MONGO_URL: expected mongodb://host:port/database"),
        ("MONGO_URL", "http://s3cr3t/app", "MONGO_URL: expected mongodb://host:port/database"),
        ("DATABASE_URL", "mysql://s3cr3t", "DATABASE_URL: expected postgresql://user:password@host:port/database"),
        ("STRANGLER_PORT", "s3cr3t", "STRANGLER_PORT: expected a whole number"),
        ("STRANGLER_PORT", "65536", "STRANGLER_PORT: expected at most 65535"),
        ("STRANGLER_POOL", "0", "STRANGLER_POOL: expected at least 1"),
        ("STRANGLER_DRAIN", "s3cr3t", "STRANGLER_DRAIN: expected a number"),
        ("STRANGLER_DRAIN", "nan", "STRANGLER_DRAIN: expected a number"),
        ("STRANGLER_LOG", "s3cr3t", "STRANGLER_LOG: expected 'json', 'console' or 'auto'"),
        ("STRANGLER_LOG_LEVEL", "loud", "STRANGLER_LOG_LEVEL: expected 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_wrong_one_is_one_line_without_its_value(name: str, value: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**ENVIRON, name: value})
    assert caught.value.problems == (problem,)
