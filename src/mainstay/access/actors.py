"""Who asks."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    ANONYMOUS = "anonymous"
    USER = "user"
    DEPLOY_KEY = "deploy_key"
    DEPLOY_TOKEN = "deploy_token"  # noqa: S105 - a kind of actor
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody at a door, identified. Blocked and expired ones never become an actor."""

    kind: Kind
    id: int = 0
    """Row id within the kind: user id, deploy key id, deploy token id."""
    name: str = ""
    """User name, or the title of the key or token."""
    is_admin: bool = False
    scopes: frozenset[str] | None = None
    """None: everything the person may (password, SSH key, session). Else the scopes of the token."""
    token_id: int | None = None
    """The token or key used, for "last used" and the audit log."""

    @property
    def label(self) -> str:
        """For logs and the ledger, such as `user:7`."""
        return f"{self.kind}:{self.id}"

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, as JSON can carry it to another process or time."""
        return {
            "kind": self.kind.value,
            "id": self.id,
            "name": self.name,
            "is_admin": self.is_admin,
            "scopes": None if self.scopes is None else sorted(self.scopes),
            "token_id": self.token_id,
        }


ANONYMOUS = Actor(kind=Kind.ANONYMOUS)
SYSTEM = Actor(kind=Kind.SYSTEM, name="mainstay")
