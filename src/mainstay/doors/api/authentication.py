"""Who asks: the token of a request, what it may be used for, and acting for somebody else.

A token that is sent and not valid is refused everywhere, on public endpoints too: a client with a stale
token must learn of it instead of seeing a smaller world.
"""

from collections.abc import Mapping
from dataclasses import replace

from mainstay.access.actors import Actor, Kind
from mainstay.doors.api.errors import BadToken, InsufficientScope
from mainstay.doors.api.parameters import Parameters
from mainstay.foundation.errors import NotAllowed

READING = frozenset({"GET", "HEAD", "OPTIONS"})
API_SCOPES = ("api", "read_api")


def token_in(headers: Mapping[str, str], parameters: Parameters) -> str | None:
    """The token, wherever it is: header `PRIVATE-TOKEN`, `Authorization: Bearer`, or a parameter."""
    if headers.get("JOB-TOKEN") or parameters.maybe_text("job_token"):
        raise BadToken
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    return (
        headers.get("PRIVATE-TOKEN")
        or parameters.maybe_text("private_token")
        or bearer
        or parameters.maybe_text("access_token")
        or None
    )


def check_scopes(actor: Actor, method: str, *, accepted: frozenset[str]) -> None:
    """Raise `InsufficientScope` unless the token may be used for this.

    `api` opens everything, `read_api` all reading; `accepted` are further scopes of this endpoint,
    which open reading only.
    """
    if actor.scopes is None or "api" in actor.scopes:
        return
    enough = ({"read_api"} | accepted) if method in READING else set[str]()
    if not enough & actor.scopes:
        raise InsufficientScope(["api", *sorted(enough)])


def check_may_sudo(actor: Actor) -> None:
    """Only an administrator, and only by a token made for it, acts as somebody else."""
    if actor.kind is not Kind.USER or not actor.is_admin:
        raise NotAllowed("Must be admin to use sudo")
    if actor.scopes is not None and "sudo" not in actor.scopes:
        raise InsufficientScope(["sudo"])


def acting_as(actor: Actor, user: Actor) -> Actor:
    """The same token in somebody else's name: their rights, narrowed by its scopes."""
    return replace(user, scopes=actor.scopes, token_id=actor.token_id)
