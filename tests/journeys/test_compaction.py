"""Compaction works beside pushes and clones, and a force push destroys nothing."""

import json
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from support.git_client import GitClient, fsck
from support.node import Node
from support.raw_push import ZERO, RawPusher, blob, commit, tree

_PUSHERS = 4
_PUSHES_EACH = 40
_SETTLE_S_MAX = 60.0


@pytest.fixture
def git(tmp_path: Path) -> GitClient:
    return GitClient(tmp_path / "home")


def packs_of(node: Node, path: str) -> int:
    asked = """SELECT COUNT(*) FROM ledger_repository_pack r JOIN projects_project p
               ON p.repository_id = r.repository_id WHERE p.full_path = ?"""
    with sqlite3.connect(node.data / "mainstay.db") as connection:
        return int(connection.execute(asked, [path]).fetchone()[0])


def wait_for_packs_at_most(node: Node, path: str, most: int) -> None:
    deadline_s = time.monotonic() + _SETTLE_S_MAX
    while packs_of(node, path) > most:
        assert time.monotonic() < deadline_s, f"still {packs_of(node, path)} packs\n{node.log_end()}"
        time.sleep(0.1)


def push_many(node: Node, secret: str, name: str, failures: list[object]) -> None:
    pusher = RawPusher(f"{node.url}/root/busy.git", "root", secret)
    old, parent = ZERO, None
    for number in range(_PUSHES_EACH):
        content = blob(f"{name} {number}\n".encode())
        top = tree({"file": content})
        made = commit(top, parent, f"{name} {number}")
        ref = f"refs/heads/{name}"
        report = pusher.push([(ref, old, made.oid)], [content, top, made])
        if report != {ref: "ok"}:
            failures.append(report)
        old = parent = made.oid
    pusher.close()


def test_no_push_and_no_clone_fails_while_packs_are_merged(
    node: Node, git: GitClient, tmp_path: Path
) -> None:
    url = node.clone_url("root/busy")
    git("push", "--quiet", url, "main", cwd=git.repository(tmp_path / "start"))
    secret, failures = node.root_password(), []
    pushers = [
        threading.Thread(target=push_many, args=(node, secret, f"b{number}", failures))
        for number in range(_PUSHERS)
    ]
    for pusher in pushers:
        pusher.start()
    clones = 0
    while any(pusher.is_alive() for pusher in pushers):
        clones += 1
        git("clone", "--quiet", "--mirror", url, tmp_path / f"clone-{clones}")
        fsck(git, tmp_path / f"clone-{clones}")
    for pusher in pushers:
        pusher.join()

    assert failures == []
    assert clones >= 1
    wait_for_packs_at_most(node, "root/busy", 21)
    git("clone", "--quiet", "--mirror", url, tmp_path / "last")
    fsck(git, tmp_path / "last")
    counted = git("rev-list", "--all", "--count", cwd=tmp_path / "last")
    assert int(counted) == 3 + _PUSHERS * _PUSHES_EACH
    assert node.run("fsck", "root/busy").returncode == 0


def test_what_a_force_push_destroyed_comes_back(node: Node, git: GitClient, tmp_path: Path) -> None:
    url = node.clone_url("root/precious")
    work = git.repository(tmp_path / "work")
    git("push", "--quiet", url, "main", cwd=work)
    precious = git("rev-parse", "HEAD", cwd=work)
    git("commit", "--quiet", "--amend", "-m", "Oops", cwd=work)
    git("push", "--quiet", "--force", url, "main", cwd=work)
    stranger = git.repository(tmp_path / "stranger", files=1)
    assert "not our ref" in git.try_("fetch", url, precious, cwd=stranger).err

    moves = json.loads(node.run("repo", "reflog", "root/precious", "main", "--json").stdout)
    assert [move["new"] for move in moves][1] == precious
    node.run("repo", "restore-ref", "root/precious", "main")
    assert git.refs(url)["refs/heads/main"] == precious
    git("clone", "--quiet", url, tmp_path / "back")
    fsck(git, tmp_path / "back")


def test_a_value_that_the_ref_never_had_is_not_restored(node: Node, git: GitClient, tmp_path: Path) -> None:
    url = node.clone_url("root/strict")
    git("push", "--quiet", url, "main", cwd=git.repository(tmp_path / "work"))
    before = git.refs(url)
    done = node.run("repo", "restore-ref", "root/strict", "main", "--to", "1" * 40, check=False)
    assert done.returncode == 2
    assert "never pointed to" in done.stderr
    assert git.refs(url) == before


def test_the_cache_may_be_deleted_at_any_time(node: Node, git: GitClient, tmp_path: Path) -> None:
    url = node.clone_url("root/cached")
    work = git.repository(tmp_path / "work")
    git("push", "--quiet", url, "main", cwd=work)
    for number in range(5):
        _delete(node.data / "cache")
        git("clone", "--quiet", url, tmp_path / f"clone-{number}")
        fsck(git, tmp_path / f"clone-{number}")
        _delete(node.data / "cache")
        git.commit(work, f"more-{number}", "more\n")
        git("push", "--quiet", url, "main", cwd=work)
    assert git.refs(url)["refs/heads/main"] == git("rev-parse", "HEAD", cwd=work)


def _delete(directory: Path) -> None:
    """As an operator would: whatever is in use, without asking the node."""
    for entry in sorted(directory.rglob("*"), key=lambda path: -len(path.parts)):
        if entry.is_dir() and not entry.is_symlink():
            entry.rmdir()
        else:
            entry.unlink(missing_ok=True)
