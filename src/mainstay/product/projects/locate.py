"""Which project is it, and may they? The gate of the Git doors and of the API: plain SQL, no ORM.

One query answers for a path: the project and everything the actor is to it, by membership in it or in a
group above, by ownership, or by a deploy key or token. Groups above are found by the prefixes of the path,
so there is nothing to recurse. What the actor may not know of is `NoSuchProject`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import (
    Action,
    Deny,
    GitAction,
    ProtectedRef,
    PushRules,
    Standing,
    decide,
)
from mainstay.access.roles import Role, Visibility
from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import NotAllowed, NotFound
from mainstay.product.accounts.names import FULL_PATH_MAX, check_segment
from mainstay.storage.database import Database

__all__ = [
    "GitAction",
    "NoSuchProject",
    "NotPermitted",
    "ProjectFacts",
    "check_may_create",
    "facts_of",
    "group_standing",
    "path_of",
    "project_for",
    "push_rules",
]

_DEPTH_MAX = 20

_PROJECT = """
SELECT p.id, p.repository_id, p.full_path, p.visibility, p.archived, n.owner_id, {here}, {above}
FROM projects_project p JOIN projects_namespace n ON n.id = p.namespace_id
WHERE p.full_path_lower = ?
"""
_GROUP = """
SELECT n.id, n.visibility, n.owner_id, {above} FROM projects_namespace n WHERE n.full_path_lower = ?
"""
_MEMBER_HERE = """
(SELECT MAX(m.access_level) FROM projects_member m
 WHERE m.project_id = p.id AND m.user_id = ? AND (m.expires_at_ms IS NULL OR m.expires_at_ms > ?))
"""
_MEMBER_ABOVE = """
(SELECT MAX(m.access_level) FROM projects_namespace g JOIN projects_member m ON m.namespace_id = g.id
 WHERE g.full_path_lower IN ({paths}) AND m.user_id = ?
 AND (m.expires_at_ms IS NULL OR m.expires_at_ms > ?))
"""
_KEY_HERE = """
(SELECT CASE WHEN d.can_push THEN 30 ELSE 20 END FROM projects_deploykeyproject d
 WHERE d.project_id = p.id AND d.key_id = ?)
"""
_GRANT_HERE = """
(SELECT 30 FROM projects_deploytokengrant d WHERE d.project_id = p.id AND d.token_id = ?)
"""
_GRANT_ABOVE = """
(SELECT 30 FROM projects_namespace g JOIN projects_deploytokengrant d ON d.namespace_id = g.id
 WHERE g.full_path_lower IN ({paths}) AND d.token_id = ?)
"""
_RULES = """
SELECT 'branch', pattern, push_role, allow_force FROM projects_protectedbranch WHERE project_id = ?
UNION ALL
SELECT 'tag', pattern, push_role, NULL FROM projects_protectedtag WHERE project_id = ?
"""


class NoSuchProject(NotFound):
    """There is none, or the actor may not know of it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no project {path[:200]!r}, or you may not see it")


class NotPermitted(NotAllowed):
    """The actor may know of the project but not do this; the message is the policy's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """What a Git request needs to know of a project, and what its actor is there."""

    id: int
    repository_id: int
    full_path: str
    visibility: Visibility
    archived: bool
    role: Role
    """The most of `here` and `above`, and `OWNER` for owners of the namespace and administrators."""
    here: Role = Role.NONE
    """By membership in the project itself, or by a deploy key or token of it."""
    above: Role = Role.NONE
    """By membership in a group above it."""

    @property
    def standing(self) -> Standing:
        return Standing(role=self.role, visibility=self.visibility, archived=self.archived)


def path_of(path: str) -> str:
    """The project path in what a Git client sent: no slashes around it, no `.git` behind it."""
    return path.strip("/").removesuffix(".git")


def project_for(
    database: Database, actor: Actor, path: str, action: GitAction, *, clock: Clock = SYSTEM
) -> ProjectFacts:
    """The project at `path`, for an actor who may do `action`. Raises `NoSuchProject`, `NotPermitted`."""
    facts = facts_of(database, actor, path_of(path), clock=clock)
    if facts is None:
        raise NoSuchProject(path)
    decision = decide(Action(action.value), actor, facts.standing)
    if isinstance(decision, Deny):
        raise NoSuchProject(path) if decision.hidden else NotPermitted(decision.because)
    return facts


def push_rules(database: Database, actor: Actor, facts: ProjectFacts) -> PushRules:
    """What this actor's push to this project is judged by."""
    with database.read() as transaction:
        rows = transaction.rows(_RULES, (facts.id, facts.id))
    rules = [
        (kind, ProtectedRef(pattern, Role(push_role), allow_force=bool(allow_force)))
        for kind, pattern, push_role, allow_force in rows
    ]
    return PushRules(
        actor=actor,
        role=facts.role,
        branches=tuple(rule for kind, rule in rules if kind == "branch"),
        tags=tuple(rule for kind, rule in rules if kind == "tag"),
    )


def check_may_create(database: Database, actor: Actor, path: str, *, clock: Clock = SYSTEM) -> None:
    """Raise unless a first push of the actor may make a project at `path`.

    `NoSuchProject` for who may not create there at all: there may be a project they may not know of.
    `BadName` for a name that no project may have, `NotPermitted` for a token without the scope.
    """
    parent, _, name = path_of(path).rpartition("/")
    standing = group_standing(database, actor, parent, clock=clock)
    if standing is None or actor.kind is not Kind.USER:
        raise NoSuchProject(path)
    decision = decide(Action.CREATE_PROJECT, actor, standing)
    if isinstance(decision, Deny):
        raise NotPermitted(decision.because) if standing.role >= Role.DEVELOPER else NoSuchProject(path)
    check_segment(name, what="the project path", at_top=False)


def facts_of(
    database: Database, actor: Actor, full_path: str, *, clock: Clock = SYSTEM
) -> ProjectFacts | None:
    """The project and what the actor is to it, unchecked; None when there is none."""
    lowered = full_path.lower()
    if not _is_plausible(lowered) or "/" not in lowered:
        return None
    here, above, parameters = _role_queries(actor, _prefixes(lowered)[:-1], clock)
    with database.read() as transaction:
        row = transaction.row(_PROJECT.format(here=here, above=above), (*parameters, lowered))
    return None if row is None else _facts(actor, row)


def group_standing(
    database: Database, actor: Actor, full_path: str, *, clock: Clock = SYSTEM
) -> Standing | None:
    """What the actor is to the group or user namespace; None when there is none."""
    lowered = full_path.lower()
    if not _is_plausible(lowered):
        return None
    _, above, parameters = _role_queries(actor, _prefixes(lowered), clock, here=False)
    with database.read() as transaction:
        row = transaction.row(_GROUP.format(above=above), (*parameters, lowered))
    if row is None:
        return None
    _, visibility, owner_id, level = row
    role = _role(actor, owner_id, Role(level or 0))
    return Standing(role=role, visibility=Visibility(visibility))


def _role_queries(
    actor: Actor, above: Sequence[str], clock: Clock, *, here: bool = True
) -> tuple[str, str, tuple[Any, ...]]:
    """The SQL of the two sources of a role for this kind of actor, and its parameters in order."""
    marks = ", ".join("?" * len(above))
    now_ms = clock.now_ms()
    if actor.kind is Kind.USER:
        of_project = (actor.id, now_ms) if here else ()
        return _MEMBER_HERE, _MEMBER_ABOVE.format(paths=marks), (*of_project, *above, actor.id, now_ms)
    if actor.kind is Kind.DEPLOY_TOKEN:
        of_grant = (actor.id,) if here else ()
        return _GRANT_HERE, _GRANT_ABOVE.format(paths=marks), (*of_grant, *above, actor.id)
    if actor.kind is Kind.DEPLOY_KEY and here:
        return _KEY_HERE, "NULL", (actor.id,)
    return "NULL", "NULL", ()


def _facts(actor: Actor, row: Sequence[Any]) -> ProjectFacts:
    project_id, repository_id, full_path, visibility, archived, owner_id, here, above = row
    return ProjectFacts(
        id=project_id,
        repository_id=repository_id,
        full_path=full_path,
        visibility=Visibility(visibility),
        archived=bool(archived),
        role=_role(actor, owner_id, Role(max(here or 0, above or 0))),
        here=Role(here or 0),
        above=Role(above or 0),
    )


def _role(actor: Actor, owner_id: int | None, by_membership: Role) -> Role:
    if actor.kind is Kind.SYSTEM or actor.is_admin:
        return Role.OWNER
    if actor.kind is Kind.USER and owner_id is not None and owner_id == actor.id:
        return Role.OWNER
    return by_membership


def _is_plausible(lowered: str) -> bool:
    """Keeps nonsense away from the database: too long, too deep, or letters no path can have."""
    if not 0 < len(lowered) <= FULL_PATH_MAX or lowered.count("/") > _DEPTH_MAX:
        return False
    return lowered.isascii() and lowered.isprintable()


def _prefixes(lowered: str) -> list[str]:
    """`a/b/c` gives `a`, `a/b`, `a/b/c`."""
    segments = lowered.split("/")
    return ["/".join(segments[: count + 1]) for count in range(len(segments))]
