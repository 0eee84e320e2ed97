"""Git clients that are not git: dulwich, libgit2 (pygit2) and isomorphic-git clone and push.

They need what git no longer does: the advertisement of version 0, chunked and packed bodies.
"""

import json
import os
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pygit2
import pytest
from dulwich import porcelain
from dulwich.errors import NotGitRepository

from support.git_client import fsck
from support.people import Person
from support.servers import skip_missing

_ROOT = Path(__file__).parents[2]
_numbers = count(1)


@pytest.fixture
def path(ada: Person, tmp_path: Path) -> str:
    """A private project of Ada with twenty commits, a tag and a side branch."""
    work = ada.git.repository(tmp_path / "work", files=20)
    ada.git("tag", "-a", "-m", "Release", "v1", cwd=work)
    path = f"ada/client-{next(_numbers)}"
    ada.git("push", "--quiet", ada.url(path), "main", "main~5:refs/heads/side", "v1", cwd=work)
    return path


@pytest.fixture
def check_clone(ada: Person, path: str, tmp_path: Path) -> Callable[[str, str], None]:
    """Git itself sees the pushed commit and its file, and the repository is whole."""

    def check(commit: str, file: str) -> None:
        ada.git("clone", "--quiet", ada.url(path), tmp_path / "check")
        assert ada.git("rev-parse", "HEAD", cwd=tmp_path / "check") == commit
        assert (tmp_path / "check" / file).read_text() == "hello\n"
        fsck(ada.git, tmp_path / "check")

    return check


def test_dulwich_clones_and_pushes(
    ada: Person, path: str, tmp_path: Path, check_clone: Callable[[str, str], None]
) -> None:
    clone = tmp_path / "dulwich"
    with porcelain.clone(
        ada.url(path), str(clone), checkout=True, errstream=porcelain.NoneStream()
    ) as repository:
        assert len(list(repository.get_walker())) == 20
        assert b"refs/tags/v1" in repository.refs
        (clone / "from-dulwich").write_text("hello\n")
        porcelain.add(repository, [str(clone / "from-dulwich")])
        who = b"Test <test@example.com>"
        commit = porcelain.commit(repository, message=b"Add from-dulwich", author=who, committer=who)
        quiet = {"outstream": porcelain.NoneStream(), "errstream": porcelain.NoneStream()}
        porcelain.push(repository, ada.url(path), "main", **quiet)
    check_clone(commit.decode(), "from-dulwich")


def test_dulwich_is_refused_in_its_own_words(eve: Person, path: str, tmp_path: Path) -> None:
    with pytest.raises(NotGitRepository):
        porcelain.clone(eve.url(path), str(tmp_path / "clone"), errstream=porcelain.NoneStream())


def credentials(who: Person) -> pygit2.RemoteCallbacks:
    return pygit2.RemoteCallbacks(credentials=pygit2.UserPass(who.username, who.password))


def test_libgit2_clones_and_pushes_over_http(
    ada: Person, path: str, tmp_path: Path, check_clone: Callable[[str, str], None]
) -> None:
    url = f"{ada.node.url}/{path}.git"
    commit = _with_libgit2(url, tmp_path / "libgit2", credentials(ada))
    check_clone(commit, "from-libgit2")


def test_libgit2_clones_and_pushes_over_ssh(
    ada: Person, path: str, tmp_path: Path, check_clone: Callable[[str, str], None]
) -> None:
    class Callbacks(pygit2.RemoteCallbacks):
        def certificate_check(self, _certificate: object, _valid: bool, host: bytes) -> bool:
            return host == b"127.0.0.1"

    key = ada.git.key
    assert key
    pair = pygit2.Keypair("git", str(key.with_suffix(".pub")), str(key), "")
    commit = _with_libgit2(ada.ssh_url(path), tmp_path / "libgit2", Callbacks(credentials=pair))
    check_clone(commit, "from-libgit2")


def _with_libgit2(url: str, clone: Path, callbacks: pygit2.RemoteCallbacks) -> str:
    """Clone, commit and push; return the commit."""
    repository = pygit2.clone_repository(url, str(clone), callbacks=callbacks)
    assert sum(1 for _ in repository.walk(repository.head.target)) == 20
    assert "refs/tags/v1" in repository.references
    (clone / "from-libgit2").write_text("hello\n")
    repository.index.add("from-libgit2")
    repository.index.write()
    who = pygit2.Signature("Test", "test@example.com")
    parents = [repository.head.target]
    tree = repository.index.write_tree()
    commit = repository.create_commit("refs/heads/main", who, who, "Add from-libgit2", tree, parents)
    repository.remotes["origin"].push(["refs/heads/main"], callbacks=callbacks)
    return str(commit)


def test_libgit2_is_refused(eve: Person, path: str, tmp_path: Path) -> None:
    with pytest.raises(pygit2.GitError, match="404"):
        pygit2.clone_repository(
            f"{eve.node.url}/{path}.git", str(tmp_path / "clone"), callbacks=credentials(eve)
        )


@pytest.fixture(scope="session")
def javascript() -> dict[str, str]:
    """The environment in which isomorphic-git is found."""
    done = subprocess.run(
        [_ROOT / "tools" / "isomorphic-git.sh"], capture_output=True, text=True, check=False, timeout=280
    )
    if done.returncode != 0:
        skip_missing("isomorphic-git", done.stderr.strip())
    return {"PATH": os.environ["PATH"], "NODE_PATH": str(_ROOT / ".servers/isomorphic-git/node_modules")}


def isomorphic_git(
    environment: dict[str, str], who: Person, path: str, clone: Path
) -> "subprocess.CompletedProcess[str]":
    script = Path(__file__).with_name("isomorphic_git.cjs")
    url = f"{who.node.url}/{path}.git"
    return subprocess.run(
        ["node", script, url, who.username, who.password, clone],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_isomorphic_git_clones_and_pushes(
    ada: Person,
    path: str,
    tmp_path: Path,
    check_clone: Callable[[str, str], None],
    javascript: dict[str, str],
) -> None:
    done = isomorphic_git(javascript, ada, path, tmp_path / "javascript")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["commits"] == 20
    assert seen["pushed"]["ok"] is True
    assert {each["ref"]: each["oid"] for each in seen["remote"]}["refs/heads/main"] == seen["after"]
    check_clone(seen["after"], "from-javascript")


def test_isomorphic_git_is_refused(
    eve: Person, path: str, tmp_path: Path, javascript: dict[str, str]
) -> None:
    done = isomorphic_git(javascript, eve, path, tmp_path / "javascript")
    assert done.returncode == 1
    assert "404" in done.stderr
