"""Creating, changing, blocking and deleting people; their tokens and keys."""

from datetime import date
from unittest import mock

import pytest

from mainstay.access.scopes import UnknownScope
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.product.accounts import services
from mainstay.product.accounts.models import PersonalAccessToken, SshKey, User
from mainstay.product.accounts.names import BadName
from mainstay.product.accounts.passwords import WeakPassword
from mainstay.product.accounts.secrets import digest_of
from mainstay.product.accounts.services import BadEmail, BadExpiry
from mainstay.product.accounts.writing import StillInUse, Taken
from mainstay.product.projects.models import Namespace
from support.product import PASSWORD, QUICK, make_project, make_user, public_key


def test_a_new_user_has_a_namespace_of_the_same_name() -> None:
    user = make_user("Ada")
    assert (user.namespace.full_path, user.namespace.kind) == ("Ada", "user")


@pytest.mark.parametrize("again", ["ada", "ADA", "Ada"])
def test_a_user_name_is_taken_whatever_its_case(again: str) -> None:
    make_user("ada")
    with pytest.raises(Taken):
        services.create_user(username=again)
    assert User.objects.count() == 1


def test_an_address_is_taken_whatever_its_case_and_nobody_needs_one() -> None:
    make_user("ada")
    with pytest.raises(Taken):
        services.create_user(username="eve", email="ADA@example.org")
    services.create_user(username="bob")
    services.create_user(username="cyd")
    assert User.objects.filter(email="").count() == 2


def test_a_refused_user_leaves_nothing() -> None:
    for username, email, password, error in [
        ("admin", "", None, BadName),
        ("ada", "not an address", None, BadEmail),
        ("ada", "a@b\nBcc: c@d", None, BadEmail),
        ("ada", "", "short", WeakPassword),
    ]:
        with pytest.raises(error):
            services.create_user(username=username, email=email, password=password)
    assert (User.objects.count(), Namespace.objects.count()) == (0, 0)


def test_a_user_name_that_is_a_groups_path_is_taken() -> None:
    from support.product import make_group

    ada = make_user("ada")
    make_group("acme", owner=ada)
    with pytest.raises(Taken):
        make_user("Acme")
    assert User.objects.count() == 1


def test_the_namespace_follows_a_new_name() -> None:
    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    services.update_user(ada, username="lovelace")
    project.refresh_from_db()
    assert project.full_path == "lovelace/engine"
    services.create_user(username="ada")  # the old name is free


def test_a_name_that_is_taken_changes_nothing() -> None:
    ada, _ = make_user("ada"), make_user("bob")
    with pytest.raises(Taken):
        services.update_user(ada, username="bob")
    ada.refresh_from_db()
    assert (ada.username, ada.namespace.full_path) == ("ada", "ada")


def test_who_owns_projects_is_not_deleted() -> None:
    ada = make_user("ada")
    make_project("engine", owner=ada)
    with pytest.raises(StillInUse, match="ada/engine"):
        services.delete_user(ada)
    bob = make_user("bob")
    services.delete_user(bob)
    assert list(User.objects.values_list("username", flat=True)) == ["ada"]
    assert not Namespace.objects.filter(full_path="bob").exists()


def test_a_password_is_kept_as_a_hash_only() -> None:
    ada = make_user("ada", password=PASSWORD)
    before = ada.password_hash
    services.set_password(ada, "battery staple", settings=QUICK)
    ada.refresh_from_db()
    assert before != ada.password_hash
    assert "staple" not in ada.password_hash


# Tokens


def test_a_token_is_shown_once_and_kept_as_a_digest() -> None:
    made = services.create_token(make_user(), name="laptop", scopes=["read_api", "api"])
    assert made.plaintext.startswith("glpat-")
    assert len(made.plaintext) == len("glpat-") + 20
    row = PersonalAccessToken.objects.get()
    assert (row.digest, row.scopes) == (digest_of(made.plaintext), "api read_api")
    assert made.plaintext not in repr(vars(row))


def test_tokens_differ() -> None:
    user = make_user()
    made = {services.create_token(user, name="t", scopes=["api"]).plaintext for _ in range(20)}
    assert len(made) == 20


def test_only_administrators_give_sudo() -> None:
    with pytest.raises(UnknownScope):
        services.create_token(make_user("ada"), name="t", scopes=["api", "sudo"])
    root = make_user("root", is_admin=True)
    assert services.create_token(root, name="t", scopes=["api", "sudo"]).token.scopes == "api sudo"


def test_a_token_ends_at_the_beginning_of_its_day() -> None:
    clock = ManualClock(now_ms=1_700_000_000_000)  # 2023-11-14, 22:13
    made = services.create_token(
        make_user(), name="t", scopes=["api"], expires_on=date(2023, 11, 15), clock=clock
    )
    assert made.token.expires_at_ms == 1_700_006_400_000
    with pytest.raises(BadExpiry):
        services.create_token(
            made.token.user, name="t", scopes=["api"], expires_on=date(2023, 11, 14), clock=clock
        )


def test_rotating_revokes_the_old_and_keeps_what_it_was_for() -> None:
    clock = ManualClock()
    old = services.create_token(make_user(), name="ci", scopes=["api"], clock=clock)
    new = services.rotate_token(old.token, expires_on=date(2030, 1, 1), clock=clock)
    old.token.refresh_from_db()
    assert old.token.revoked_at_ms == clock.now_ms()
    assert (new.token.name, new.token.scopes, new.token.revoked_at_ms) == ("ci", "api", None)


def test_a_rotation_that_fails_revokes_nothing() -> None:
    old = services.create_token(make_user(), name="ci", scopes=["api"])
    with pytest.raises(BadExpiry):
        services.rotate_token(old.token, expires_on=date(2001, 1, 1))
    assert PersonalAccessToken.objects.get().revoked_at_ms is None


def test_revoking_again_keeps_the_first_moment() -> None:
    clock = ManualClock()
    token = services.create_token(make_user(), name="t", scopes=["api"], clock=clock).token
    services.revoke_token(token, clock=clock)
    first = token.revoked_at_ms
    clock.advance(60)
    services.revoke_token(token, clock=clock)
    assert PersonalAccessToken.objects.get().revoked_at_ms == first


# Keys


def test_a_key_belongs_to_one_owner() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    key = public_key(comment="laptop")
    assert services.add_ssh_key(ada, key).title == "laptop"
    for other in (ada, bob):
        with pytest.raises(Taken):
            services.add_ssh_key(other, key.removesuffix("laptop") + "another comment")
    with pytest.raises(Taken):
        services.add_deploy_key(key)
    assert SshKey.objects.count() == 1


def test_the_database_itself_refuses_a_second_owner() -> None:
    ada = make_user("ada")
    key = public_key()
    services.add_ssh_key(ada, key)
    with mock.patch("mainstay.product.accounts.services.SshKey.objects.filter") as blind:
        blind.return_value.exists.return_value = False  # somebody else was a moment later
        with pytest.raises(Taken):
            services.add_ssh_key(ada, key)
    assert SshKey.objects.count() == 1


def test_a_removed_key_can_be_added_again() -> None:
    ada, bob = make_user("ada"), make_user("bob")
    key = public_key()
    services.remove_ssh_key(services.add_ssh_key(ada, key))
    assert services.add_ssh_key(bob, key).user == bob


def test_a_lost_database_is_unavailable_and_not_a_bug() -> None:
    from django.db import OperationalError

    user = make_user()
    with (
        mock.patch.object(user, "save", side_effect=OperationalError("disk I/O error")),
        pytest.raises(Unavailable),
    ):
        services.block(user)
