"""A secret that a forced push took away: who knows its name gets it nowhere, in no fork, by no detour."""

from pathlib import Path

import pytest

from support.people import Person, project_id


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
