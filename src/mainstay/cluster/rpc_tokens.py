"""The tokens by which nodes know each other: two are valid at once, so that one can be replaced any time.

Both are in one secret, so that they are replaced in one step. A node sends the current one and takes either.
A token that it does not know makes it look again, at most once a second: another node may have rotated.
"""

import hmac
import json
import secrets as randomness
import threading
from dataclasses import dataclass
from typing import Final

from mainstay.cluster.secrets import Secrets
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.logs import Secret, get_logger

log = get_logger()

SECRET: Final = "rpc/tokens"  # noqa: S105 - the name of the secret, not its value

_BELIEVED_S = 10.0
_LOOKS_APART_S = 1.0
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


class RpcTokens:
    """The pair as this process knows it. Blocks when it looks; safe for use from several threads."""

    def __init__(self, secrets: Secrets, clock: Clock) -> None:
        self._secrets = secrets
        self._clock = clock
        self._lock = threading.Lock()
        self._pair: TokenPair | None = None
        self._looked_s = 0.0

    def to_send(self) -> Secret:
        """The token for a request of ours. A database that is away does not matter once it is known."""
        return self._known(older_s_max=_BELIEVED_S).current

    def accepts(self, token: str) -> bool:
        """Whether `token`, from a request of another node, is valid."""
        if self._known(older_s_max=_BELIEVED_S).accepts(token):
            return True
        return self._known(older_s_max=_LOOKS_APART_S).accepts(token)

    def _known(self, *, older_s_max: float) -> TokenPair:
        with self._lock:
            now_s = self._clock.monotonic_s()
            if self._pair is None or now_s - self._looked_s > older_s_max:
                self._look()
                self._looked_s = now_s
            assert self._pair is not None
            return self._pair

    def _look(self) -> None:
        try:
            self._pair = token_pair(self._secrets)
        except Unavailable:
            if self._pair is None:
                raise


def rpc_tokens(secrets: Secrets, clock: Clock) -> RpcTokens:
    """For a server and for clients of the Git service: one per process."""
    return RpcTokens(secrets, clock)


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
