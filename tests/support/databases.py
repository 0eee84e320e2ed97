"""Databases with today's schema, fast: migrated once per run, copied for each test.

Fixtures for any suite; a conftest takes what it needs by name:

    from support.databases import postgres_server, postgres_template, postgres_url, sqlite_template
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.storage.database.sqlite import SqliteDatabase
from support.postgres import PostgresServer, running_postgres

_MIGRATE_S_MAX = 120


def migrate(data: Path, url: str | None = None) -> None:
    """Bring the database at `url` (by default the one inside `data`) to today's schema.

    In a process of its own, because Django reads its settings once per process.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAINSTAY_", "DJANGO_"))
    }
    environment |= {"DJANGO_SETTINGS_MODULE": "mainstay.boot.django_settings", "MAINSTAY_DATA": str(data)}
    if url is not None:
        environment["MAINSTAY_DATABASE_URL"] = url
    result = subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        check=False,  # the assertion below shows what Django said
        env=environment,
        capture_output=True,
        text=True,
        timeout=_MIGRATE_S_MAX,
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file. Copy it, do not open it."""
    directory = tmp_path_factory.mktemp("sqlite-template")
    migrate(directory)
    path = directory / "mainstay.db"
    # Out of WAL mode the file is complete in itself; a database that opens a copy turns WAL on again.
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    return path


def migrated_sqlite(template: Path, path: Path | str) -> SqliteDatabase:
    """A database with today's schema at `path`, which may be ":memory:"."""
    if str(path) != ":memory:":
        shutil.copyfile(template, path)
        return SqliteDatabase(path)
    database = SqliteDatabase(":memory:")
    source = sqlite3.connect(template)
    source.backup(database.shared_connection())
    source.close()
    return database


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole run."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a migrated, empty database on that server."""
    name = postgres_server.create_database()
    migrate(tmp_path_factory.mktemp("postgres-template"), postgres_server.url(name))
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh, migrated database, dropped after the test."""
    name = postgres_server.create_database(postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)
