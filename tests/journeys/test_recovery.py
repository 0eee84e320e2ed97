"""The database is lost, or something on the disk is not what it was: what an operator sees and does."""

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mainstay.boot.layout import Layout
from mainstay.boot.scratch import scratch_directory
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.database.opening import open_database
from mainstay.storage.ledger import Push, RefChange
from mainstay.storage.ledger.sql import SqlLedger
from support.git_client import GitClient, fsck
from support.node import Node, NodeFailed
from support.people import Person, person, project_id

SOUND, DAMAGED, NOT_CHECKED = 0, 1, 2
GHOST = Oid("1" * 40)


# What a life leaves behind
@dataclass
class Lived:
    """A node that somebody worked on, and what was pushed last."""

    node: Node
    ada: Person
    work: Path

    @property
    def paths(self) -> list[str]:
        return ["ada/engine", "ada/notes", "machines/loom", "ada/copy-of-engine"]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """It has come to its end; its node rests."""
    home = tmp_path_factory.mktemp("life")
    with Node(home / "node") as node:
        ada = person(node, home / "ada", "ada")
        work = ada.git.repository(home / "work")
        _live(ada, work)
        assert node.stop() == 0
    return Lived(node, ada, work)


@pytest.fixture
def lived(life: Lived, tmp_path: Path) -> Iterator[Lived]:
    """One of its own, which rests."""
    for each in (life.node.data, life.work):
        subprocess.run(["cp", "-a", each, tmp_path / each.name], check=True)
    node = Node(tmp_path / life.node.data.name)
    yield Lived(node, replace(life.ada, node=node), tmp_path / life.work.name)
    node.kill()


def _live(ada: Person, work: Path) -> None:
    """Branches, tags, rewritten and deleted history, a group, a fork, other visibilities."""
    git, engine = ada.git, ada.url("ada/engine")
    git("push", engine, "main", cwd=work)
    git("tag", "light", cwd=work)
    git("tag", "-a", "v1", "-m", "One", cwd=work)
    git("checkout", "-q", "-b", "feature", cwd=work)
    git.commit(work, "feature", "first try\n")
    git("push", engine, "feature", "light", "v1", "main:refs/heads/short-lived", cwd=work)
    git("commit", "--amend", "-q", "-m", "Second try", cwd=work)
    git("push", "--force", engine, "feature", cwd=work)
    git("push", engine, ":short-lived", cwd=work)
    git("push", ada.url("ada/notes"), "main", cwd=work)
    group = ada.must("POST", "groups", {"path": "machines", "name": "Machines", "visibility": "internal"})
    ada.must("POST", "projects", {"path": "loom", "namespace_id": group["id"], "visibility": "internal"})
    git("push", ada.url("machines/loom"), "main", "feature", cwd=work)
    ada.must("PUT", f"projects/{project_id('ada/engine')}", {"visibility": "public"})
    ada.node.run("project", "place", "ada/engine", "fast")
    fork = {"path": "copy-of-engine", "name": "Copy of Engine"}
    ada.must("POST", f"projects/{project_id('ada/engine')}/fork", fork)
    git("checkout", "-q", "main", cwd=work)


def _lose_the_database(node: Node) -> None:
    for file in node.data.glob("mainstay.db*"):
        file.unlink()


def _refuses_in_one_sentence(node: Node) -> str:
    before = node.log.read_text() if node.log.exists() else ""
    with pytest.raises(NodeFailed):
        node.start()
    node.kill()
    said = [line for line in node.log.read_text().removeprefix(before).splitlines() if "mainstay:" in line]
    assert len(said) == 1, said
    return said[0]


# What must be equal before and afterwards
def _truth(node: Node) -> dict[str, Any]:
    """Every ref, pack and journal version, and the projects with what decides who may see them."""
    return {
        "refs": _rows(node, "SELECT repository_id, name, oid, peeled FROM ledger_ref"),
        "manifest": _rows(
            node,
            "SELECT repository_id, added_version, p.id, p.key, p.sha256, p.size_bytes, p.objects_count"
            " FROM ledger_repository_pack m JOIN ledger_pack p ON p.id = m.pack_id",
        ),
        "repositories": _rows(
            node, "SELECT id, uid, network_id, head, version, write_state, hash FROM ledger_repository"
        ),
        "log": _rows(node, "SELECT repository_id, version, kind, push_id, actor, hash FROM ledger_change"),
        "projects": _rows(
            node,
            "SELECT id, full_path, visibility, namespace_id, creator_id, repository_id FROM projects_project",
        ),
        "placement": _rows(node, "SELECT repository_id, label FROM cluster_placement"),
        "namespaces": _rows(node, "SELECT id, full_path, kind, visibility, owner_id FROM projects_namespace"),
    }


def _rows(node: Node, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(node.data / "mainstay.db")) as database:
        return sorted(database.execute(statement), key=repr)


def _change(node: Node, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(node.data / "mainstay.db")) as database, database:
        assert database.execute(statement, values).rowcount == 1


def _clones_are_clean(lived: Lived, git: GitClient, url_of: Callable[[str], str], into: Path) -> None:
    for path in lived.paths:
        copy = into / path
        git("clone", "-q", "--mirror", url_of(path), copy)
        fsck(git, copy)


# The database is lost
def test_a_lost_database_is_rebuilt_from_the_object_store(lived: Lived, tmp_path: Path) -> None:
    node, git = lived.node, lived.ada.git
    node.start()
    refs = {path: git.refs(lived.ada.url(path)) for path in lived.paths}
    assert node.stop() == 0
    before = _truth(node)

    _lose_the_database(node)
    assert "rebuild-db" in _refuses_in_one_sentence(node)
    looked = json.loads(node.run("rebuild-db", "--check", "--json").stdout)
    assert looked["findings"] == []
    rebuilt = json.loads(node.run("rebuild-db", "--json").stdout)
    assert (rebuilt["findings"], rebuilt["prepared"]) == ([], [])
    assert _truth(node) == before

    node.start()
    assert node.run("fsck").returncode == SOUND
    # Passwords and keys are in backups of the database; the operator's own token is made anew.
    token = node.token()

    def as_root(path: str) -> str:
        return node.clone_url(path, secret=token)

    assert {path: git.refs(as_root(path)) for path in lived.paths} == refs
    _clones_are_clean(lived, git, as_root, tmp_path / "clones")

    git.commit(lived.work, "after", "life goes on\n")
    git("push", as_root("ada/engine"), "main", cwd=lived.work)
    versions = dict(_rows(node, "SELECT id, version FROM ledger_repository"))
    grown = [row for row in before["repositories"] if versions[row[0]] != row[4]]
    assert [versions[row[0]] - row[4] for row in grown] == [1], "one repository went on by one version"
    assert node.run("fsck").returncode == SOUND


def test_rebuilding_twice_changes_nothing(lived: Lived) -> None:
    node = lived.node
    before = _truth(node)
    assert node.run("rebuild-db").returncode == 0
    assert _truth(node) == before
    _lose_the_database(node)
    for _ in range(2):
        assert node.run("rebuild-db").returncode == 0
        assert _truth(node) == before


def test_a_running_node_is_not_rebuilt_under_its_feet(lived: Lived) -> None:
    lived.node.start()
    done = lived.node.run("rebuild-db", check=False)
    assert done.returncode == 5
    assert "stop it first" in done.stderr


def test_nothing_acknowledged_is_missing_after_a_kill_and_a_lost_database(lived: Lived) -> None:
    node, git = lived.node, lived.ada.git
    acknowledged: dict[str, str] = {}
    node.start()
    for number in range(2):
        commit = git.commit(lived.work, f"late-{number}", "just before the end\n")
        branch = f"refs/heads/late-{number}"
        git("push", lived.ada.url("ada/engine"), f"main:{branch}", cwd=lived.work)
        acknowledged[branch] = commit
        node.kill()
        _lose_the_database(node)
        rebuilt = json.loads(node.run("rebuild-db", "--json").stdout)
        assert (rebuilt["findings"], rebuilt["prepared"]) == ([], [])
        node.start()
        refs = git.refs(node.clone_url("ada/engine", secret=node.token(name=f"after-{number}")))
        assert refs.items() >= acknowledged.items()
        node.run("user", "password", "ada", "--password-stdin", input_text=f"{lived.ada.password}\n")


def test_an_empty_store_has_nothing_to_rebuild(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    done = Node(tmp_path / "node").run("rebuild-db", check=False)
    assert done.returncode == 4
    assert "holds no Mainstay instance" in done.stderr


# Something is not what it was
@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node at rest; each test damages it and mends it again."""
    home = tmp_path_factory.mktemp("still")
    with Node(home / "node") as node:
        ada = person(node, home / "ada", "ada")
        work = ada.git.repository(home / "work")
        ada.git("push", ada.url("ada/engine"), "main", cwd=work)
        ada.git.commit(work, "more", "more\n")
        ada.git("push", ada.url("ada/engine"), "main", cwd=work)
        node.stop()
        yield node


def _findings(node: Node, *options: str) -> tuple[int, list[str]]:
    done = node.run("fsck", "--json", *options, check=False)
    answer = json.loads(done.stdout)
    assert answer["repositories"] == 1
    assert answer["sound"] == (done.returncode == SOUND)
    errors = [each["message"] for each in answer["findings"] if each["severity"] == "error"]
    return done.returncode, errors


def _stored(node: Node, ending: str) -> Path:
    return max((node.data / "objects").rglob(f"*.{ending}"))


def test_a_healthy_node_is_sound(still: Node) -> None:
    before = set((still.data / "scratch").iterdir())
    assert _findings(still) == (SOUND, [])
    assert _findings(still, "--quick") == (SOUND, [])
    assert _findings(still, "ada/engine") == (SOUND, [])
    assert re.search(r"1 repositories checked, \d+ findings: sound", still.run("fsck").stdout)
    assert set((still.data / "scratch").iterdir()) == before, "nothing is left behind"


@pytest.mark.parametrize("ending", ["pack", "idx"])
def test_a_missing_file_is_named(still: Node, tmp_path: Path, ending: str) -> None:
    stored = _stored(still, ending)
    aside = stored.rename(tmp_path / stored.name)
    try:
        code, errors = _findings(still)
    finally:
        aside.rename(stored)
    assert code == DAMAGED
    assert any(f"{stored.name} is not in the object store" in error for error in errors), errors


@pytest.mark.parametrize("ending", ["pack", "idx"])
@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_a_flipped_byte_is_named(still: Node, ending: str, cache: str) -> None:
    stored = _stored(still, ending)
    good = stored.read_bytes()
    half = len(good) // 2
    _overwrite(stored, good[:half] + bytes([good[half] ^ 1]) + good[half + 1 :])
    if cache == "cold":
        _delete_cache(still)
    try:
        code, errors = _findings(still)
    finally:
        _overwrite(stored, good)
        _delete_cache(still)
    assert code == DAMAGED
    assert any(stored.name in error for error in errors), errors


def _overwrite(stored: Path, content: bytes) -> None:
    """As a failing disk would, in place: the cache may share these bytes by a hard link."""
    stored.chmod(0o600)
    with stored.open("r+b") as file:
        file.write(content)


def _delete_cache(node: Node) -> None:
    shutil.rmtree(node.data / "cache", ignore_errors=True)


def test_an_edited_ref_is_named(still: Node) -> None:
    ((oid,),) = _rows(still, "SELECT oid FROM ledger_ref WHERE name = CAST('refs/heads/main' AS BLOB)")
    wrong = bytes([oid[0] ^ 1]) + oid[1:]
    edit = "UPDATE ledger_ref SET oid = ? WHERE name = CAST('refs/heads/main' AS BLOB)"
    _change(still, edit, wrong)
    try:
        code, errors = _findings(still)
        quick = _findings(still, "--quick")
    finally:
        _change(still, edit, oid)
    assert (code, quick[0]) == (DAMAGED, DAMAGED)
    assert any("refs/heads/main" in error and wrong.hex() in error for error in errors), errors


@pytest.mark.parametrize(
    ("column", "value"),
    [("actor", "user:99"), ("at_ms", 1), ("details", "{}"), ("previous_hash", "0" * 63 + "1")],
)
def test_an_edited_log_is_named(still: Node, column: str, value: object) -> None:
    ((good,),) = _rows(still, f"SELECT {column} FROM ledger_change WHERE version = 2")
    _change(still, f"UPDATE ledger_change SET {column} = ? WHERE version = 2", value)
    try:
        code, errors = _findings(still, "--quick")
    finally:
        _change(still, f"UPDATE ledger_change SET {column} = ? WHERE version = 2", good)
    assert code == DAMAGED
    assert any("version 2" in error for error in errors), errors


def test_a_log_cut_short_is_named(still: Node) -> None:
    ((last,),) = _rows(still, "SELECT max(version) FROM ledger_change")
    before = _rows(still, f"SELECT hash FROM ledger_change WHERE version = {last}")
    _change(still, f"UPDATE ledger_change SET version = 99 WHERE version = {last}")
    try:
        code, errors = _findings(still, "--quick")
    finally:
        _change(still, f"UPDATE ledger_change SET version = {last} WHERE version = 99")
    assert before
    assert (code, bool(errors)) == (DAMAGED, True)


def test_an_object_that_nothing_has_is_named(still: Node) -> None:
    """The log and the ref agree, every file is whole, and still an object is not there: git's own check."""
    with closing(open_database(f"sqlite://{still.data / 'mainstay.db'}")) as database:
        ledger = SqlLedger(database, SYSTEM)
        _move(ledger, old=ZERO_OID, new=GHOST)
        try:
            code, errors = _findings(still)
            quick = _findings(still, "--quick")
        finally:
            _move(ledger, old=GHOST, new=ZERO_OID)
    assert code == DAMAGED
    assert any("refs/heads/ghost" in error and GHOST in error for error in errors), errors
    assert quick == (SOUND, [])


def _move(ledger: SqlLedger, *, old: Oid, new: Oid) -> None:
    """A push that the ledger took without anybody having looked at its objects."""
    (repository,) = ledger.repositories(after_id=0)
    push = Push(
        push_id=new_ulid(),
        repository_id=repository.id,
        actor="test",
        changes=[RefChange(RefName(b"refs/heads/ghost"), old, new)],
        prune_epoch=repository.prune_epoch,
    )
    assert not ledger.push(push).refused


@pytest.mark.parametrize("lost", ["objects", "mainstay.db"])
def test_what_cannot_be_looked_at_is_not_called_sound(still: Node, tmp_path: Path, lost: str) -> None:
    aside = (still.data / lost).rename(tmp_path / lost)
    try:
        done = still.run("fsck", "--json", check=False)
    finally:
        left = still.data / lost
        if left.is_dir():
            shutil.rmtree(left)
        left.unlink(missing_ok=True)
        aside.rename(still.data / lost)
    assert done.returncode == NOT_CHECKED
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_checking_does_not_disturb_a_node_that_starts(still: Node) -> None:
    """The scratch of a command is its own: a start wipes half pushes only."""
    with scratch_directory(Layout(still.data)) as scratch:
        still.start()
        assert scratch.is_dir()
        assert still.stop() == 0
        assert scratch.is_dir()
