"""Pure decisions: what was seen in, `Allow` or `Deny(because)` out."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mainstay.access.actors import Actor
from mainstay.access.roles import Role


@dataclass(frozen=True, slots=True)
class Allow:
    pass


@dataclass(frozen=True, slots=True)
class Deny:
    because: str
    """Fit to be shown to the actor."""


Decision = Allow | Deny
ALLOW = Allow()


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
        return [rule for rule in rules.branches if _matches(rule.pattern, text[len("refs/heads/") :])]
    if text.startswith("refs/tags/"):
        return [rule for rule in rules.tags if _matches(rule.pattern, text[len("refs/tags/") :])]
    return []


def _matches(pattern: str, name: str) -> bool:
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
