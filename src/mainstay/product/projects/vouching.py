"""Admission between sites: a replica asks on somebody's behalf, the primary decides, the replica goes by it.

The primary is shown what the client showed (a password, a token, the fingerprint of a key that the client has
proved to have at the replica), and answers who it is and at which version the repository is. Of refusals it
says those that were counted, so that nobody is counted twice, and "sign in", which every client of git meets
first; for all others the client's own request is sent on, and is refused in the ordinary way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mainstay.access.policy import GitAction
from mainstay.foundation.errors import Invalid, MainstayError, NotAllowed, NotFound
from mainstay.product.accounts.identify import TooManyAttempts, WrongCredentials
from mainstay.product.projects.admission import (
    NOBODY,
    Admission,
    Bearer,
    Credentials,
    GitGate,
    Nobody,
    SignInNeeded,
    SshKey,
    UserAndSecret,
)
from mainstay.repository.remote.calls import actor_from
from mainstay.repository.remote.strict import BadFields, Fields

_ID_MAX = (1 << 63) - 1
_SECRET_CHARACTERS_MAX = 10_000
_WRONG = "wrong credentials"
_RETRY_AFTER_S_MAX = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Asked:
    """For whom, and for what. Without a path: who it is, and no more."""

    credentials: Credentials
    path: str
    address: str

    def facts(self) -> dict[str, Any]:
        shown = _facts_of(self.credentials)
        return {"credentials": shown, "path": self.path, "address": self.address}


def asked_from(fields: Fields) -> Asked:
    """The inverse of `Asked.facts`. Raises `BadFields`."""
    shown = fields.inner("credentials")
    return Asked(_credentials_from(shown), fields.text("path", longest=2000), fields.text("address"))


def _facts_of(credentials: Credentials) -> Mapping[str, str]:
    match credentials:
        case UserAndSecret(username, secret):
            return {"kind": "basic", "username": username, "secret": secret}
        case Bearer(token):
            return {"kind": "bearer", "token": token}
        case SshKey(fingerprint):
            return {"kind": "key", "fingerprint": fingerprint}
        case Nobody():
            return {"kind": "nobody"}


def _credentials_from(shown: Fields) -> Credentials:
    match shown.text("kind"):
        case "basic":
            return UserAndSecret(_secret(shown, "username"), _secret(shown, "secret"))
        case "bearer":
            return Bearer(_secret(shown, "token"))
        case "key":
            return SshKey(shown.text("fingerprint"))
        case "nobody":
            return NOBODY
    raise BadFields("there are no credentials of this kind")


def _secret(shown: Fields, name: str) -> str:
    return shown.text(name, longest=_SECRET_CHARACTERS_MAX)


class Vouching:
    """The primary's side. Blocks."""

    def __init__(self, gate: GitGate, version_of: Callable[[int], int]) -> None:
        """`version_of` a repository, as of now; raises `NotFound` when it is gone."""
        self._gate = gate
        self._version_of = version_of

    def look(self, asked: Asked) -> dict[str, Any]:
        """What the other site is told. Raises `Unavailable`, as a request here would."""
        try:
            return self._look(asked)
        except WrongCredentials:
            return {"version": None, "refused": _WRONG}
        except SignInNeeded as needed:
            return {"version": None, "refused": str(needed), "sign_in": True}
        except TooManyAttempts as banned:
            return {"version": None, "refused": str(banned), "retry_after_s": banned.retry_after_s}
        except (NotAllowed, NotFound, Invalid):
            return {"version": None}

    def _look(self, asked: Asked) -> dict[str, Any]:
        actor = self._gate.identify(asked.credentials, address=asked.address)
        if not asked.path:
            return {"version": None, "actor": actor.facts}
        admission = self._gate.enter(actor, asked.path, GitAction.PULL, create=False)
        assert admission.repository_id is not None, "only a push may enter a project that is not there"
        return {
            "version": self._version_of(admission.repository_id),
            "repository_id": admission.repository_id,
            "path": admission.path,
            "actor": actor.facts,
        }


@dataclass(frozen=True, slots=True)
class Vouched:
    """What the primary said. `admission` is None when it refused; `refusal` says why, where it did."""

    version: int | None
    admission: Admission | None = None
    refusal: MainstayError | None = None

    @property
    def repository_id(self) -> int | None:
        return self.admission.repository_id if self.admission else None


def vouched_from(fields: Fields) -> Vouched:
    """Raises `BadFields`."""
    if fields.is_null("version"):
        return Vouched(None, refusal=_refusal_in(fields))
    return Vouched(
        fields.whole("version", least=0, most=_ID_MAX),
        Admission(
            actor=actor_from(fields.inner("actor")),
            path=fields.text("path", longest=2000),
            repository_id=fields.whole("repository_id", least=1, most=_ID_MAX),
        ),
    )


def _refusal_in(fields: Fields) -> MainstayError | None:
    if fields.has("retry_after_s"):
        retry_after_s = fields.whole("retry_after_s", least=0, most=_RETRY_AFTER_S_MAX)
        return TooManyAttempts(fields.text("refused"), retry_after_s=retry_after_s)
    if fields.has("sign_in"):
        return SignInNeeded(fields.text("refused"))
    return WrongCredentials() if fields.has("refused") else None


def is_somebody(fields: Fields) -> bool:
    """Whether the primary knows who it is. Raises `BadFields`."""
    return fields.has("actor")
