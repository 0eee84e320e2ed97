"""The tokens by which nodes know each other: two are valid at once, so that one can be replaced any time.

Both are in one secret, so that they are replaced in one step. A node sends the current one and takes either.
How long the pair is believed, and that an unknown token makes a node look again, is `repository.remote.kept`.
"""

import hmac
import json
import secrets as randomness
from dataclasses import dataclass
from typing import Final

from mainstay.cluster.secrets import Secrets
from mainstay.foundation.errors import Conflict
from mainstay.foundation.logs import Secret, get_logger

log = get_logger()

SECRET: Final = "rpc/tokens"  # noqa: S105 - the name of the secret, not its value

_ROTATIONS_APART_MS = 60_000


class TooSoon(Conflict):
    """Only two tokens are valid at once, and nodes look every few seconds."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    current: Secret
    previous: Secret | None

    def accepts(self, token: str) -> bool:
        given = token.encode()
        valid = [each.reveal().encode() for each in (self.current, self.previous) if each is not None]
        return any(hmac.compare_digest(given, each) for each in valid)


def token_pair(secrets: Secrets) -> TokenPair:
    """The valid tokens, made now if nobody has asked before."""
    return _read(secrets.ensure(SECRET, lambda: json.dumps([_new(), ""])))


def rotate(secrets: Secrets, *, now_ms: int) -> None:
    """A new current token; the one before it stays valid until the next rotation. Raises `TooSoon`."""
    before = token_pair(secrets)
    made_ms = secrets.created_ms(SECRET)
    if before.previous is not None and made_ms is not None and now_ms - made_ms < _ROTATIONS_APART_MS:
        raise TooSoon(
            "the token was rotated within the last minute: nodes that have not noticed would be lost"
        )
    secrets.put(SECRET, json.dumps([_new(), before.current.reveal()]))
    log.info("cluster.rpc_tokens_rotated")


def _read(text: str) -> TokenPair:
    current, previous = json.loads(text)
    return TokenPair(Secret(current), Secret(previous) if previous else None)


def _new() -> str:
    return randomness.token_urlsafe(32)
