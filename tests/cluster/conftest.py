"""What tests of clusters share: instances for the crash suite, two nodes, the settings of a first start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.crash.nursery import Nursery
from support.crash.worlds import Worlds
from support.databases import postgres_server  # noqa: F401 - a fixture works by being here
from support.pair import Pair, pair_of_nodes
from support.people import Person, person
from support.s3 import S3Server, s3_server


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery") / "log") as nursery:
        yield nursery


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An empty database and an empty store, as settings of a node that starts for the first time."""
    postgres = request.getfixturevalue("postgres_server")
    name = postgres.create_database()
    yield {
        "MAINSTAY_DATABASE_URL": postgres.url(name),
        "MAINSTAY_OBJECT_STORE": str(tmp_path / "objects"),
        "MAINSTAY_DATA_PROCESSES": "1",
        "MAINSTAY_DRAIN_NOTICE_SECONDS": "0",
    }
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def pair(
    request: pytest.FixtureRequest, moto: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two nodes for all tests of the group `pair`, which leave them as they were."""
    postgres = request.getfixturevalue("postgres_server")
    environment = {
        "MAINSTAY_STALE_READS_SECONDS": "600",
        "MAINSTAY_PUSH_HOLD_SECONDS": "2",
        "MAINSTAY_DRAIN_SECONDS": "30",
        "MAINSTAY_DRAIN_NOTICE_SECONDS": "2",
    }
    with pair_of_nodes(postgres, moto, tmp_path_factory.mktemp("pair"), environment) as pair:
        yield pair


@pytest.fixture(scope="session")
def ada(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return person(pair.a.node, tmp_path_factory.mktemp("ada"), "ada")


@pytest.fixture(scope="session")
def worlds(
    request: pytest.FixtureRequest, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worlds]:
    worlds = Worlds(request, nursery, tmp_path_factory.mktemp("worlds"))
    yield worlds
    worlds.end()
