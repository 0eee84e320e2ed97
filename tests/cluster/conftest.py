"""Instances for the crash suite, made once per test process."""

from collections.abc import Iterator

import pytest

from support.crash.nursery import Nursery
from support.crash.worlds import Worlds
from support.databases import postgres_server  # noqa: F401 - a fixture works by being here
from support.s3 import S3Server, s3_server


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery") / "log") as nursery:
        yield nursery


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def worlds(
    request: pytest.FixtureRequest, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worlds]:
    worlds = Worlds(request, nursery, tmp_path_factory.mktemp("worlds"))
    yield worlds
    worlds.end()
