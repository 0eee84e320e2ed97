"""Users, their keys and tokens."""

from typing import Any

from mainstay.doors.api.kit import Addresses
from mainstay.doors.api.shapes.times import date, moment
from mainstay.product.accounts.lookup import DeployToken, PersonalAccessToken, SshKey, User


def user_brief(user: User, addresses: Addresses) -> dict[str, Any]:
    """A user as part of another object: author, owner, member."""
    return {
        "id": user.id,
        "username": user.username,
        "public_email": "",
        "name": user.name,
        "state": user.state,
        "locked": False,
        "avatar_url": None,
        "web_url": addresses.web(user.username),
    }


def user_public(user: User, addresses: Addresses) -> dict[str, Any]:
    """A user as others see them."""
    return {
        **user_brief(user, addresses),
        "created_at": moment(user.created_at_ms),
        "bio": user.bio,
        "location": "",
        "linkedin": "",
        "twitter": "",
        "discord": "",
        "website_url": "",
        "github": "",
        "job_title": "",
        "pronouns": None,
        "organization": "",
        "bot": False,
        "work_information": None,
        "local_time": None,
        "followers": 0,
        "following": 0,
        "is_followed": False,
    }


def user_full(user: User, addresses: Addresses, *, for_admin: bool) -> dict[str, Any]:
    """A user as they see themselves, and as administrators see them."""
    shape = {
        **user_public(user, addresses),
        "last_sign_in_at": moment(user.last_sign_in_at_ms),
        "confirmed_at": moment(user.created_at_ms),
        "last_activity_on": date(user.last_sign_in_at_ms),
        "email": user.email,
        "theme_id": 1,
        "color_scheme_id": 1,
        "projects_limit": user.projects_limit,
        "current_sign_in_at": moment(user.last_sign_in_at_ms),
        "identities": [],
        "can_create_group": user.can_create_group,
        "can_create_project": user.projects_limit > 0,
        "two_factor_enabled": False,
        "external": False,
        "private_profile": False,
        "commit_email": user.email,
        "preferred_language": "en",
        "shared_runners_minutes_limit": None,
        "extra_shared_runners_minutes_limit": None,
        "scim_identities": [],
        "is_admin": user.is_admin,
    }
    if for_admin:
        shape |= {"note": None, "namespace_id": None, "created_by": None, "is_auditor": False}
    return shape


def ssh_key(key: SshKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "title": key.title,
        "created_at": moment(key.created_at_ms),
        "expires_at": moment(key.expires_at_ms),
        "last_used_at": moment(key.last_used_at_ms),
        "key": key.public_key,
        "fingerprint_sha256": key.fingerprint,
        "usage_type": "auth_and_signing",
    }


def deploy_key(key: SshKey, *, can_push: bool) -> dict[str, Any]:
    return {
        "id": key.id,
        "title": key.title,
        "created_at": moment(key.created_at_ms),
        "expires_at": moment(key.expires_at_ms),
        "last_used_at": moment(key.last_used_at_ms),
        "key": key.public_key,
        "fingerprint": None,
        "fingerprint_sha256": key.fingerprint,
        "can_push": can_push,
    }


def personal_access_token(
    token: PersonalAccessToken, *, now_ms: int, secret: str | None = None
) -> dict[str, Any]:
    """The token itself is shown once, in the answer that made it."""
    revoked = token.revoked_at_ms is not None
    expired = token.expires_at_ms is not None and token.expires_at_ms <= now_ms
    shape = {
        "id": token.id,
        "name": token.name,
        "description": token.description or None,
        "revoked": revoked,
        "created_at": moment(token.created_at_ms),
        "scopes": token.scopes.split(),
        "user_id": token.user_id,
        "last_used_at": moment(token.last_used_at_ms),
        "active": not revoked and not expired,
        "expires_at": date(token.expires_at_ms),
    }
    return shape if secret is None else {**shape, "token": secret}


def deploy_token(token: DeployToken, *, now_ms: int, secret: str | None = None) -> dict[str, Any]:
    shape = {
        "id": token.id,
        "name": token.name,
        "username": token.username,
        "expires_at": moment(token.expires_at_ms),
        "scopes": token.scopes.split(),
        "revoked": token.revoked_at_ms is not None,
        "expired": token.expires_at_ms is not None and token.expires_at_ms <= now_ms,
    }
    return shape if secret is None else {**shape, "token": secret}
