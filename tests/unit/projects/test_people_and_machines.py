"""Members, protected refs, deploy keys and deploy tokens."""

from datetime import date

import pytest

from mainstay.access.roles import Role, Visibility
from mainstay.access.scopes import UnknownScope
from mainstay.foundation.clock import ManualClock
from mainstay.product.accounts import services as accounts
from mainstay.product.accounts.models import DeployToken, SshKey
from mainstay.product.accounts.names import BadName
from mainstay.product.accounts.writing import Taken
from mainstay.product.projects import locate, machines, membership, protection
from mainstay.product.projects.models import Member
from mainstay.storage.database.django import DjangoDatabase
from support.product import acting, make_group, make_project, make_user, public_key


def test_a_member_is_added_changed_and_removed() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    project = make_project("engine", owner=ada)
    membership.add_member(project, bob, Role.DEVELOPER, by=acting(ada))
    with pytest.raises(Taken, match="Member already exists"):
        membership.add_member(project, bob, Role.REPORTER, by=acting(ada))
    membership.set_member(project, bob, Role.REPORTER, by=acting(ada))
    assert membership.member_of(project, bob).access_level == Role.REPORTER
    membership.remove_member(project, bob, by=acting(ada))
    with pytest.raises(membership.NoSuchMember):
        membership.remove_member(project, bob, by=acting(ada))


def test_nobody_gives_takes_or_changes_more_than_they_have() -> None:
    ada, bob, cyd = make_user("ada"), make_user("bob"), make_user("cyd")
    acme = make_group("acme", owner=ada)
    membership.add_member(acme, bob, Role.MAINTAINER, by=acting(ada))
    with pytest.raises(locate.NotPermitted):
        membership.add_member(acme, cyd, Role.OWNER, by=acting(bob))
    with pytest.raises(locate.NotPermitted):
        membership.set_member(acme, bob, Role.OWNER, by=acting(bob))
    with pytest.raises(locate.NotPermitted):
        membership.set_member(acme, ada, Role.GUEST, by=acting(bob))
    with pytest.raises(locate.NotPermitted):
        membership.remove_member(acme, ada, by=acting(bob))
    assert membership.member_of(acme, ada).access_level == Role.OWNER


def test_a_group_keeps_an_owner() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    acme = make_group("acme", owner=ada)
    later_ms = 4_000_000_000_000
    with pytest.raises(membership.LastOwner):
        membership.remove_member(acme, ada, by=acting(ada))
    with pytest.raises(membership.LastOwner):
        membership.set_member(acme, ada, Role.GUEST, by=acting(ada))
    with pytest.raises(membership.LastOwner):
        membership.set_member(acme, ada, Role.OWNER, by=acting(ada), expires_at_ms=later_ms)
    membership.add_member(acme, bob, Role.OWNER, by=acting(ada))
    membership.remove_member(acme, ada, by=acting(ada))
    assert [member.user for member in Member.objects.all()] == [bob]


def test_who_leaves_by_themselves_needs_no_role() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    acme = make_group("acme", owner=ada)
    membership.add_member(acme, bob, Role.GUEST, by=acting(ada))
    membership.remove_member(acme, bob, by=acting(bob))
    assert Member.objects.filter(user=bob).count() == 0


def test_odd_memberships_are_refused() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    with pytest.raises(membership.BadMembership):
        membership.add_member(ada.namespace, bob, Role.DEVELOPER, by=acting(ada))
    acme = make_group("acme", owner=ada)
    with pytest.raises(membership.BadMembership):
        membership.add_member(acme, bob, Role.NONE, by=acting(ada))
    with pytest.raises(membership.BadMembership):
        membership.add_member(acme, bob, Role.GUEST, by=acting(ada), expires_at_ms=1)


# Protected refs


def test_a_rule_is_made_changed_and_removed() -> None:
    project = make_project("engine", owner=make_user("ada"))
    rule = protection.protect_branch(project, "release/*", push_role=Role.DEVELOPER)
    with pytest.raises(Taken, match=r"Protected branch 'release/\*' already exists"):
        protection.protect_branch(project, "release/*")
    protection.set_protected_branch(rule, allow_force=True, push_role=Role.NONE)
    kept = protection.protected_branch(project, "release/*")
    assert (kept.push_role, kept.allow_force, kept.merge_role) == (Role.NONE, True, Role.MAINTAINER)
    protection.unprotect(kept)
    with pytest.raises(protection.NoSuchRule):
        protection.protected_branch(project, "release/*")


def test_odd_rules_are_refused() -> None:
    project = make_project("engine", owner=make_user("ada"))
    for pattern in ("", " ", "a\nb", "a" * 256):
        with pytest.raises(BadName):
            protection.protect_tag(project, pattern)
    with pytest.raises(protection.BadRule):
        protection.protect_branch(project, "main", push_role=Role.GUEST)


def test_a_push_is_judged_by_todays_rules() -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    protection.protect_branch(project, "main", allow_force=True)
    protection.protect_tag(project, "v*", push_role=Role.OWNER)
    database, actor = DjangoDatabase(), acting(ada)
    facts = locate.project_for(database, actor, "ada/engine", locate.GitAction.PUSH)
    rules = locate.push_rules(database, actor, facts)
    assert rules.role is Role.OWNER
    assert [(r.pattern, r.push_role, r.allow_force) for r in rules.branches] == [
        ("main", Role.MAINTAINER, True)
    ]
    assert [(r.pattern, r.push_role, r.allow_force) for r in rules.tags] == [("v*", Role.OWNER, False)]


# Machines


def test_a_deploy_key_may_be_in_several_projects_and_goes_with_the_last() -> None:
    ada = make_user("ada")
    one, two = make_project("one", owner=ada), make_project("two", owner=ada)
    line = public_key(comment="robot")
    first = machines.create_deploy_key(one, line)
    second = machines.create_deploy_key(two, line, can_push=True)
    assert first.key == second.key
    with pytest.raises(Taken):
        machines.create_deploy_key(one, line)
    machines.remove_deploy_key(first)
    assert machines.deploy_key_of(two, second.key_id).can_push
    machines.remove_deploy_key(second)
    assert not SshKey.objects.exists()


def test_a_persons_key_is_no_deploy_key() -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    line = public_key()
    accounts.add_ssh_key(ada, line)
    with pytest.raises(Taken):
        machines.create_deploy_key(project, line)
    assert SshKey.objects.get().user == ada


def test_a_deploy_token_is_found_in_its_own_place_only() -> None:
    ada = make_user("ada")
    one, two = make_project("one", owner=ada), make_project("two", owner=ada)
    made = machines.create_deploy_token(one, name="ci", scopes=["read_repository"])
    assert made.plaintext.startswith("gldt-")
    assert made.token.username == f"gitlab+deploy-token-{made.token.id}"
    assert machines.deploy_token_of(one, made.token.id) == made.token
    with pytest.raises(machines.NoSuchDeployToken):
        machines.deploy_token_of(two, made.token.id)


def test_a_deploy_token_has_scopes_of_machines_and_an_end() -> None:
    group = make_group("acme", owner=make_user("ada"), visibility=Visibility.PUBLIC)
    with pytest.raises(UnknownScope):
        machines.create_deploy_token(group, name="ci", scopes=["api"])
    with pytest.raises(accounts.BadExpiry):
        machines.create_deploy_token(
            group, name="ci", scopes=["read_repository"], expires_on=date(2001, 1, 1), clock=ManualClock()
        )
    assert not DeployToken.objects.exists()
