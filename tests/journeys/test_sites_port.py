"""The port for other sites of a real node: closed to strangers, and a feed of what is stored."""

import json
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from mainstay.foundation.ids import new_ulid
from mainstay.storage.feed.log import Feed
from support.git_client import GitClient
from support.node import Node

SITES = {"MAINSTAY_SITES": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("sites") / "data", environment=SITES) as node:
        yield node


def asked(node: Node, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """Without a certificate."""
    port = int(json.loads((node.data / "run" / "settings.json").read_text())["sites"].rpartition(":")[2])
    context = ssl.create_default_context(cafile=str(node.data / "tls" / "ca.pem"))
    context.check_hostname = False
    connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_strangers_may_join_there_and_nothing_else(node: Node) -> None:
    for path in ("/", "/-/health", "/-/sites/v1/facts", "/api/v4/projects"):
        status, said = asked(node, "GET", path)
        assert (status, "only other sites" in said["message"]) == (401, True)
    shown = json.dumps({"id": new_ulid(), "proof": "0" * 64}).encode()
    assert asked(node, "POST", "/-/join", shown)[0] in (403, 409)


def test_sqlite_is_followed_by_nobody_and_that_is_said(node: Node) -> None:
    refused = node.run("replica", "token", check=False)
    assert refused.returncode != 0
    assert "mainstay db move" in refused.stderr


def test_what_is_pushed_is_in_the_feed_and_a_gap_is_a_new_one(node: Node, tmp_path: Path) -> None:
    git = GitClient(tmp_path / "home")
    feed = Feed(node.data / "feed")
    identity, start = feed.identity, feed.end
    repository = git.repository(tmp_path / "engine")
    git("push", node.clone_url("root/engine"), "HEAD:main", cwd=repository)
    keys = [entry.key for entry in feed.read(start).entries if not entry.is_deleted]
    assert {key.rpartition(".")[2] for key in keys} >= {"pack", "idx", "json"}
    node.environment = {}
    node.restart()
    assert not feed.has_begun, "what comes now is not in it"
    node.environment = dict(SITES)
    node.restart()
    assert feed.identity != identity
