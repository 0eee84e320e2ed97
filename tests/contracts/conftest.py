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
from support.postgres import PostgresServer
from support.postgres_pair import Pair, running_pair, running_pgbouncer

KINDS = ("sqlite-file", "sqlite-memory", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames and not hasattr(metafunc.module, "database"):
        kinds = [*KINDS, "pgbouncer"] if _is_pooled(metafunc) else KINDS
        metafunc.parametrize("database", kinds, indirect=True)


def _is_pooled(metafunc: pytest.Metafunc) -> bool:
    """Whether to run through a pooler as well: the statements that all else is made of, and pushes."""
    suite = metafunc.module.__name__.rpartition(".")[2]
    return suite == "test_database" or (suite == "test_ledger" and "push" in metafunc.function.__name__)


@pytest.fixture(scope="session")
def pgbouncer_port(postgres_server: PostgresServer) -> Iterator[int]:  # noqa: F811 - the fixture above
    with running_pgbouncer(postgres_server.port) as port:
        yield port


@pytest.fixture
def pgbouncer_url(postgres_url: str, postgres_server: PostgresServer, pgbouncer_port: int) -> str:  # noqa: F811 - same
    """The URL of a fresh, migrated database, through a pooler in transaction mode."""
    return postgres_url.replace(f":{postgres_server.port}/", f":{pgbouncer_port}/")


@pytest.fixture(scope="session")
def postgres_pair() -> Iterator[Pair]:
    """One pair for all tests of the group `postgres-pair`."""
    with running_pair() as pair:
        yield pair


@pytest.fixture
def pair(postgres_pair: Pair) -> Iterator[Pair]:
    """A primary and its synchronous standby, put right again after the test."""
    yield postgres_pair
    postgres_pair.restore()
    postgres_pair.drop_databases("test_%")


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Every kind of database, migrated and empty."""
    opened: Database
    if request.param == "postgresql":
        opened = PostgresqlDatabase(request.getfixturevalue("postgres_url"))
    elif request.param == "pgbouncer":
        opened = PostgresqlDatabase(request.getfixturevalue("pgbouncer_url"))
    else:
        template = request.getfixturevalue("sqlite_template")
        path = ":memory:" if request.param == "sqlite-memory" else tmp_path / "mainstay.db"
        opened = migrated_sqlite(template, path)
    yield opened
    opened.close()
