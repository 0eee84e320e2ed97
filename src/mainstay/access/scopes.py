"""What a token may be used for, in the words of the API.

A token never widens what its owner may: it only narrows. `Actor.scopes` is None when nothing narrows (a
password, an SSH key, a session).
"""

from collections.abc import Iterable
from enum import StrEnum

from mainstay.foundation.errors import Invalid


class Scope(StrEnum):
    API = "api"
    READ_API = "read_api"
    READ_USER = "read_user"
    READ_REPOSITORY = "read_repository"
    WRITE_REPOSITORY = "write_repository"
    READ_REGISTRY = "read_registry"
    WRITE_REGISTRY = "write_registry"
    READ_VIRTUAL_REGISTRY = "read_virtual_registry"
    WRITE_VIRTUAL_REGISTRY = "write_virtual_registry"
    READ_PACKAGE_REGISTRY = "read_package_registry"
    WRITE_PACKAGE_REGISTRY = "write_package_registry"
    CREATE_RUNNER = "create_runner"
    MANAGE_RUNNER = "manage_runner"
    K8S_PROXY = "k8s_proxy"
    SELF_ROTATE = "self_rotate"
    AI_FEATURES = "ai_features"
    SUDO = "sudo"
    ADMIN_MODE = "admin_mode"


PULL_SCOPES = frozenset({Scope.API, Scope.READ_API, Scope.READ_REPOSITORY, Scope.WRITE_REPOSITORY})
PUSH_SCOPES = frozenset({Scope.API, Scope.WRITE_REPOSITORY})
READ_API_SCOPES = frozenset({Scope.API, Scope.READ_API})
READ_CODE_SCOPES = frozenset({Scope.API, Scope.READ_API, Scope.READ_REPOSITORY})
READ_USER_SCOPES = frozenset({Scope.API, Scope.READ_API, Scope.READ_USER})
WRITE_API_SCOPES = frozenset({Scope.API})

ADMIN_SCOPES = frozenset({Scope.SUDO, Scope.ADMIN_MODE})
"""Only administrators may give these to a token."""

PERSONAL_SCOPES = frozenset(Scope) - {Scope.READ_PACKAGE_REGISTRY, Scope.WRITE_PACKAGE_REGISTRY}
DEPLOY_SCOPES = frozenset(
    {
        Scope.READ_REPOSITORY,
        Scope.WRITE_REPOSITORY,
        Scope.READ_REGISTRY,
        Scope.WRITE_REGISTRY,
        Scope.READ_VIRTUAL_REGISTRY,
        Scope.WRITE_VIRTUAL_REGISTRY,
        Scope.READ_PACKAGE_REGISTRY,
        Scope.WRITE_PACKAGE_REGISTRY,
    }
)


class UnknownScope(Invalid):
    """No such scope, or none that this kind of token may have."""


def scopes_from(words: Iterable[str], *, allowed: frozenset[Scope]) -> frozenset[Scope]:
    """The scopes named by `words`, at least one. Raises `UnknownScope`."""
    wanted = [word.strip() for word in words if word.strip()]
    unknown = sorted(set(wanted) - set(allowed))
    if unknown:
        raise UnknownScope(f"no such scope: {unknown[0]!r}; choose from {', '.join(sorted(allowed))}")
    if not wanted:
        raise UnknownScope(f"at least one scope is needed; choose from {', '.join(sorted(allowed))}")
    return frozenset(Scope(word) for word in wanted)


def holds(scopes: frozenset[str] | None, any_of: frozenset[Scope]) -> bool:
    """Whether a token of these scopes may be used for something that needs one of `any_of`."""
    return scopes is None or not scopes.isdisjoint(any_of)
