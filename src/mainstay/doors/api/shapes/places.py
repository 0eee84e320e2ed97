"""Namespaces, groups and members."""

from typing import Any

from mainstay.access.roles import Visibility
from mainstay.doors.api.kit import Addresses
from mainstay.doors.api.shapes.people import user_brief
from mainstay.doors.api.shapes.times import date, moment
from mainstay.product.projects.lookup import Member, Namespace


def visibility(level: int) -> str:
    return Visibility(level).name.lower()


def web_path(namespace: Namespace) -> str:
    """Groups have pages of their own under `groups/`; a user's page is their name."""
    return namespace.full_path if namespace.kind == "user" else f"groups/{namespace.full_path}"


def namespace_brief(namespace: Namespace, addresses: Addresses) -> dict[str, Any]:
    """The namespace inside a project."""
    return {
        "id": namespace.id,
        "name": namespace.name,
        "path": namespace.path,
        "kind": namespace.kind,
        "full_path": namespace.full_path,
        "parent_id": namespace.parent_id,
        "avatar_url": None,
        "web_url": addresses.web(web_path(namespace)),
    }


def namespace_full(namespace: Namespace, addresses: Addresses, *, members: int = 1) -> dict[str, Any]:
    return {
        **namespace_brief(namespace, addresses),
        "members_count_with_descendants": members,
        "root_repository_size": None,
        "projects_count": None,
        "billable_members_count": members,
        "plan": "default",
        "trial": False,
        "trial_ends_on": None,
        "end_date": None,
    }


def group(namespace: Namespace, addresses: Addresses, *, full_name: str) -> dict[str, Any]:
    return {
        "id": namespace.id,
        "web_url": addresses.web(web_path(namespace)),
        "name": namespace.name,
        "path": namespace.path,
        "description": namespace.description,
        "visibility": visibility(namespace.visibility),
        "share_with_group_lock": False,
        "require_two_factor_authentication": False,
        "two_factor_grace_period": 48,
        "project_creation_level": "developer",
        "auto_devops_enabled": None,
        "subgroup_creation_level": "maintainer",
        "emails_disabled": False,
        "emails_enabled": True,
        "mentions_disabled": None,
        "lfs_enabled": True,
        "math_rendering_limits_enabled": True,
        "lock_math_rendering_limits_enabled": False,
        "default_branch": None,
        "default_branch_protection": 0,
        "default_branch_protection_defaults": {},
        "avatar_url": None,
        "request_access_enabled": False,
        "full_name": full_name,
        "full_path": namespace.full_path,
        "created_at": moment(namespace.created_at_ms),
        "parent_id": namespace.parent_id,
        "organization_id": 1,
        "shared_runners_setting": "enabled",
        "ldap_cn": None,
        "ldap_access": None,
        "marked_for_deletion_on": None,
        "wiki_access_level": "enabled",
        "archived": False,
    }


def group_detail(shape: dict[str, Any], projects: list[dict[str, Any]]) -> dict[str, Any]:
    """A single group: the shape of a list, and its projects unless the client did not want them."""
    return {
        **shape,
        "shared_with_groups": [],
        "runners_token": None,
        "projects": projects,
        "shared_projects": [],
    }


def member(row: Member, addresses: Addresses) -> dict[str, Any]:
    return {
        **user_brief(row.user, addresses),
        "access_level": int(row.access_level),
        "created_at": moment(row.created_at_ms),
        "created_by": user_brief(row.created_by, addresses) if row.created_by else None,
        "expires_at": date(row.expires_at_ms),
        "group_saml_identity": None,
        "membership_state": "active",
        "member_role": None,
    }
