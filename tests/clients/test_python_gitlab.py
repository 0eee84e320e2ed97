"""python-gitlab, as its users write it, against a real node."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gitlab
import pytest
from gitlab.const import AccessLevel
from gitlab.v4.objects import Project

from support.databases import postgres_server  # noqa: F401 - a fixture works by being here
from support.node import Node
from support.product import public_key

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Site:
    url: str
    admin: gitlab.Gitlab
    ada: gitlab.Gitlab


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_options(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "sqlite":
        return []
    server = request.getfixturevalue("postgres_server")
    return ["--database-url", server.url(server.create_database())]


@pytest.fixture(scope="module")
def site(database_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Node(tmp_path_factory.mktemp("python-gitlab") / "node", options=database_options) as node:
        admin = gitlab.Gitlab(
            node.url, private_token=node.token(scopes="api,sudo"), retry_transient_errors=False
        )
        user = admin.users.create(
            {"username": "ada", "name": "Ada", "email": "ada@example.org", "password": PASSWORD}
        )
        token = user.personal_access_tokens.create({"name": "suite", "scopes": ["api"]})
        with admin, gitlab.Gitlab(node.url, private_token=token.token) as ada:
            ada.auth()
            yield Site(node.url, admin, ada)


@pytest.fixture
def project(site: Site) -> Iterator[Project]:
    made = site.ada.projects.create({"name": f"p{secrets.token_hex(4)}", "initialize_with_readme": True})
    yield site.ada.projects.get(made.id)
    made.delete()


def attributes(each: Any, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(each, name) for name in names)


def test_who_and_what(site: Site) -> None:
    assert site.ada.user is not None
    assert site.ada.user.username == "ada"
    version, revision = site.ada.version()
    assert version.count(".") == 2
    assert revision != "unknown"
    assert site.admin.users.list(username="ada", get_all=True)[0].name == "Ada"


def test_a_project_is_found_by_path_and_changed(site: Site, project: Project) -> None:
    found = site.ada.projects.get(f"ada/{project.path}")
    assert attributes(found, "id", "default_branch", "empty_repo") == (project.id, "main", False)
    found.description = "changed"
    found.save()
    assert site.ada.projects.get(project.id).description == "changed"
    found.archive()
    assert site.ada.projects.get(project.id).archived is True
    found.unarchive()


def test_lists_are_walked_page_by_page(site: Site) -> None:
    group = site.ada.groups.create({"name": "pages", "path": f"pages{secrets.token_hex(3)}"})
    for number in range(5):
        site.ada.projects.create({"name": f"n{number}", "namespace_id": group.id})
    walked = group.projects.list(iterator=True, per_page=2, order_by="name", sort="asc")
    assert walked.total == 5
    assert [each.name for each in walked] == [f"n{number}" for number in range(5)]
    keyset = site.ada.projects.list(
        iterator=True, pagination="keyset", order_by="id", per_page=2, owned=True, search="n"
    )
    assert len({each.id for each in keyset}) >= 5
    group.delete()
    with pytest.raises(gitlab.GitlabGetError, match="404 Group Not Found"):
        site.ada.groups.get(group.id)


def test_branches_and_tags(project: Project) -> None:
    made = project.branches.create({"branch": "feature/x.y", "ref": "main"})
    assert attributes(made, "name", "merged") == ("feature/x.y", True)
    assert project.branches.get("feature/x.y").commit["title"] == "Initial commit"
    tag = project.tags.create({"tag_name": "v1.0", "ref": "main", "message": "First"})
    assert attributes(project.tags.get("v1.0"), "message", "target") == ("First", tag.target)
    assert [each.id for each in project.commits.list(get_all=True)] == [tag.commit["id"]]
    assert project.commits.get("v1.0").title == "Initial commit"
    project.tags.delete("v1.0")
    made.delete()
    assert [each.name for each in project.branches.list(iterator=True)] == ["main"]
    with pytest.raises(gitlab.GitlabCreateError, match="Invalid reference name"):
        project.branches.create({"branch": "x", "ref": "nowhere"})


def test_protection(project: Project) -> None:
    rule = project.protectedbranches.create(
        {"name": "release/*", "push_access_level": AccessLevel.NO_ACCESS, "merge_access_level": 30}
    )
    assert rule.push_access_levels[0]["access_level"] == 0
    changed = project.protectedbranches.get("release/*")
    changed.allow_force_push = True
    changed.save()
    assert project.protectedbranches.get("release/*").allow_force_push is True
    project.protectedbranches.delete("release/*")
    assert project.protectedbranches.list(get_all=True) == []
    project.protectedtags.create({"name": "v*", "create_access_level": 40})
    assert project.protectedtags.get("v*").create_access_levels[0]["access_level"] == 40
    project.protectedtags.delete("v*")


def test_members_of_projects_and_groups(site: Site, project: Project) -> None:
    user = site.admin.users.create(
        {"username": f"u{secrets.token_hex(3)}", "name": "U", "email": f"{secrets.token_hex(3)}@x.org",
         "force_random_password": True}
    )  # fmt: skip
    member = project.members.create({"user_id": user.id, "access_level": AccessLevel.DEVELOPER})
    member.access_level = AccessLevel.REPORTER
    member.save()
    assert project.members.get(user.id).access_level == 20
    assert user.id in {each.id for each in project.members_all.list(iterator=True)}
    member.delete()
    group = site.ada.groups.create({"name": "g", "path": f"g{secrets.token_hex(3)}"})
    group.members.create({"user_id": user.id, "access_level": 30})
    assert {each.access_level for each in group.members.list(iterator=True)} == {30, 50}
    sub = site.ada.groups.create({"name": "sub", "path": "sub", "parent_id": group.id})
    assert [each.id for each in group.subgroups.list(iterator=True)] == [sub.id]
    assert [each.id for each in group.descendant_groups.list(iterator=True)] == [sub.id]
    group.delete()
    user.block()
    assert site.admin.users.get(user.id).state == "blocked"
    user.unblock()
    user.delete()


def test_keys_and_tokens(site: Site, project: Project) -> None:
    assert site.ada.user is not None
    key = site.ada.user.keys.create({"title": "laptop", "key": public_key()})
    assert [each.id for each in site.ada.user.keys.list(iterator=True)] == [key.id]
    key.delete()
    deploy_key = project.keys.create({"title": "robot", "key": public_key(), "can_push": True})
    assert project.keys.get(deploy_key.id).can_push is True
    deploy_key.delete()
    token = project.deploytokens.create({"name": "reader", "scopes": ["read_repository"]})
    assert token.token.startswith("gldt-")
    assert [each.id for each in project.deploytokens.list(iterator=True)] == [token.id]
    token.delete()
    own = site.ada.personal_access_tokens.get("self")
    assert attributes(own, "name", "active", "revoked") == ("suite", True, False)


def test_forks_and_namespaces(site: Site, project: Project) -> None:
    group = site.ada.groups.create({"name": "forks", "path": f"forks{secrets.token_hex(3)}"})
    fork = project.forks.create({"namespace_id": group.id})
    assert fork.forked_from_project["id"] == project.id
    assert [each.id for each in project.forks.list(iterator=True)] == [fork.id]
    assert site.ada.namespaces.get(group.full_path).kind == "group"
    assert site.ada.namespaces.exists(group.full_path).exists is True
    group.delete()


def test_an_administrator_acts_as_somebody(site: Site) -> None:
    made = site.admin.projects.create({"name": f"s{secrets.token_hex(3)}"}, sudo="ada")
    assert made.owner["username"] == "ada"
    users = site.admin.users.list(search="ada", get_all=True)
    by_admin = users[0].projects.list(get_all=True)
    assert made.id in {each.id for each in by_admin}
    made.delete()


def test_a_stranger_and_nobody_see_nothing(site: Site, project: Project) -> None:
    with gitlab.Gitlab(site.url) as nobody:
        assert project.id not in {each.id for each in nobody.projects.list(iterator=True)}
        with pytest.raises(gitlab.GitlabGetError, match="404 Project Not Found"):
            nobody.projects.get(project.id)
    with (
        gitlab.Gitlab(site.url, private_token="glpat-wrong") as wrong,
        pytest.raises(gitlab.GitlabAuthenticationError, match="401 Unauthorized"),
    ):
        wrong.auth()
