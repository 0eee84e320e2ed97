"""What an actor finds, and what stays unknown to them."""

from collections.abc import Iterable

import pytest

from mainstay.access.actors import ANONYMOUS, SYSTEM, Actor, Kind
from mainstay.access.policy import Action
from mainstay.access.roles import Role, Visibility
from mainstay.foundation.clock import ManualClock
from mainstay.product.projects import lookup, membership
from mainstay.product.projects.lookup import NoSuchGroup, NoSuchProject, NotPermitted
from mainstay.product.projects.models import Member
from support.product import acting, make_group, make_project, make_user


def paths(things: Iterable[object]) -> set[str]:
    return {str(thing) for thing in things}


@pytest.fixture
def town():
    """Ada owns `acme` with everything in it; bob is nothing yet."""

    class Town:
        ada, bob = make_user("ada"), make_user("bob")
        acme = make_group("acme", owner=ada, visibility=Visibility.PUBLIC)
        hidden = make_group("hidden", owner=ada, parent=acme)
        secret = make_project("secret", namespace=hidden)
        private = make_project("private", namespace=acme)
        internal = make_project("internal", namespace=acme, visibility=Visibility.INTERNAL)
        public = make_project("public", namespace=acme, visibility=Visibility.PUBLIC)
        own = make_project("own", owner=ada)

    return Town


def test_one_finds_by_id_and_by_path_in_any_case(town) -> None:
    ada = acting(town.ada)
    for wanted in (town.secret.id, "acme/hidden/secret", "ACME/Hidden/SECRET"):
        assert lookup.project_for(ada, wanted) == town.secret
    for wanted in (town.hidden.id, "acme/hidden", "Acme/hidden"):
        assert lookup.group_for(ada, wanted) == town.hidden


@pytest.mark.parametrize(
    "wanted", [0, -1, 10**12, 10**30, "", "/", "acme", "acme/none", "a\0b", "x" * 5000, "acme/%"]
)
@pytest.mark.usefixtures("town")
def test_what_is_not_there_is_not_found(wanted: int | str) -> None:
    with pytest.raises(NoSuchProject):
        lookup.project_for(SYSTEM, wanted)


def test_what_one_may_not_know_is_not_found_either(town) -> None:
    bob = acting(town.bob)
    for project in (town.secret, town.private, town.own):
        with pytest.raises(NoSuchProject):
            lookup.project_for(bob, project.id, Action.DELETE_PROJECT)
    with pytest.raises(NoSuchGroup):
        lookup.group_for(bob, town.hidden.id, Action.DELETE_GROUP)
    with pytest.raises(NoSuchGroup):
        lookup.group_for(bob, "bob")  # a namespace, but no group
    with pytest.raises(NotPermitted):
        lookup.project_for(bob, town.public.id, Action.DELETE_PROJECT)


def test_lists_show_what_the_single_lookup_finds(town) -> None:
    membership.add_member(town.private, town.bob, Role.GUEST, by=acting(town.ada))
    admin = acting(make_user("root", is_admin=True))
    everything = [town.secret, town.private, town.internal, town.public, town.own]
    for actor in (ANONYMOUS, acting(town.ada), acting(town.bob), admin, SYSTEM):
        found = set()
        for project in everything:
            try:
                found.add(str(lookup.project_for(actor, project.id)))
            except NoSuchProject:
                continue
        assert paths(lookup.projects_visible_to(actor)) == found


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("anonymous", {"acme/public"}),
        ("bob", {"acme/public", "acme/internal"}),
        ("ada", {"acme/hidden/secret", "acme/private", "acme/internal", "acme/public", "ada/own"}),
    ],
)
def test_who_sees_which_projects(town, who: str, expected: set[str]) -> None:
    actor = ANONYMOUS if who == "anonymous" else acting(getattr(town, who))
    assert paths(lookup.projects_visible_to(actor)) == expected


def test_a_group_membership_reaches_down(town) -> None:
    membership.add_member(town.acme, town.bob, Role.REPORTER, by=acting(town.ada))
    bob = acting(town.bob)
    assert lookup.standing_in_project(bob, town.secret).role == Role.REPORTER
    assert paths(lookup.groups_visible_to(bob)) == {"acme", "acme/hidden"}
    assert lookup.roles_in(bob, [town.secret]) == {town.secret.id: (Role.NONE, Role.REPORTER)}


def test_a_project_membership_reaches_up_as_far_as_seeing(town) -> None:
    membership.add_member(town.secret, town.bob, Role.MAINTAINER, by=acting(town.ada))
    bob = acting(town.bob)
    assert lookup.group_for(bob, "acme/hidden") == town.hidden
    assert paths(lookup.groups_visible_to(bob)) == {"acme", "acme/hidden"}
    with pytest.raises(NotPermitted):
        lookup.group_for(bob, "acme/hidden", Action.CREATE_PROJECT)
    assert "acme/private" not in paths(lookup.projects_visible_to(bob))


def test_the_higher_of_two_roles_counts(town) -> None:
    membership.add_member(town.acme, town.bob, Role.MAINTAINER, by=acting(town.ada))
    membership.add_member(town.secret, town.bob, Role.GUEST, by=acting(town.ada))
    bob = acting(town.bob)
    assert lookup.standing_in_project(bob, town.secret).role == Role.MAINTAINER
    assert lookup.roles_in(bob, [town.secret]) == {town.secret.id: (Role.GUEST, Role.MAINTAINER)}
    assert [m.access_level for m in lookup.all_members_of(town.secret) if m.user == town.bob] == [40]


def test_an_expired_membership_is_none(town) -> None:
    clock = ManualClock(now_ms=4_000_000_000_000)
    membership.add_member(
        town.acme, town.bob, Role.OWNER, by=acting(town.ada), expires_at_ms=clock.now_ms() + 1000, clock=clock
    )
    bob = acting(town.bob)
    assert lookup.project_for(bob, town.secret.id, clock=clock) == town.secret
    clock.advance(1)
    with pytest.raises(NoSuchProject):
        lookup.project_for(bob, town.secret.id, clock=clock)
    assert "acme/hidden/secret" not in paths(lookup.projects_visible_to(bob, clock=clock))
    assert Member.objects.filter(user=town.bob).count() == 1


def test_a_narrow_token_lists_nothing(town) -> None:
    actor = Actor(kind=Kind.USER, id=town.ada.id, scopes=frozenset({"read_repository"}))
    with pytest.raises(NotPermitted, match="read_api"):
        lookup.projects_visible_to(actor)
    with pytest.raises(NotPermitted):
        lookup.project_for(actor, town.own.id)
    assert lookup.project_for(actor, town.own.id, Action.READ_CODE) == town.own


def test_where_one_may_create(town) -> None:
    bob = acting(town.bob)
    assert lookup.namespace_for(bob, "bob", Action.CREATE_PROJECT) == town.bob.namespace
    with pytest.raises(NotPermitted):
        lookup.namespace_for(bob, "ada", Action.CREATE_PROJECT)
    with pytest.raises(NoSuchGroup):
        lookup.namespace_for(bob, town.hidden.id, Action.CREATE_PROJECT)
