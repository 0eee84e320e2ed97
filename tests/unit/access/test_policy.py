"""Who may do what, as tables: role by visibility, scope by action."""

from dataclasses import replace

import pytest

from mainstay.access.actions import Action
from mainstay.access.actors import ANONYMOUS, SYSTEM, Actor, Kind
from mainstay.access.policy import (
    _RULES,
    Allow,
    Deny,
    ProtectedRef,
    PushRules,
    RefAction,
    Standing,
    decide,
    decide_on_instance,
    decide_pull,
    decide_push,
    decide_read,
    decide_ref_update,
    is_protected,
)
from mainstay.access.roles import Role, Visibility
from mainstay.access.scopes import DEPLOY_SCOPES, PERSONAL_SCOPES, Scope, UnknownScope, scopes_from

ADA = Actor(kind=Kind.USER, id=1, name="ada")
ROOT = replace(ADA, id=2, name="root", is_admin=True)
DEPLOY_KEY = Actor(kind=Kind.DEPLOY_KEY, id=3, name="robot")
DEPLOY_TOKEN = Actor(kind=Kind.DEPLOY_TOKEN, id=4, scopes=frozenset({"read_repository"}))

PRIVATE, INTERNAL, PUBLIC = Visibility.PRIVATE, Visibility.INTERNAL, Visibility.PUBLIC
NONE, GUEST, REPORTER, DEVELOPER, MAINTAINER, OWNER = Role


def answer(decision: Allow | Deny) -> str:
    """`yes`, `no`, or `hidden`."""
    if isinstance(decision, Allow):
        return "yes"
    return "hidden" if decision.hidden else "no"


# The columns are: read, pull, push.
TABLE = [
    (PRIVATE, NONE, "hidden hidden hidden"),
    (PRIVATE, GUEST, "yes no no"),
    (PRIVATE, REPORTER, "yes yes no"),
    (PRIVATE, DEVELOPER, "yes yes yes"),
    (PRIVATE, MAINTAINER, "yes yes yes"),
    (PRIVATE, OWNER, "yes yes yes"),
    (INTERNAL, NONE, "yes yes no"),
    (INTERNAL, GUEST, "yes yes no"),
    (INTERNAL, DEVELOPER, "yes yes yes"),
    (PUBLIC, NONE, "yes yes no"),
    (PUBLIC, GUEST, "yes yes no"),
    (PUBLIC, DEVELOPER, "yes yes yes"),
]


@pytest.mark.parametrize(("visibility", "role", "expected"), TABLE)
def test_a_user_may_as_the_role_and_the_visibility_say(
    visibility: Visibility, role: Role, expected: str
) -> None:
    decisions = [decide(ADA, visibility, role) for decide in (decide_read, decide_pull, decide_push)]
    assert " ".join(map(answer, decisions)) == expected


@pytest.mark.parametrize(
    ("visibility", "expected"),
    [(PRIVATE, "hidden hidden hidden"), (INTERNAL, "hidden hidden hidden"), (PUBLIC, "yes yes no")],
)
def test_the_anonymous_see_only_what_is_public(visibility: Visibility, expected: str) -> None:
    decisions = [decide(ANONYMOUS, visibility, NONE) for decide in (decide_read, decide_pull, decide_push)]
    assert " ".join(map(answer, decisions)) == expected


def test_a_role_that_somebody_claims_for_the_anonymous_counts_for_nothing() -> None:
    assert answer(decide_push(ANONYMOUS, PRIVATE, OWNER)) == "hidden"
    assert answer(decide_push(ANONYMOUS, PUBLIC, OWNER)) == "no"


@pytest.mark.parametrize("visibility", list(Visibility))
def test_administrators_may_everything_without_being_members(visibility: Visibility) -> None:
    standing = Standing(role=NONE, visibility=visibility)
    assert {action for action in _RULES if answer(decide(action, ROOT, standing)) != "yes"} == set()


NEEDED = {
    Action.CREATE_BRANCH: DEVELOPER,
    Action.DELETE_TAG: DEVELOPER,
    Action.MANAGE_MEMBERS: MAINTAINER,
    Action.MANAGE_PROTECTED: MAINTAINER,
    Action.MANAGE_DEPLOY_KEYS: MAINTAINER,
    Action.UPDATE_PROJECT: MAINTAINER,
    Action.DELETE_PROJECT: OWNER,
    Action.TRANSFER_PROJECT: OWNER,
    Action.CHANGE_VISIBILITY: OWNER,
    Action.CREATE_PROJECT: DEVELOPER,
    Action.CREATE_SUBGROUP: MAINTAINER,
    Action.MANAGE_GROUP_MEMBERS: OWNER,
    Action.DELETE_GROUP: OWNER,
}


@pytest.mark.parametrize(("action", "needed"), NEEDED.items())
def test_administration_needs_its_role_even_where_everybody_may_read(action: Action, needed: Role) -> None:
    allowed = {r for r in Role if answer(decide(action, ADA, Standing(role=r, visibility=PUBLIC))) == "yes"}
    assert allowed == {role for role in Role if role >= needed}


def test_an_archived_project_is_read_but_not_written() -> None:
    archived = Standing(role=OWNER, visibility=PRIVATE, archived=True)
    assert decide(Action.PULL, ADA, archived) == Allow()
    assert decide(Action.PUSH, ADA, archived) == Deny("the project is archived and so read-only")
    assert answer(decide(Action.CREATE_BRANCH, ROOT, archived)) == "no"
    assert answer(decide(Action.ARCHIVE_PROJECT, ADA, archived)) == "yes"  # else nobody could bring it back
    assert answer(decide(Action.DELETE_PROJECT, ADA, archived)) == "yes"


# The columns are: read by API, read code by API, pull, push, write by API.
SCOPES = [
    ("api", "yes yes yes yes yes"),
    ("read_api", "yes yes yes no no"),
    ("read_repository", "no yes yes no no"),
    ("write_repository", "no no yes yes no"),
    ("read_user", "no no no no no"),
    ("sudo", "no no no no no"),
    ("create_runner", "no no no no no"),
    ("read_registry", "no no no no no"),
    ("read_user read_repository", "no yes yes no no"),
]


@pytest.mark.parametrize(("scopes", "expected"), SCOPES)
def test_a_token_narrows_what_its_owner_may(scopes: str, expected: str) -> None:
    actor = replace(ADA, scopes=frozenset(scopes.split()))
    standing = Standing(role=OWNER, visibility=PRIVATE)
    actions = (Action.READ_PROJECT, Action.READ_CODE, Action.PULL, Action.PUSH, Action.UPDATE_PROJECT)
    assert " ".join(answer(decide(action, actor, standing)) for action in actions) == expected


def test_a_token_never_widens() -> None:
    stranger = replace(ADA, scopes=frozenset(PERSONAL_SCOPES))
    assert answer(decide_read(stranger, PRIVATE, NONE)) == "hidden"
    assert answer(decide_push(stranger, PRIVATE, REPORTER)) == "no"


def test_the_refusal_of_a_token_names_the_scopes_that_would_do() -> None:
    actor = replace(ADA, scopes=frozenset({"read_repository"}))
    assert decide_push(actor, PRIVATE, OWNER) == Deny(
        "the token lacks a scope for this; it needs one of: api, write_repository"
    )


def test_machines_fetch_and_push_and_nothing_else() -> None:
    standing = Standing(role=DEVELOPER, visibility=PRIVATE)
    allowed = {action for action in _RULES if answer(decide(action, DEPLOY_KEY, standing)) == "yes"}
    assert allowed == {Action.PULL, Action.PUSH}
    assert answer(decide(Action.READ_PROJECT, DEPLOY_TOKEN, standing)) == "no"


@pytest.mark.parametrize(
    ("role", "visibility", "expected"),
    [
        (REPORTER, PRIVATE, "yes no"),
        (DEVELOPER, PRIVATE, "yes yes"),
        (NONE, PRIVATE, "hidden hidden"),
        (NONE, INTERNAL, "hidden hidden"),
        (NONE, PUBLIC, "yes no"),
    ],
)
def test_a_deploy_key_is_worth_something_in_its_projects_only(
    role: Role, visibility: Visibility, expected: str
) -> None:
    decisions = (decide_pull(DEPLOY_KEY, visibility, role), decide_push(DEPLOY_KEY, visibility, role))
    assert " ".join(map(answer, decisions)) == expected


def test_a_deploy_token_needs_the_scope_too() -> None:
    writer = replace(DEPLOY_TOKEN, scopes=frozenset({"write_repository"}))
    assert answer(decide_push(DEPLOY_TOKEN, PRIVATE, DEVELOPER)) == "no"
    assert answer(decide_push(writer, PRIVATE, DEVELOPER)) == "yes"


def test_only_people_fork() -> None:
    public = Standing(role=NONE, visibility=PUBLIC)
    assert answer(decide(Action.FORK_PROJECT, ADA, public)) == "yes"
    assert answer(decide(Action.FORK_PROJECT, ANONYMOUS, public)) == "no"


@pytest.mark.parametrize(
    ("action", "actor", "expected"),
    [
        (Action.READ_SELF, ANONYMOUS, "no"),
        (Action.READ_SELF, ADA, "yes"),
        (Action.READ_SELF, replace(ADA, scopes=frozenset({"read_user"})), "yes"),
        (Action.UPDATE_SELF, replace(ADA, scopes=frozenset({"read_api"})), "no"),
        (Action.ADMIN, ADA, "no"),
        (Action.ADMIN, ROOT, "yes"),
        (Action.ADMIN, replace(ROOT, scopes=frozenset({"read_api"})), "no"),
        (Action.ADMIN, SYSTEM, "yes"),
        (Action.IMPERSONATE, replace(ROOT, scopes=frozenset({"api"})), "no"),
        (Action.IMPERSONATE, replace(ROOT, scopes=frozenset({"api", "sudo"})), "yes"),
        (Action.IMPERSONATE, replace(ADA, scopes=frozenset({"api", "sudo"})), "no"),
        (Action.CREATE_GROUP, DEPLOY_KEY, "no"),
    ],
)
def test_what_one_may_do_to_the_instance(action: Action, actor: Actor, expected: str) -> None:
    assert answer(decide_on_instance(action, actor)) == expected


# Refs

RULES = PushRules(
    actor=ADA,
    role=DEVELOPER,
    branches=(
        ProtectedRef("main", MAINTAINER),
        ProtectedRef("release/*", DEVELOPER, allow_force=True),
        ProtectedRef("frozen", NONE),
    ),
    tags=(ProtectedRef("v*", MAINTAINER),),
)
REFS = [
    (b"refs/heads/topic", RefAction.FORCE, DEVELOPER, "yes"),
    (b"refs/heads/topic", RefAction.DELETE, DEVELOPER, "yes"),
    (b"refs/heads/topic", RefAction.CREATE, REPORTER, "no"),
    (b"refs/heads/main", RefAction.UPDATE, DEVELOPER, "no"),
    (b"refs/heads/main", RefAction.UPDATE, MAINTAINER, "yes"),
    (b"refs/heads/main", RefAction.FORCE, OWNER, "no"),
    (b"refs/heads/main", RefAction.DELETE, OWNER, "no"),
    (b"refs/heads/release/1", RefAction.FORCE, DEVELOPER, "yes"),
    (b"refs/heads/frozen", RefAction.UPDATE, OWNER, "no"),
    (b"refs/tags/v1", RefAction.CREATE, DEVELOPER, "no"),
    (b"refs/tags/v1", RefAction.CREATE, MAINTAINER, "yes"),
    (b"refs/tags/other", RefAction.DELETE, DEVELOPER, "yes"),
    (b"refs/heads/v1", RefAction.CREATE, DEVELOPER, "yes"),  # a rule for tags says nothing of branches
    (b"refs/notes/commits", RefAction.UPDATE, DEVELOPER, "yes"),
    (b"refs/merge-requests/1/head", RefAction.UPDATE, OWNER, "no"),
    (b"refs/keep-around/1", RefAction.DELETE, OWNER, "no"),
    (b"HEAD", RefAction.UPDATE, OWNER, "no"),
]


@pytest.mark.parametrize(("name", "action", "role", "expected"), REFS)
def test_each_ref_of_a_push_is_judged(name: bytes, action: RefAction, role: Role, expected: str) -> None:
    assert answer(decide_ref_update(name, action, replace(RULES, role=role))) == expected


def test_a_star_is_the_only_letter_with_a_meaning() -> None:
    rules = replace(RULES, branches=(ProtectedRef("a?[bc]*", MAINTAINER),))
    assert is_protected(b"refs/heads/a?[bc]/x", rules)
    assert not is_protected(b"refs/heads/axb/x", rules)


# Scopes


def test_scopes_are_known_words() -> None:
    assert scopes_from(["api", " read_user "], allowed=PERSONAL_SCOPES) == {Scope.API, Scope.READ_USER}
    for words in (["apii"], [], [" "], ["API"]):
        with pytest.raises(UnknownScope):
            scopes_from(words, allowed=PERSONAL_SCOPES)


def test_a_deploy_token_cannot_have_the_scopes_of_a_person() -> None:
    with pytest.raises(UnknownScope, match="'api'"):
        scopes_from(["api"], allowed=DEPLOY_SCOPES)
