"""Pure decisions: what was seen in, `Allow` or `Deny(because)` out.

Each right has one rule in one table: the least role, the scopes that a token needs for it, and whether an
archived project still grants it. What somebody may not even know of is denied with `hidden`, and doors
answer that as not found.

Two decisions follow one another on a push: `decide` on the project, then `decide_ref_update` per ref.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mainstay.access.actions import Action, GitAction
from mainstay.access.actors import Actor, Kind
from mainstay.access.roles import Role, Visibility
from mainstay.access.scopes import (
    PULL_SCOPES,
    PUSH_SCOPES,
    READ_API_SCOPES,
    READ_CODE_SCOPES,
    READ_USER_SCOPES,
    WRITE_API_SCOPES,
    Scope,
    holds,
)

__all__ = [
    "ALLOW",
    "HIDDEN_PREFIXES",
    "Action",
    "Allow",
    "Decision",
    "Deny",
    "GitAction",
    "ProtectedRef",
    "PushRules",
    "RefAction",
    "Standing",
    "decide",
    "decide_on_instance",
    "decide_pull",
    "decide_push",
    "decide_read",
    "decide_ref_update",
    "is_protected",
    "may_see",
]


@dataclass(frozen=True, slots=True)
class Allow:
    pass


@dataclass(frozen=True, slots=True)
class Deny:
    because: str
    """Fit to be shown to the actor, unless `hidden`."""
    hidden: bool = False
    """The actor may not know that the thing exists: doors answer "not found"."""


Decision = Allow | Deny
ALLOW = Allow()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an actor is to one project or group."""

    role: Role
    """The most that membership here or above, ownership or a deploy key or token here gives."""
    visibility: Visibility
    archived: bool = False


@dataclass(frozen=True, slots=True)
class _Rule:
    needs: Role
    """The least role."""
    scopes: frozenset[Scope]
    writes: bool = False
    """Refused while the project is archived."""
    open_to_readers: bool = False
    """Whoever may see the project by its visibility alone may do this, whatever the role."""
    by_machines: bool = False
    """Deploy keys and deploy tokens may do this."""
    signed_in: bool = False
    """Never for the anonymous, though readers may."""


_RULES: Mapping[Action, _Rule] = {
    Action.READ_PROJECT: _Rule(Role.GUEST, READ_API_SCOPES, open_to_readers=True),
    Action.READ_CODE: _Rule(Role.REPORTER, READ_CODE_SCOPES, open_to_readers=True),
    Action.READ_MEMBERS: _Rule(Role.GUEST, READ_API_SCOPES, open_to_readers=True),
    Action.PULL: _Rule(Role.REPORTER, PULL_SCOPES, open_to_readers=True, by_machines=True),
    Action.PUSH: _Rule(Role.DEVELOPER, PUSH_SCOPES, writes=True, by_machines=True),
    Action.CREATE_BRANCH: _Rule(Role.DEVELOPER, WRITE_API_SCOPES, writes=True),
    Action.DELETE_BRANCH: _Rule(Role.DEVELOPER, WRITE_API_SCOPES, writes=True),
    Action.CREATE_TAG: _Rule(Role.DEVELOPER, WRITE_API_SCOPES, writes=True),
    Action.DELETE_TAG: _Rule(Role.DEVELOPER, WRITE_API_SCOPES, writes=True),
    Action.FORK_PROJECT: _Rule(Role.REPORTER, WRITE_API_SCOPES, open_to_readers=True, signed_in=True),
    Action.MANAGE_MEMBERS: _Rule(Role.MAINTAINER, WRITE_API_SCOPES),
    Action.MANAGE_PROTECTED: _Rule(Role.MAINTAINER, WRITE_API_SCOPES, writes=True),
    Action.MANAGE_DEPLOY_KEYS: _Rule(Role.MAINTAINER, WRITE_API_SCOPES, writes=True),
    Action.MANAGE_DEPLOY_TOKENS: _Rule(Role.MAINTAINER, WRITE_API_SCOPES, writes=True),
    Action.UPDATE_PROJECT: _Rule(Role.MAINTAINER, WRITE_API_SCOPES),
    Action.CHANGE_VISIBILITY: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.ARCHIVE_PROJECT: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.TRANSFER_PROJECT: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.DELETE_PROJECT: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.READ_GROUP: _Rule(Role.GUEST, READ_API_SCOPES, open_to_readers=True),
    Action.READ_GROUP_MEMBERS: _Rule(Role.GUEST, READ_API_SCOPES, open_to_readers=True),
    Action.CREATE_PROJECT: _Rule(Role.DEVELOPER, PUSH_SCOPES),
    Action.CREATE_SUBGROUP: _Rule(Role.MAINTAINER, WRITE_API_SCOPES),
    Action.MANAGE_GROUP_MEMBERS: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.MANAGE_GROUP_DEPLOY_TOKENS: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.UPDATE_GROUP: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.TRANSFER_GROUP: _Rule(Role.OWNER, WRITE_API_SCOPES),
    Action.DELETE_GROUP: _Rule(Role.OWNER, WRITE_API_SCOPES),
}
"""`CREATE_PROJECT` takes `write_repository` too, because a first push creates the project; the API asks for
`api` before it looks at anything else."""

_INSTANCE_SCOPES: Mapping[Action, frozenset[Scope]] = {
    Action.READ_SELF: READ_USER_SCOPES,
    Action.READ_USERS: READ_USER_SCOPES,
    Action.UPDATE_SELF: WRITE_API_SCOPES,
    Action.CREATE_GROUP: WRITE_API_SCOPES,
    Action.IMPERSONATE: frozenset({Scope.SUDO}),
    Action.ADMIN: WRITE_API_SCOPES,
}
_FOR_ADMINS = frozenset({Action.IMPERSONATE, Action.ADMIN})
_MACHINES = frozenset({Kind.DEPLOY_KEY, Kind.DEPLOY_TOKEN})


def may_see(actor: Actor, standing: Standing) -> bool:
    """May this actor know that the project or group exists?"""
    return _reads_by_visibility(actor, standing.visibility) or _role_of(actor, standing) >= Role.GUEST


def decide(action: Action, actor: Actor, standing: Standing) -> Decision:
    """May this actor do this to the project or group in which it has this standing?"""
    rule = _RULES[action]
    if not may_see(actor, standing):
        return Deny("no such project or group", hidden=True)
    if not holds(actor.scopes, rule.scopes):
        return Deny(f"the token lacks a scope for this; it needs one of: {', '.join(sorted(rule.scopes))}")
    if actor.kind in _MACHINES and not rule.by_machines:
        return Deny("deploy keys and deploy tokens only fetch and push")
    if actor.kind is Kind.ANONYMOUS and rule.signed_in:
        return Deny("sign in first")
    return _decide_by_role(action, rule, actor, standing)


def decide_on_instance(action: Action, actor: Actor) -> Decision:
    """May this actor do this to the instance, or to its own account?"""
    if actor.kind is Kind.SYSTEM:
        return ALLOW
    if actor.kind is not Kind.USER:
        return Deny("sign in first")
    if not holds(actor.scopes, _INSTANCE_SCOPES[action]):
        needed = ", ".join(sorted(_INSTANCE_SCOPES[action]))
        return Deny(f"the token lacks a scope for this; it needs one of: {needed}")
    if action in _FOR_ADMINS and not actor.is_admin:
        return Deny("only an administrator may do this")
    return ALLOW


def decide_read(actor: Actor, visibility: Visibility, role: Role) -> Decision:
    """May this actor look at the project?"""
    return decide(Action.READ_PROJECT, actor, Standing(role=role, visibility=visibility))


def decide_pull(actor: Actor, visibility: Visibility, role: Role) -> Decision:
    """May this actor fetch the code?"""
    return decide(Action.PULL, actor, Standing(role=role, visibility=visibility))


def decide_push(actor: Actor, visibility: Visibility, role: Role, *, archived: bool = False) -> Decision:
    """May this actor push at all? Which refs is the question of `decide_ref_update`."""
    return decide(Action.PUSH, actor, Standing(role=role, visibility=visibility, archived=archived))


def _decide_by_role(action: Action, rule: _Rule, actor: Actor, standing: Standing) -> Decision:
    if rule.writes and standing.archived:
        return Deny("the project is archived and so read-only")
    if rule.open_to_readers and _reads_by_visibility(actor, standing.visibility):
        return ALLOW
    if _role_of(actor, standing) < rule.needs:
        return Deny(_REFUSALS.get(action, f"you need the role {rule.needs.name.lower()} or more for this"))
    return ALLOW


_REFUSALS: Mapping[Action, str] = {
    Action.PULL: "you are not allowed to download code from this project",
    Action.PUSH: "you are not allowed to push code to this project",
}


def _role_of(actor: Actor, standing: Standing) -> Role:
    if actor.kind is Kind.ANONYMOUS:
        return Role.NONE
    return Role.OWNER if actor.is_admin or actor.kind is Kind.SYSTEM else standing.role


def _reads_by_visibility(actor: Actor, visibility: Visibility) -> bool:
    if visibility is Visibility.PUBLIC:
        return True
    return visibility is Visibility.INTERNAL and actor.kind in {Kind.USER, Kind.SYSTEM}


class RefAction(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    FORCE = "force-update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ProtectedRef:
    """A rule for refs: `pattern` is a branch or tag name, `*` matches any run of characters."""

    pattern: str
    push_role: Role
    """The least role that may push; `Role.NONE` means nobody."""
    allow_force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRules:
    """What a push by one actor to one project is judged by. Made by `product.projects`, applied by
    `repository`.
    """

    actor: Actor
    role: Role
    branches: Sequence[ProtectedRef] = ()
    tags: Sequence[ProtectedRef] = ()


HIDDEN_PREFIXES = (
    b"refs/merge-requests/",
    b"refs/keep-around/",
    b"refs/pipelines/",
    b"refs/diverged/",
    b"refs/environments/",
    b"refs/mainstay/",
)
"""Refs that the server keeps for itself: never advertised, never pushed to."""


def is_protected(name: bytes, rules: PushRules) -> bool:
    """Whether any rule speaks of this ref, so that a force push must be told from a fast-forward."""
    return bool(_rules_for(name, rules))


def decide_ref_update(name: bytes, action: RefAction, rules: PushRules) -> Decision:
    """May this actor do this to this ref? Judged per ref, never remembered from one ref to the next."""
    if not name.startswith(b"refs/"):
        return Deny("refs live under refs/")
    if name.startswith(HIDDEN_PREFIXES):
        return Deny("deny updating a hidden ref")
    if rules.role < Role.DEVELOPER:
        return Deny("you are not allowed to push code to this project")
    matching = _rules_for(name, rules)
    if not matching:
        return ALLOW
    return _decide_protected(name, action, rules.role, matching)


def _rules_for(name: bytes, rules: PushRules) -> list[ProtectedRef]:
    text = name.decode("utf-8", "surrogateescape")
    if text.startswith("refs/heads/"):
        return [rule for rule in rules.branches if matches(rule.pattern, text[len("refs/heads/") :])]
    if text.startswith("refs/tags/"):
        return [rule for rule in rules.tags if matches(rule.pattern, text[len("refs/tags/") :])]
    return []


def matches(pattern: str, name: str) -> bool:
    """Only `*` is special, as in GitLab; fnmatch's other letters are quoted."""
    quoted = pattern.replace("[", "[[]").replace("?", "[?]")
    return fnmatch.fnmatchcase(name, quoted)


def _decide_protected(
    name: bytes, action: RefAction, role: Role, matching: Sequence[ProtectedRef]
) -> Decision:
    kind = "branch" if name.startswith(b"refs/heads/") else "tag"
    if action is RefAction.DELETE:
        return Deny(
            f"protected {kind}es cannot be deleted by a push"
            if kind == "branch"
            else "protected tags cannot be deleted by a push"
        )
    if not any(rule.push_role != Role.NONE and role >= rule.push_role for rule in matching):
        return Deny(f"you are not allowed to push to this protected {kind}")
    if action is RefAction.FORCE and not all(rule.allow_force for rule in matching):
        return Deny(f"you are not allowed to force push to this protected {kind}")
    return ALLOW
