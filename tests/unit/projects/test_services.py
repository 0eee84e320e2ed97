"""Creating, moving, forking and deleting projects and groups, with the ledger in the same transaction."""

from unittest import mock

import pytest

from mainstay.access.actors import ANONYMOUS, Actor, Kind
from mainstay.access.policy import GitAction
from mainstay.access.roles import Role, Visibility
from mainstay.cluster.labels import BadLabel
from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.git.objectnames import RefName
from mainstay.product.accounts.names import BadName
from mainstay.product.accounts.writing import Taken
from mainstay.product.projects import groups, locate, membership, services
from mainstay.product.projects.identity import identity_of
from mainstay.product.projects.models import Namespace, PathClaim, Project
from mainstay.product.projects.places import VisibilityTooWide, WrongPlace, ledger
from mainstay.storage.database.django import DjangoDatabase
from mainstay.storage.ledger import NoSuchRepository
from support.product import acting, make_group, make_project, make_user


def identity_in_ledger(project: Project) -> object:
    return ledger().repository(project.repository_id).identity


def test_a_new_project_has_an_empty_repository_that_knows_its_project() -> None:
    ada = make_user("ada")
    project = make_project("Engine", owner=ada, visibility=Visibility.PUBLIC)
    repository = ledger().repository(project.repository_id)
    assert (repository.version, repository.head) == (1, b"refs/heads/main")
    assert repository.identity == identity_of(project)
    assert project.full_path == "ada/Engine"


def test_a_path_is_taken_whatever_its_case_by_projects_and_groups() -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    make_project("engine", namespace=acme)
    make_group("sub", owner=ada, parent=acme)
    for make in (
        lambda: make_project("ENGINE", namespace=acme),
        lambda: make_project("Sub", namespace=acme),
        lambda: make_group("Engine", owner=ada, parent=acme),
        lambda: make_group("ADA", owner=ada),
    ):
        with pytest.raises(Taken):
            make()
    assert (Project.objects.count(), len(ledger().repositories())) == (1, 1)


def test_a_project_that_cannot_be_saved_leaves_no_repository() -> None:
    ada = make_user("ada")
    with (
        mock.patch("mainstay.product.projects.services.claim", side_effect=Unavailable("power cut")),
        pytest.raises(Unavailable),
    ):
        make_project("engine", owner=ada)
    assert (Project.objects.count(), ledger().repositories()) == (0, [])


@pytest.mark.parametrize("path", ["", "a.git", "x.wiki", "-", "info", "../up", "a/b", "a" * 256])
def test_a_bad_path_is_refused(path: str) -> None:
    with pytest.raises(BadName):
        make_project(path, owner=make_user("ada"))


def test_nothing_in_a_group_is_more_visible_than_the_group() -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada, visibility=Visibility.INTERNAL)
    with pytest.raises(VisibilityTooWide):
        make_project("engine", namespace=acme, visibility=Visibility.PUBLIC)
    with pytest.raises(VisibilityTooWide):
        make_group("sub", owner=ada, parent=acme, visibility=Visibility.PUBLIC)
    project = make_project("engine", namespace=acme, visibility=Visibility.INTERNAL)
    with pytest.raises(VisibilityTooWide):
        services.set_project(project, visibility=Visibility.PUBLIC, by=acting(ada))
    with pytest.raises(VisibilityTooWide, match="acme/engine"):
        groups.set_group(acme, visibility=Visibility.PRIVATE)


def test_changes_reach_the_identity_in_the_ledger() -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    services.set_project(
        project, by=acting(ada), name="The Engine", archived=True, settings={"merge_method": "ff"}
    )
    assert identity_in_ledger(project) == identity_of(Project.objects.get())
    assert Project.objects.get().merge_method == "ff"
    with pytest.raises(Invalid, match="'id'"):
        services.set_project(project, by=acting(ada), settings={"id": 7})


def test_moving_a_project_moves_its_path_and_frees_the_old_one() -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    project = make_project("engine", owner=ada)
    services.rename_project(project, "motor", by=acting(ada))
    services.transfer_project(project, acme, by=acting(ada))
    assert Project.objects.get().full_path == "acme/motor"
    assert identity_in_ledger(project) == identity_of(Project.objects.get())
    make_project("engine", owner=ada)


def test_moving_a_group_moves_everything_below_it() -> None:
    ada = make_user("ada")
    acme, other = make_group("acme", owner=ada), make_group("other", owner=ada)
    sub = make_group("sub", owner=ada, parent=acme)
    project = make_project("engine", namespace=sub)
    near_miss = make_group("acmeish", owner=ada)
    groups.rename_group(acme, "Acme2", by=acting(ada))
    groups.transfer_group(sub, other, by=acting(ada))
    paths = set(Namespace.objects.values_list("full_path", flat=True))
    assert paths == {"ada", "Acme2", "other", "other/sub", near_miss.full_path}
    project.refresh_from_db()
    assert project.full_path == "other/sub/engine"
    assert identity_in_ledger(project) == identity_of(project)
    claims = set(PathClaim.objects.values_list("full_path_lower", flat=True))
    assert claims == {"ada", "acme2", "other", "other/sub", "acmeish", "other/sub/engine"}


def test_a_group_stays_out_of_itself_and_of_users() -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    sub = make_group("sub", owner=ada, parent=acme)
    for parent in (acme, sub, ada.namespace):
        with pytest.raises(WrongPlace):
            groups.transfer_group(acme, parent, by=acting(ada))


def test_a_move_to_a_taken_path_changes_nothing() -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    make_project("engine", namespace=acme)
    make_group("other", owner=ada)
    with pytest.raises(Taken):
        groups.rename_group(acme, "Other", by=acting(ada))
    assert Project.objects.get().full_path == "acme/engine"


def test_a_deleted_project_is_gone_from_both_sides() -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    repository_id = project.repository_id
    services.delete_project(project, by=acting(ada))
    with pytest.raises(NoSuchRepository):
        ledger().repository(repository_id)
    assert not Project.objects.exists()
    again = make_project("engine", owner=ada)
    assert again.repository_id != repository_id


def test_deleting_a_group_deletes_what_is_in_it() -> None:
    ada = make_user("ada")
    acme = make_group("acme", owner=ada)
    make_project("engine", namespace=make_group("sub", owner=ada, parent=acme))
    kept = make_project("kept", owner=ada)
    groups.delete_group(acme, by=acting(ada))
    assert list(Project.objects.all()) == [kept]
    assert not Namespace.objects.filter(kind="group").exists()
    assert [each.id for each in ledger().repositories()] == [kept.repository_id]


def test_a_fork_has_the_source_and_cannot_be_wider() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    source = make_project("engine", owner=ada, visibility=Visibility.INTERNAL)
    fork = services.fork_project(source, bob.namespace, by=acting(bob), creator=bob)
    assert (fork.full_path, fork.forked_from, fork.visibility) == ("bob/engine", source, Visibility.INTERNAL)
    network = ledger().repository(source.repository_id).network_id
    assert ledger().repository(fork.repository_id).network_id == network
    with pytest.raises(VisibilityTooWide):
        services.fork_project(
            source, bob.namespace, by=acting(bob), path="wider", visibility=Visibility.PUBLIC
        )


def test_the_default_branch_is_the_ledgers_head() -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    services.set_default_branch(project, RefName(b"refs/heads/trunk"), by=acting(ada))
    assert ledger().repository(project.repository_id).head == b"refs/heads/trunk"


# The first push to a path


def test_a_first_push_makes_a_private_project_in_ones_own_namespace() -> None:
    ada = make_user("ada")
    facts = services.create_on_push(acting(ada), "/Ada/engine.git")
    assert (facts.full_path, facts.visibility, facts.role) == ("ada/engine", Visibility.PRIVATE, Role.OWNER)
    assert Project.objects.get().creator == ada


@pytest.mark.parametrize(
    ("role", "may"),
    [(Role.REPORTER, False), (Role.DEVELOPER, True), (Role.MAINTAINER, True)],
)
def test_a_first_push_into_a_group_needs_a_developer(role: Role, *, may: bool) -> None:
    ada, bob = make_user("ada"), make_user("bob")
    acme = make_group("acme", owner=ada)
    membership.add_member(acme, bob, role, by=acting(ada))
    if may:
        assert services.create_on_push(acting(bob), "acme/engine").role == role
    else:
        with pytest.raises(locate.NoSuchProject):
            services.create_on_push(acting(bob), "acme/engine")
    assert Project.objects.count() == int(may)


@pytest.mark.parametrize(
    "path", ["bob/engine", "nobody/engine", "engine", "", "/", "acme/../ada/x", "ada/a/b"]
)
def test_a_first_push_elsewhere_finds_nothing(path: str) -> None:
    ada = make_user("ada")
    make_user("bob")
    with pytest.raises(locate.NoSuchProject):
        services.create_on_push(acting(ada), path)
    assert not Project.objects.exists()


def test_a_first_push_with_a_bad_name_says_so() -> None:
    ada = make_user("ada")
    with pytest.raises(BadName, match="reserved"):
        services.create_on_push(acting(ada), "ada/info.git")


def test_only_people_make_projects_by_pushing() -> None:
    make_user("ada")
    key = Actor(kind=Kind.DEPLOY_KEY, id=1)
    for actor in (ANONYMOUS, key):
        with pytest.raises(locate.NoSuchProject):
            services.create_on_push(actor, "ada/engine")


def test_a_token_without_the_scope_is_told_so_in_its_own_namespace() -> None:
    ada = make_user("ada")
    actor = Actor(kind=Kind.USER, id=ada.id, scopes=frozenset({"read_repository"}))
    with pytest.raises(locate.NotPermitted, match="write_repository"):
        services.create_on_push(actor, "ada/engine")


def test_two_first_pushes_at_once_make_one_project() -> None:
    ada = make_user("ada")
    first = services.create_on_push(acting(ada), "ada/engine")
    second = services.create_on_push(acting(ada), "ada/engine")
    assert first == second
    assert len(ledger().repositories()) == 1
    assert locate.project_for(DjangoDatabase(), acting(ada), "ada/engine", GitAction.PULL) == first


def test_a_placement_label_is_in_the_ledger_until_it_is_taken_away() -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    services.place_project(project, "fast", by=acting(ada))
    assert identity_in_ledger(project)["placement"] == "fast"
    services.rename_project(project, "motor", by=acting(ada))
    assert identity_in_ledger(project)["placement"] == "fast"
    with pytest.raises(BadLabel):
        services.place_project(project, "Not A Label", by=acting(ada))
    services.place_project(project, "default", by=acting(ada))
    assert "placement" not in identity_in_ledger(project)
