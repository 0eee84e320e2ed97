"""What people do with Git all day, over HTTP and over SSH, with protocol versions 0 and 2."""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from support.git_client import fsck
from support.people import Person

_numbers = count(1)


@pytest.fixture(params=["http", "ssh"])
def url_of(request: pytest.FixtureRequest, ada: Person) -> Callable[[str], str]:
    """Ada's address of a path, by one transport or the other."""
    return ada.url if request.param == "http" else ada.ssh_url


@pytest.fixture
def url(url_of: Callable[[str], str]) -> str:
    """The address of a path where there is nothing yet."""
    return url_of(f"ada/daily-{next(_numbers)}")


@pytest.fixture
def work(ada: Person, tmp_path: Path) -> Path:
    """A working copy with three commits."""
    return ada.git.repository(tmp_path / "work")


@pytest.fixture
def pushed(ada: Person, work: Path, url: str) -> str:
    """The address of a project that has what `work` has."""
    ada.git("push", "--quiet", url, "main", cwd=work)
    return url


def head(person: Person, work: Path, revision: str = "HEAD") -> str:
    return person.git("rev-parse", revision, cwd=work)


def test_a_push_to_a_new_path_makes_a_project_and_says_so(ada: Person, work: Path, url: str) -> None:
    done = ada.git.try_("push", url, "main", cwd=work)
    assert done, done.err
    path = url.partition("/ada/")[2].removesuffix(".git")
    assert f"remote: The private project ada/{path} was created." in done.err
    assert "remote: Clone it from " in done.err
    assert ada.git.refs(url) == {"HEAD": head(ada, work), "refs/heads/main": head(ada, work)}
    again = ada.git.try_("push", url, "main:other", cwd=work)
    assert again
    assert "was created" not in again.err


def test_a_dry_run_over_http_makes_nothing(ada: Person, work: Path) -> None:
    path = f"ada/daily-{next(_numbers)}"
    assert ada.git.try_("push", "--dry-run", ada.url(path), "main", cwd=work)
    assert "not found" in ada.git.try_("ls-remote", ada.url(path)).err


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_clone_is_equal_and_clean(
    ada: Person, work: Path, pushed: str, tmp_path: Path, version: int
) -> None:
    ada.git("-c", f"protocol.version={version}", "clone", "--quiet", pushed, tmp_path / "clone")
    fsck(ada.git, tmp_path / "clone")
    assert head(ada, tmp_path / "clone") == head(ada, work)
    assert (tmp_path / "clone" / "file-2").read_text() == "content 2\n"


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize(
    "deeper",
    [
        "--depth=2",
        "--deepen=1",
    ],
)
def test_a_shallow_clone_has_one_commit_and_can_be_deepened(
    ada: Person, pushed: str, tmp_path: Path, version: int, deeper: str
) -> None:
    clone = tmp_path / "clone"
    config = ("-c", f"protocol.version={version}")
    ada.git(*config, "clone", "--quiet", "--depth=1", pushed, clone)
    assert ada.git("rev-list", "--count", "HEAD", cwd=clone) == "1"
    ada.git(*config, "fetch", "--quiet", deeper, cwd=clone)
    assert ada.git("rev-list", "--count", "HEAD", cwd=clone) == "2"
    ada.git(*config, "fetch", "--quiet", "--unshallow", cwd=clone)
    assert ada.git("rev-list", "--count", "HEAD", cwd=clone) == "3"
    fsck(ada.git, clone)


@pytest.mark.parametrize(
    "version",
    [0, 2],
)
def test_a_partial_clone_fetches_blobs_when_they_are_needed(
    ada: Person, pushed: str, tmp_path: Path, version: int
) -> None:
    clone = tmp_path / "clone"
    config = ("-c", f"protocol.version={version}")
    ada.git(*config, "clone", "--quiet", "--no-checkout", "--filter=blob:none", pushed, clone)
    missing = ada.git("rev-list", "--objects", "--all", "--missing=print", cwd=clone)
    assert len([line for line in missing.splitlines() if line.startswith("?")]) == 3
    ada.git(*config, "checkout", "--quiet", "main", cwd=clone)
    assert (clone / "file-1").read_text() == "content 1\n"


def test_a_single_branch_brings_only_itself(ada: Person, work: Path, pushed: str, tmp_path: Path) -> None:
    ada.git("checkout", "--quiet", "-b", "side", cwd=work)
    side = ada.git.commit(work, "side", "side\n")
    ada.git("push", "--quiet", pushed, "side", cwd=work)
    ada.git("clone", "--quiet", "--single-branch", pushed, tmp_path / "clone")
    assert ada.git("for-each-ref", "--format=%(refname)", "refs/remotes", cwd=tmp_path / "clone").split() == [
        "refs/remotes/origin/HEAD",
        "refs/remotes/origin/main",
    ]
    assert not ada.git.try_("cat-file", "-e", side, cwd=tmp_path / "clone")


def test_a_fetch_brings_what_is_new(ada: Person, work: Path, pushed: str, tmp_path: Path) -> None:
    ada.git("clone", "--quiet", pushed, tmp_path / "clone")
    for number in range(3):
        new = ada.git.commit(work, f"new-{number}", f"{number}\n")
        ada.git("push", "--quiet", pushed, "main", cwd=work)
        ada.git("pull", "--quiet", "--ff-only", cwd=tmp_path / "clone")
        assert head(ada, tmp_path / "clone") == new
    fsck(ada.git, tmp_path / "clone")


def test_an_empty_repository_can_be_cloned_and_filled(
    ada: Person, url_of: Callable[[str], str], tmp_path: Path
) -> None:
    path = ada.project(f"daily-{next(_numbers)}")
    done = ada.git.try_("clone", url_of(path), tmp_path / "clone")
    assert done, done.err
    assert "empty repository" in done.err
    assert ada.git("symbolic-ref", "HEAD", cwd=tmp_path / "clone") == "refs/heads/main"
    first = ada.git.commit(tmp_path / "clone", "first", "first\n")
    ada.git("push", "--quiet", "origin", "HEAD", cwd=tmp_path / "clone")
    assert ada.git.refs(url_of(path))["HEAD"] == first


def test_tags_travel_annotated_and_light(ada: Person, work: Path, pushed: str, tmp_path: Path) -> None:
    ada.git("tag", "light", cwd=work)
    ada.git("tag", "-a", "-m", "Release", "v1", cwd=work)
    ada.git("push", "--quiet", pushed, "--tags", cwd=work)
    refs = ada.git.refs(pushed)
    assert refs["refs/tags/light"] == head(ada, work)
    assert refs["refs/tags/v1"] == head(ada, work, "v1^{tag}")
    assert refs["refs/tags/v1^{}"] == head(ada, work)
    ada.git("clone", "--quiet", pushed, tmp_path / "clone")
    assert ada.git("tag", "-n1", "-l", "v1", cwd=tmp_path / "clone").split() == ["v1", "Release"]


def test_history_may_be_rewritten_when_forced(ada: Person, work: Path, pushed: str) -> None:
    ada.git("commit", "--quiet", "--amend", "-m", "Rewritten", cwd=work)
    refused = ada.git.try_("push", pushed, "main", cwd=work)
    assert not refused
    assert "rejected" in refused.err
    ada.git("push", "--quiet", "--force", pushed, "main", cwd=work)
    assert ada.git.refs(pushed)["refs/heads/main"] == head(ada, work)


def test_a_stale_lease_does_not_force(ada: Person, work: Path, pushed: str) -> None:
    before = head(ada, work)
    ada.git("push", "--quiet", pushed, f"{head(ada, work, 'HEAD~1')}:main", "--force", cwd=work)
    ada.git("commit", "--quiet", "--amend", "-m", "Rewritten", cwd=work)
    stale = ada.git.try_("push", f"--force-with-lease=main:{before}", pushed, "main", cwd=work)
    assert not stale
    assert "stale" in stale.err


def test_branches_can_be_deleted_but_not_the_default(ada: Person, work: Path, pushed: str) -> None:
    ada.git("push", "--quiet", pushed, "main:side", cwd=work)
    ada.git("push", "--quiet", pushed, ":side", cwd=work)
    assert "refs/heads/side" not in ada.git.refs(pushed)
    refused = ada.git.try_("push", pushed, ":main", cwd=work)
    assert not refused
    assert "default branch" in refused.err
    assert "refs/heads/main" in ada.git.refs(pushed)


def test_an_atomic_push_moves_all_or_nothing(ada: Person, work: Path, pushed: str) -> None:
    before = ada.git.refs(pushed)
    ada.git.commit(work, "more", "more\n")
    one_is_bad = ["main:side", ":main"]
    assert not ada.git.try_("push", "--atomic", pushed, *one_is_bad, cwd=work)
    assert ada.git.refs(pushed) == before
    mixed = ada.git.try_("push", pushed, *one_is_bad, cwd=work)
    assert not mixed
    assert ada.git.refs(pushed)["refs/heads/side"] == head(ada, work)
    ada.git("push", "--quiet", "--atomic", pushed, "main:a", "main:b", cwd=work)
    assert {"refs/heads/a", "refs/heads/b"} <= set(ada.git.refs(pushed))


def test_push_options_are_taken(ada: Person, work: Path, pushed: str) -> None:
    done = ada.git.try_("push", "-o", "ci.skip", "-o", "a=b; c", pushed, "main:options", cwd=work)
    assert done, done.err


def test_a_push_of_nothing_new_says_up_to_date(ada: Person, work: Path, pushed: str) -> None:
    assert "Everything up-to-date" in ada.git.try_("push", pushed, "main", cwd=work).err


def test_pushes_to_different_branches_at_once_all_arrive(ada: Person, pushed: str, tmp_path: Path) -> None:
    clones = [tmp_path / f"clone-{number}" for number in range(6)]
    for number, clone in enumerate(clones):
        ada.git("clone", "--quiet", pushed, clone)
        ada.git.commit(clone, f"by-{number}", f"{number}\n")
    with ThreadPoolExecutor(len(clones)) as threads:
        done = list(
            threads.map(
                lambda at: ada.git.try_("push", "origin", f"HEAD:refs/heads/branch-{at}", cwd=clones[at]),
                range(len(clones)),
            )
        )
    assert all(done), [each.err for each in done]
    refs = ada.git.refs(pushed)
    assert [refs[f"refs/heads/branch-{at}"] for at in range(6)] == [head(ada, clone) for clone in clones]


def test_pushes_to_one_branch_at_once_have_one_winner(ada: Person, pushed: str, tmp_path: Path) -> None:
    clones = [tmp_path / f"clone-{number}" for number in range(4)]
    for number, clone in enumerate(clones):
        ada.git("clone", "--quiet", pushed, clone)
        ada.git.commit(clone, f"by-{number}", f"{number}\n")
    with ThreadPoolExecutor(len(clones)) as threads:
        done = list(threads.map(lambda at: ada.git.try_("push", "origin", "main", cwd=clones[at]), range(4)))
    winners = [head(ada, clone) for clone, each in zip(clones, done, strict=True) if each]
    assert winners == [ada.git.refs(pushed)["refs/heads/main"]]


def test_a_large_push_goes_through_its_probe_in_chunks(
    ada: Person, work: Path, pushed: str, tmp_path: Path
) -> None:
    """Beyond http.postBuffer (1 MiB) git asks with four bytes first and then sends in chunks."""
    noise = subprocess.run(["head", "-c", "5000000", "/dev/urandom"], check=True, capture_output=True).stdout
    (work / "noise").write_bytes(noise)
    ada.git.commit(work, "beside", "beside\n")
    ada.git("push", "--quiet", pushed, "main", cwd=work)
    ada.git("clone", "--quiet", pushed, tmp_path / "clone")
    assert (tmp_path / "clone" / "noise").read_bytes() == noise


@pytest.fixture(scope="module")
def many_refs(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a project with 20,000 tags. Pushed by SSH: over HTTP git itself takes a square of time."""
    work = ada.git.repository(tmp_path_factory.mktemp("many") / "work")
    commit = head(ada, work)
    lines = "".join(f"create refs/tags/t-{number:05} {commit}\n" for number in range(20_000))
    ada.git("update-ref", "--stdin", cwd=work, input_text=lines)
    path = f"ada/daily-{next(_numbers)}"
    ada.git("push", "--quiet", "--mirror", ada.ssh_url(path), cwd=work)
    return path


@pytest.mark.parametrize("version", [0, 2])
def test_many_refs_are_listed_and_cloned(
    ada: Person, many_refs: str, url_of: Callable[[str], str], tmp_path: Path, version: int
) -> None:
    url, config = url_of(many_refs), ("-c", f"protocol.version={version}")
    assert len(ada.git(*config, "ls-remote", url).splitlines()) == 20_002
    ada.git(*config, "clone", "--quiet", "--mirror", url, tmp_path / "clone")
    assert len(ada.git("for-each-ref", cwd=tmp_path / "clone").splitlines()) == 20_001


def test_an_object_that_nobody_may_see_is_not_served(ada: Person, work: Path, pushed: str) -> None:
    """Unreachable after a forced push: known by its name only, it stays hidden in version 2, too."""
    lost = ada.git.commit(work, "secret", "secret\n")
    ada.git("push", "--quiet", pushed, "main", cwd=work)
    ada.git("push", "--quiet", "--force", pushed, "HEAD~1:main", cwd=work)
    ada.git("init", "--quiet", "--bare", work / "other")
    for version in (0, 2):
        done = ada.git.try_("-c", f"protocol.version={version}", "fetch", pushed, lost, cwd=work / "other")
        assert not done
        assert "not our ref" in done.err or "unadvertised object" in done.err


def test_a_sha256_repository_is_refused_with_a_sentence(ada: Person, pushed: str, tmp_path: Path) -> None:
    ada.git("init", "--quiet", "--object-format=sha256", tmp_path / "new")
    ada.git.commit(tmp_path / "new", "a", "a\n")
    done = ada.git.try_("push", pushed, "main:other", cwd=tmp_path / "new")
    assert not done
    assert "does not support this repository's hash algorithm" in done.err
