"""A push whose answer was lost, and which the HTTP library under `git` therefore sends once more."""

from collections.abc import Iterator

import pytest

from support.node import Node
from support.raw_push import ZERO, RawPusher, blob, commit, tree

MAIN, TOPIC = "refs/heads/main", "refs/heads/topic"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("repeated") / "data") as node:
        yield node


@pytest.fixture
def pusher(node: Node, request: pytest.FixtureRequest) -> Iterator[RawPusher]:
    pusher = RawPusher(
        f"{node.url}/root/{request.node.name.replace('_', '-')}.git", "root", node.root_password()
    )
    yield pusher
    pusher.close()


FILE = blob(b"one\n")
FIRST = commit(tree({"file": FILE}), None, "First")
SECOND = commit(tree({"file": FILE}), FIRST.oid, "Second")
OBJECTS = [FILE, tree({"file": FILE}), FIRST, SECOND]


def test_the_second_time_says_ok_and_changes_nothing(pusher: RawPusher) -> None:
    updates = [(MAIN, ZERO, FIRST.oid), (TOPIC, ZERO, SECOND.oid)]
    for _ in range(2):
        assert pusher.push(updates, OBJECTS, atomic=True) == {MAIN: "ok", TOPIC: "ok"}
        assert pusher.refs() == {MAIN: FIRST.oid, TOPIC: SECOND.oid}
    for _ in range(2):
        assert pusher.push([(MAIN, FIRST.oid, SECOND.oid)], []) == {MAIN: "ok"}
        assert pusher.push([(TOPIC, SECOND.oid, ZERO)], []) == {TOPIC: "ok"}
    assert pusher.refs() == {MAIN: SECOND.oid}


def test_what_came_in_between_is_not_undone(pusher: RawPusher) -> None:
    first = [(MAIN, ZERO, FIRST.oid)]
    assert pusher.push(first, OBJECTS) == {MAIN: "ok"}
    assert pusher.push([(MAIN, FIRST.oid, SECOND.oid)], OBJECTS) == {MAIN: "ok"}
    assert pusher.push(first, OBJECTS) == {MAIN: "reference already exists"}
    assert pusher.refs() == {MAIN: SECOND.oid}
