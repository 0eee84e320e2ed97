"""Versions N and N+1 on the same tables at the same time, with the real programs.

N+1 (`support.later_program`) migrates while N runs; both then serve.
"""

import json
from pathlib import Path

import psycopg
import pytest

from support.git_client import GitClient
from support.later_program import later_program
from support.long import only_long
from support.node import Node, NodeFailed
from support.servers import wait_until


def tables(told: dict[str, str], query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(told["MAINSTAY_DATABASE_URL"]) as connection:
        return connection.execute(query.encode()).fetchall()


def test_n_and_n_plus_1_serve_side_by_side_and_n_may_come_back(told: dict[str, str], tmp_path: Path) -> None:
    later = later_program(tmp_path / "later", releases_ahead=1, floor_raised=False)
    assert int(later.asked("schema.CURRENT")) == int(this_release()) + 1
    with Node(tmp_path / "n", environment=told) as n:
        n_plus_1 = Node(tmp_path / "n-plus-1", environment=later.environment())
        n_plus_1.run("join", n.url, "--token", n.run("node", "token").stdout.strip())
        with n_plus_1:
            assert tables(told, "SELECT current, release FROM cluster_schema_floor") == [
                (int(this_release()) + 1, 1)
            ]
            assert tables(told, "SELECT count(*) FROM ledger_thing") == [(0,)]
            serve_in_turns(n, n_plus_1, tmp_path / "work")
            n.restart()
            assert tables(told, "SELECT current FROM cluster_schema_floor") == [(int(this_release()) + 1,)]
            checked = json.loads(n.get("/health_check/migrations.json")[1])
            assert checked["healthy"] is True
            serve_in_turns(n_plus_1, n, tmp_path / "again")
    assert tables(told, "SELECT DISTINCT heat FROM ledger_repository") == [(7,)], "rows of N have the default"


def serve_in_turns(one: Node, other: Node, directory: Path) -> None:
    """Push through one, clone and push through the other, fetch through the first."""
    git = GitClient(directory / "home")
    secret = next(
        node for node in (one, other) if (node.data / "initial_root_password").exists()
    ).root_password()
    work, name = git.repository(directory / "work"), f"root/{directory.name}"
    git("push", one.clone_url(name, secret=secret), "main", cwd=work)
    git("clone", "-q", other.clone_url(name, secret=secret), str(directory / "copy"))
    git.commit(directory / "copy", "later", "second\n")
    git(
        "push",
        other.clone_url(name, secret=secret),
        "HEAD:main",
        "HEAD:refs/heads/new",
        cwd=directory / "copy",
    )
    git("fetch", "-q", one.clone_url(name, secret=secret), "main", cwd=work)
    assert git("rev-parse", "FETCH_HEAD", cwd=work) == git("rev-parse", "HEAD", cwd=directory / "copy")


def this_release() -> str:
    from mainstay.cluster.schema import CURRENT

    return str(CURRENT)


@only_long
def test_a_raised_floor_waits_for_older_nodes_and_then_keeps_them_out(
    told: dict[str, str], tmp_path: Path
) -> None:
    later = later_program(tmp_path / "later", releases_ahead=1, floor_raised=True)
    n = Node(tmp_path / "n", environment=told)
    newest = Node(tmp_path / "newest", environment=later.environment())
    with n:
        newest.run("join", n.url, "--token", n.run("node", "token").stdout.strip())
        wait_until(lambda: said_release(told), timeout_s=30, what="the first beat of the node")
        assert "bring all nodes to the release before this one first" in refusal(newest)
        assert tables(told, "SELECT to_regclass('ledger_thing')::text") == [(None,)]
        n.stop()
    with newest:
        expected = f"need a program of schema release {int(this_release()) + 1} or later, and this one knows"
        assert expected in refusal(n)


def said_release(told: dict[str, str]) -> bool:
    rows = tables(told, "SELECT facts FROM cluster_node WHERE state = 'ready'")
    return any(json.loads(str(facts)).get("schema_release") == int(this_release()) for (facts,) in rows)


def refusal(node: Node) -> str:
    """Start a node that must refuse; what it said."""
    with pytest.raises(NodeFailed, match="ended with 5 before it was ready"):
        node.start()
    node.kill()
    return node.log_end()
