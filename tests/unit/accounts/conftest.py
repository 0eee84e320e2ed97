"""People in a database in memory."""

from collections.abc import Iterator

import pytest

from mainstay.boot import setup_django
from support.product import on_memory

setup_django()


@pytest.fixture(autouse=True)
def _database_in_memory() -> Iterator[None]:
    with on_memory():
        yield
