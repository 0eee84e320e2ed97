"""Databases for the contract suites. Object stores have their own fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.storage.database import Database
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.databases import (  # noqa: F401 - fixtures work by being here
    migrated_sqlite,
    postgres_server,
    postgres_template,
    postgres_url,
    sqlite_template,
)


@pytest.fixture(params=["sqlite-file", "sqlite-memory", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Every kind of database, migrated and empty."""
    opened: Database
    if request.param == "postgresql":
        opened = PostgresqlDatabase(request.getfixturevalue("postgres_url"))
    else:
        template = request.getfixturevalue("sqlite_template")
        path = ":memory:" if request.param == "sqlite-memory" else tmp_path / "mainstay.db"
        opened = migrated_sqlite(template, path)
    yield opened
    opened.close()
