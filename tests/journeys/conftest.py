"""A real node and people on it, shared by the journeys of one test process.

A journey that kills, stops or reconfigures a node starts one of its own with `support.node.Node`.
"""

from collections.abc import Iterator

import pytest

from support.node import Node
from support.people import Person, person


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node") / "data") as node:
        yield node


@pytest.fixture(scope="session")
def ada(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Owns what the journeys make."""
    return person(node, tmp_path_factory.mktemp("ada"), "ada")


@pytest.fixture(scope="session")
def eve(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A stranger with an account."""
    return person(node, tmp_path_factory.mktemp("eve"), "eve")
