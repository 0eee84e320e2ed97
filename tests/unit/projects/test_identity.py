"""A rebuilt repository gets its project back."""

import copy
import json

import pytest

from mainstay.access.roles import Visibility
from mainstay.product.accounts.models import User
from mainstay.product.projects.identity import (
    AlreadyThere,
    UnreadableIdentity,
    identity_of,
    restore_identity,
)
from mainstay.product.projects.models import Namespace, PathClaim, Project
from support.product import acting, make_group, make_project, make_user, on_memory


def identities():
    """Of a user's project and of one deep in groups, as they come back from JSON."""
    make_user("root", is_admin=True)
    ada = make_user("ada")
    acme = make_group("Acme", owner=ada, visibility=Visibility.PUBLIC)
    make_project("gone", owner=ada)
    made = [
        make_project("engine", owner=ada, visibility=Visibility.PUBLIC, description="runs"),
        make_project(
            "deep", namespace=make_group("sub", owner=ada, parent=acme), settings={"topics": '["a"]'}
        ),
    ]
    return json.loads(json.dumps([identity_of(project) for project in made]))


def test_projects_come_back_with_their_ids_places_and_owners() -> None:
    saved = identities()
    with on_memory():
        restored = [restore_identity(identity, 70 + number) for number, identity in enumerate(saved)]
        assert [identity_of(project) for project in Project.objects.order_by("id")] == saved
        assert [project.repository_id for project in restored] == [70, 71]
        ada = User.objects.get(username="ada")
        assert (ada.id, ada.password_hash, ada.namespace.full_path) == (2, "", "ada")
        claims = set(PathClaim.objects.values_list("full_path_lower", flat=True))
        assert claims == {"ada", "acme", "acme/sub", "ada/engine", "acme/sub/deep"}


def test_the_placement_label_comes_back_and_may_be_missing() -> None:
    saved = identities()
    assert "placement" not in saved[0], "as older versions wrote it"
    saved[0]["placement"] = "fast"
    with on_memory():
        fast, anywhere = (restore_identity(identity, 70 + number) for number, identity in enumerate(saved))
        assert identity_of(fast) == saved[0]
        assert identity_of(anywhere) == saved[1]


def test_new_things_get_new_ids_afterwards() -> None:
    saved = identities()
    with on_memory():
        restore_identity(saved[0], 70)
        bob = make_user("bob")
        assert bob.id > 2
        assert make_project("newer", owner=bob).id > saved[0]["project"]["id"]


def test_what_is_there_already_is_taken_as_it_is() -> None:
    saved = identities()
    with on_memory():
        make_user("root", is_admin=True, password="correct horse")
        ada = make_user("ada", password="correct horse")
        project = restore_identity(saved[0], 70)
        assert project.namespace == ada.namespace
        assert User.objects.count() == 2


def test_an_id_in_use_is_a_conflict_and_nothing_is_left_of_the_try() -> None:
    saved = identities()
    with on_memory():
        make_user("root", is_admin=True)
        eve = make_user("eve")  # has the id that ada had
        for identity in saved[:1]:
            with pytest.raises(AlreadyThere):
                restore_identity(identity, 70)
        assert Namespace.objects.count() == 2
        assert make_project("engine", owner=eve).full_path == "eve/engine"


def test_restoring_twice_is_a_conflict() -> None:
    saved = identities()
    with on_memory():
        restore_identity(saved[0], 70)
        with pytest.raises(AlreadyThere):
            restore_identity(saved[0], 71)
        assert Project.objects.get().repository_id == 70


def test_another_format_is_refused() -> None:
    identity = copy.deepcopy(identities()[0])
    identity["format"] = 99
    with pytest.raises(UnreadableIdentity):
        restore_identity(identity, 70)


def test_the_identity_follows_a_new_user_name() -> None:
    from mainstay.product.accounts.services import update_user
    from mainstay.product.projects.places import ledger

    ada = make_user("ada")
    project = make_project("engine", owner=ada)
    update_user(ada, username="lovelace")
    identity = ledger().repository(project.repository_id).identity
    assert identity["full_path"] == "lovelace/engine"
    assert identity["namespaces"][0]["owner"]["username"] == "lovelace"
    assert acting(ada).name == "lovelace"
