"""Versions N and N+1 on the same tables at the same time, with the real programs.

N+1 is a copy of this program with one more schema release: a migration that adds a table, an index and two
columns, one of them to the refs that every push writes. It migrates while N runs; both then serve.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

import mainstay
from support.git_client import GitClient
from support.node import Node, NodeFailed
from support.servers import wait_until

_MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "{last}")]
    operations = [
        migrations.AddField("ref", "note", models.TextField(null=True)),
        migrations.AddField("repository", "heat", models.IntegerField(db_default=7)),
        migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddIndex("repository", models.Index(fields=["heat"], name="ledger_heat")),
    ]
"""


@dataclass(frozen=True)
class Program:
    """A whole copy of the source, of a later release."""

    source: Path

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.source)}

    def asked(self, question: str) -> str:
        """What it answers about itself: the copy must really be what runs."""
        command = [sys.executable, "-c", f"import mainstay.cluster.schema as schema; print({question})"]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()


def later_program(directory: Path, *, releases_ahead: int, floor_raised: bool) -> Program:
    """A copy of our program with as many more releases; the first of them migrates."""
    house = directory / "mainstay"
    shutil.copytree(Path(mainstay.__file__).parent, house, ignore=shutil.ignore_patterns("__pycache__"))
    folder = house / "storage" / "ledger" / "migrations"
    last = max(file.stem for file in folder.glob("0*.py"))
    (folder / "0099_later.py").write_text(_MIGRATION.format(last=last))
    schema = house / "cluster" / "schema.py"
    text = schema.read_text()
    text = text.replace(
        "CURRENT: Final = max(RELEASES)", f"CURRENT: Final = max(RELEASES) + {releases_ahead}"
    )
    if floor_raised:
        text = text.replace("FLOOR: Final = 1", "FLOOR: Final = CURRENT")
    schema.write_text(text)
    return Program(directory)


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
