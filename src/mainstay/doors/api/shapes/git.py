"""Commits, branches, tags and what protects them."""

from collections.abc import Sequence
from typing import Any

from mainstay.access.roles import Role
from mainstay.doors.api.shapes.times import commit_moment
from mainstay.git.objectnames import Oid
from mainstay.product.projects.lookup import ProtectedBranch, ProtectedTag
from mainstay.repository.browse import Commit, Tag

_SHORT_DIGITS = 8


def ref_text(name: bytes, prefix: bytes) -> str:
    """The short name. JSON is UTF-8, so other bytes are shown as replacement characters."""
    return name.removeprefix(prefix).decode("utf-8", "replace")


def commit(each: Commit, project_url: str) -> dict[str, Any]:
    title, _, _ = each.message.partition("\n")
    return {
        "id": each.oid,
        "short_id": each.oid[:_SHORT_DIGITS],
        "created_at": commit_moment(each.committer),
        "parent_ids": list(each.parents),
        "title": title,
        "message": each.message,
        "author_name": each.author.name,
        "author_email": each.author.email,
        "authored_date": commit_moment(each.author),
        "committer_name": each.committer.name,
        "committer_email": each.committer.email,
        "committed_date": commit_moment(each.committer),
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{project_url}/-/commit/{each.oid}",
    }


def commit_detail(shape: dict[str, Any], project_id: int) -> dict[str, Any]:
    return {**shape, "stats": None, "status": None, "project_id": project_id, "last_pipeline": None}


def branch(
    name: str,
    each: Commit | None,
    *,
    is_default: bool,
    is_merged: bool,
    can_push: bool,
    rules: Sequence[ProtectedBranch],
    project_url: str,
) -> dict[str, Any]:
    """A branch; `rules` are those that match it."""
    return {
        "name": name,
        "commit": None if each is None else commit(each, project_url),
        "merged": is_merged,
        "protected": bool(rules),
        "developers_can_push": any(_developers(rule.push_role) for rule in rules),
        "developers_can_merge": any(_developers(rule.merge_role) for rule in rules),
        "can_push": can_push,
        "default": is_default,
        "web_url": f"{project_url}/-/tree/{name}",
    }


def tag(
    name: str,
    target: Oid,
    each: Commit | None,
    annotation: Tag | None,
    *,
    is_protected: bool,
    project_url: str,
) -> dict[str, Any]:
    created_at = None
    if annotation is not None and annotation.tagger is not None:
        created_at = commit_moment(annotation.tagger)
    return {
        "name": name,
        "message": "" if annotation is None else annotation.message.rstrip("\n"),
        "target": target,
        "commit": None if each is None else commit(each, project_url),
        "release": None,
        "protected": is_protected,
        "created_at": created_at,
    }


def protected_branch(rule: ProtectedBranch) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.pattern,
        "push_access_levels": [_access_level(rule.id, rule.push_role)],
        "merge_access_levels": [_access_level(rule.id, rule.merge_role)],
        "unprotect_access_levels": [],
        "allow_force_push": rule.allow_force,
        "code_owner_approval_required": False,
        "inherited": False,
    }


def protected_tag(rule: ProtectedTag) -> dict[str, Any]:
    return {"name": rule.pattern, "create_access_levels": [_access_level(rule.id, rule.push_role)]}


def _access_level(rule_id: int, role: int) -> dict[str, Any]:
    return {
        "id": rule_id,
        "access_level": int(role),
        "access_level_description": _DESCRIPTIONS.get(Role(role), Role(role).name.title()),
        "deploy_key_id": None,
        "user_id": None,
        "group_id": None,
    }


_DESCRIPTIONS = {
    Role.NONE: "No one",
    Role.DEVELOPER: "Developers + Maintainers",
    Role.MAINTAINER: "Maintainers",
}


def _developers(role: int) -> bool:
    return Role.NONE < role <= Role.DEVELOPER
