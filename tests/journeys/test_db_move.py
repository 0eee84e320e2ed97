"""`mainstay db move`: from SQLite to PostgreSQL, killed at every step, and nothing is different after it."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support import managed
from support.databases import postgres_server
from support.long import only_long
from support.managed import roomy_path
from support.node import Node
from support.postgres import PostgresServer

__all__ = ["postgres_server", "roomy_path"]

_S_MAX = 120


def git(*arguments: str, cwd: Path) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=_S_MAX
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def populated() -> Iterator[Path]:
    """The data directory of a stopped node with users, projects and pushes, on SQLite."""
    managed.require_postgresql()
    with managed.roomy_directory() as directory:
        with Node(directory / "node") as node:
            node.run("user", "create", "ada", "--email", "ada@example.org", "--name", "Ada \u00e4\U0001f389")
            work = directory / "work"
            work.mkdir()
            git("init", "-q", "-b", "main", cwd=work)
            for number in range(3):
                git("commit", "-q", "--allow-empty", "-m", f"commit {number}", cwd=work)
                git("push", "-q", node.clone_url("root/engine"), "main", cwd=work)
                git("push", "-q", node.clone_url(f"root/other-{number}"), "main:side", cwd=work)
            assert node.stop() == 0
        (node.data / "run" / "settings.json").unlink()  # it names this directory
        yield directory


@pytest.fixture
def node(roomy_path: Path, populated: Path) -> Iterator[Node]:
    """A copy of it, with the work that was pushed beside it."""
    shutil.copytree(populated, roomy_path, dirs_exist_ok=True, symlinks=True)
    node = Node(roomy_path / "node")
    try:
        yield node
    finally:
        node.kill()


def everything_in(node: Node, directory: Path) -> dict[str, str]:
    """All refs and objects of all projects, as a client gets them."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    found = {}
    for path in ["root/engine", *(f"root/other-{number}" for number in range(3))]:
        clone = directory / path.replace("/", "-")
        git("clone", "-q", "--mirror", node.clone_url(path), str(clone), cwd=directory)
        git("fsck", "--full", cwd=clone)
        found[path] = git("show-ref", cwd=clone) + git("rev-list", "--objects", "--all", cwd=clone)
    return found


def rows_of(file: Path) -> dict[str, int]:
    connection = sqlite3.connect(file)
    names = [
        row[0]
        for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not row[0].startswith("sqlite_") and row[0] != "django_migrations"
    ]
    counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    connection.close()
    return counts


pytestmark = pytest.mark.xdist_group("db-move")


def test_everything_is_there_after_a_move_that_was_killed_at_every_step(node: Node, roomy_path: Path) -> None:
    file = node.data / "mainstay.db"
    expected_rows = rows_of(file)
    node.start()
    before = everything_in(node, roomy_path / "clone")
    refused = node.run("db", "move", check=False)
    assert refused.returncode != 0
    assert "already uses" in refused.stderr
    looked = json.loads(node.run("db", "move", "--check", "--json").stdout)  # beside the node
    assert looked["rows"].keys() == expected_rows.keys()
    node.stop()
    expected_rows = rows_of(file)

    for point in ("move.copied", "move.committed"):
        node.environment["MAINSTAY_FAILPOINTS"] = f"{point}=kill"
        killed = node_command(node, "db", "move", "--to", "managed")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert file.exists()
        assert not (node.data / "moved.json").exists()
        assert rows_of(file) == expected_rows
    node.environment.clear()
    moved = json.loads(node.run("db", "move", "--json").stdout)

    assert {table: each["rows"] for table, each in moved["tables"].items()} == expected_rows
    assert not file.exists()
    assert rows_of(Path(moved["kept"])) == expected_rows
    node.start()
    assert "postgresql" in node.pids()
    assert everything_in(node, roomy_path / "clone") == before
    assert "ada" in node.run("user", "list").stdout
    work = roomy_path / "work"
    git("commit", "-q", "--allow-empty", "-m", "after", cwd=work)
    git("push", "-q", node.clone_url("root/engine"), "main", cwd=work)
    git("push", "-q", node.clone_url("root/fresh"), "main", cwd=work)  # a row with a new number
    assert node.run("fsck", "--json")
    again = node.run("db", "move", check=False)
    assert again.returncode != 0
    assert "nothing to move" in again.stderr or "already" in again.stderr


@only_long
def test_a_target_of_ones_own_must_be_empty_and_the_file_is_renamed_even_after_a_kill(
    node: Node, postgres_server: PostgresServer
) -> None:
    file, name = node.data / "mainstay.db", postgres_server.create_database()
    url = postgres_server.url(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE somebody_elses (x int)")
    refused = node_command(node, "db", "move", "--to", url)
    assert "not empty" in refused.stderr
    assert file.exists()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE somebody_elses")

    # A table that only one side has stops it.
    extra = sqlite3.connect(file)
    extra.execute("CREATE TABLE newcomer (x int)")
    extra.close()
    refused = node_command(node, "db", "move", "--to", url)
    assert "newcomer" in refused.stderr
    extra = sqlite3.connect(file)
    extra.execute("DROP TABLE newcomer")
    extra.close()

    node.environment["MAINSTAY_FAILPOINTS"] = "move.switched=kill"
    killed = node_command(node, "db", "move", "--to", url)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    node.environment.clear()
    assert (node.data / "moved.json").stat().st_mode & 0o777 == 0o600
    finished = node_command(node, "db", "move")
    assert "moved to PostgreSQL already" in finished.stderr
    assert not file.exists()

    node.start()
    assert "postgresql" not in node.pids()
    assert git("ls-remote", node.clone_url("root/engine"), cwd=node.data.parent)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('mainstay_move')").fetchone() == (None,)
    node.stop()
    postgres_server.drop_database(name)


def node_command(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As `Node.run`, with the failpoints of the node."""
    armed = node.environment.get("MAINSTAY_FAILPOINTS", "")
    environment = node._environment(without=["FAILPOINTS"]) | {
        "MAINSTAY_DATA": str(node.data),
        "MAINSTAY_FAILPOINTS": armed,
    }
    return subprocess.run(
        [sys.executable, "-m", "mainstay", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_S_MAX,
    )
