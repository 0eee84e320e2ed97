"""A secret that a forced push took away: who knows its name gets it nowhere, in no fork, by no detour."""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.people import Person, project_id
from support.raw_push import ZERO, RawObject, RawPusher, blob, commit, pack_of, push_request, tree


@pytest.fixture(scope="module")
def public(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A public project and the name of a commit that was pushed to it by mistake and forced away."""
    path = ada.project("regret", visibility="public")
    work = ada.git.repository(tmp_path_factory.mktemp("regret") / "work")
    secret = ada.git.commit(work, "password.txt", "hunter2\n")
    ada.git("push", "--quiet", ada.url(path), "main", cwd=work)
    ada.git("push", "--quiet", "--force", ada.url(path), "HEAD~1:main", cwd=work)
    return path, secret


@pytest.mark.parametrize("length", [7, 12, 40])
def test_nobody_reads_it_by_its_name(ada: Person, eve: Person, public: tuple[str, str], length: int) -> None:
    path, secret = public
    name = secret[:length]
    for who in (ada, eve):
        commits = f"projects/{project_id(path)}/repository/commits"
        assert who.api("GET", f"{commits}/{name}").status == 404
        assert who.api("GET", f"{commits}?ref_name={name}").status == 404


def test_nobody_brings_it_back_by_a_branch_or_a_tag(ada: Person, public: tuple[str, str]) -> None:
    path, secret = public
    repository = f"projects/{project_id(path)}/repository"
    assert ada.api("POST", f"{repository}/branches", {"branch": "back", "ref": secret}).status == 400
    assert ada.api("POST", f"{repository}/tags", {"tag_name": "back", "ref": secret}).status == 400
    assert [each["name"] for each in ada.must("GET", f"{repository}/branches")] == ["main"]


def test_a_fork_does_not_open_it(eve: Person, public: tuple[str, str], tmp_path: Path) -> None:
    path, secret = public
    fork = eve.must("POST", f"projects/{project_id(path)}/fork", {"path": "loot"})
    repository = f"projects/{fork['id']}/repository"
    assert eve.api("GET", f"{repository}/commits/{secret}").status == 404
    assert eve.api("POST", f"{repository}/branches", {"branch": "loot", "ref": secret}).status == 400
    eve.git("init", "--quiet", tmp_path / "loot")
    assert not eve.git.try_("fetch", eve.url("eve/loot"), secret, cwd=tmp_path / "loot")


@pytest.fixture(scope="module")
def fork(eve: Person, public: tuple[str, str]) -> Iterator[RawPusher]:
    """Eve's fork of the project, which she may push to byte by byte."""
    eve.must("POST", f"projects/{project_id(public[0])}/fork", {"path": "crowbar"})
    pusher = RawPusher(eve.node.url + "/eve/crowbar.git", "eve", eve.token)
    yield pusher
    pusher.close()


def missing(pusher: RawPusher, new: str, objects: list[RawObject]) -> bool:
    """Whether a push of `new` is refused as if the secret were not there, and changes nothing."""
    before = pusher.refs()
    report = pusher.push([("refs/heads/loot", ZERO, new)], objects)
    return report == {"refs/heads/loot": "missing necessary objects"} and pusher.refs() == before


def test_no_ref_can_be_pushed_to_it(fork: RawPusher, public: tuple[str, str]) -> None:
    assert missing(fork, public[1], [])


def test_no_commit_can_be_put_on_top_of_it(fork: RawPusher, public: tuple[str, str]) -> None:
    top = tree({"file": (file := blob(b"mine\n"))})
    crowbar = commit(top, public[1], "On top")
    assert missing(fork, crowbar.oid, [crowbar, top, file])


def test_no_tree_can_take_it_in(fork: RawPusher) -> None:
    secret = blob(b"hunter2\n")
    top = tree({"password.txt": secret})
    crowbar = commit(top, None, "Take in")
    assert missing(fork, crowbar.oid, [crowbar, top])


def test_no_delta_can_bring_it_along(fork: RawPusher) -> None:
    """Git completes a thin pack with the bases of its deltas, and then the secret is in the pushed pack."""
    secret = blob(b"hunter2\n")
    top = tree({"password.txt": secret})
    crowbar = commit(top, None, "Bring along")
    insert_one = b"\x08\x01\x01x"  # 8 bytes become 1: an "x"
    delta = b"\x74" + bytes.fromhex(secret.oid) + zlib.compress(insert_one)
    whole = pack_of([crowbar, top])
    thin = whole[:8] + (3).to_bytes(4) + whole[12:-20] + delta
    request = push_request([("refs/heads/loot", ZERO, crowbar.oid)], [])
    commands = request[: request.index(b"PACK")]
    answer = fork.post("git-receive-pack", commands + thin + hashlib.sha1(thin).digest())
    assert answer is not None
    assert b"unpack ok" in answer
    assert b"ng refs/heads/loot missing necessary objects" in answer
    assert "refs/heads/loot" not in fork.refs()


def test_what_is_visible_may_be_referred_to(fork: RawPusher, eve: Person) -> None:
    """As clients do who know what the server has: a commit on top, with a file of an old commit."""
    known = blob(b"content 0\n")
    top = tree({"again": known})
    main = fork.refs()["refs/heads/main"]
    revert = commit(top, main, "Bring back")
    assert fork.push([("refs/heads/revert", ZERO, revert.oid)], [revert, top]) == {"refs/heads/revert": "ok"}
    assert fork.push([("refs/heads/same", ZERO, main)], []) == {"refs/heads/same": "ok"}


def test_whoever_has_it_may_push_it_again(ada: Person, tmp_path: Path) -> None:
    path = ada.project("regret-and-return")
    work = ada.git.repository(tmp_path / "work")
    ada.git("push", "--quiet", ada.url(path), "main", cwd=work)
    ada.git("push", "--quiet", "--force", ada.url(path), "HEAD~2:main", cwd=work)
    ada.git("push", "--quiet", ada.url(path), "main", cwd=work)
    assert ada.git.refs(ada.url(path))["refs/heads/main"] == ada.git("rev-parse", "main", cwd=work)
