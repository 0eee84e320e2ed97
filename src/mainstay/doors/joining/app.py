"""`POST /-/join` with `{"id": …, "proof": …}`; the answer is `{"sealed": …}`. A replica adds `"site": {…}`.

What goes over the line is no secret (`cluster.joining`), so plain HTTP will do, and any balancer. Guessing
is hopeless by the length of the proof; who fails often from one address waits all the same, so that the
database is spared.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid, MainstayError, NotAllowed, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter
from mainstay.foundation.small_body import Receive, whole_body

log = get_logger()

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Redeem = Callable[[str, str, str], str]
"""Token id, proof, address → the sealed bundle. Blocks. Raises a family."""
Admit = Callable[[str, str, str, object], str]
"""The same for a site, with what it says about itself."""

PATH: Final = "/-/join"
ATTEMPTS = counter("join_attempts_total", "Machines that showed a join token, by outcome.", ["outcome"])

_BODY_BYTES_MAX = 16 * 1024
_BODY_S_MAX = 10.0
_FAILURES_MAX = 10
_FAILURES_WITHIN_S = 60.0
_ADDRESSES_MAX = 10_000


class NotARequest(Invalid):
    """The body is not what `mainstay join` sends."""


class TooManyFailures(Unavailable):
    """One address showed too many wrong tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: MutableMapping[str, str]
    retry_after_s: int = 0


def claims(scope: Scope) -> bool:
    return bool(scope["path"] == PATH)


class JoiningDoor:
    """An ASGI application for the one path."""

    def __init__(self, redeem: Redeem, *, admit: Admit, clock: Clock) -> None:
        self._redeem = redeem
        self._admit = admit
        self._failures = Failures(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope["client"][0] if scope["client"] else ""
        answer = await self._answer(scope["method"], address, receive)
        ATTEMPTS.labels("let_in" if answer.status == 200 else "refused").inc()  # noqa: PLR2004 - HTTP's own
        await _send(send, answer)

    async def _answer(self, method: str, address: str, receive: Receive) -> Answer:
        if method != "POST":
            return Answer(405, {"message": "machines join by `mainstay join`"})
        try:
            self._failures.check(address)
            body = await whole_body(receive, bytes_max=_BODY_BYTES_MAX, within_s=_BODY_S_MAX)
            token_id, proof, site = _asked(body)
            if site is None:
                sealed = await asyncio.to_thread(self._redeem, token_id, proof, address)
            else:
                sealed = await asyncio.to_thread(self._admit, token_id, proof, address, site)
            return Answer(200, {"sealed": sealed})
        except NotAllowed as error:
            self._failures.count(address)
            log.warning("joining.token_refused", address=address)
            return Answer(403, {"message": str(error)})
        except Unavailable as error:
            status = 429 if isinstance(error, TooManyFailures) else 503
            return Answer(status, {"message": str(error)}, error.retry_after_s)
        except MainstayError as error:
            return Answer(400 if isinstance(error, Invalid) else 409, {"message": str(error)})
        except OutcomeUnknown:
            return Answer(
                503, {"message": "the database did not answer: make another token and try again"}, 5
            )


class Failures:
    """How often which address failed within the last minute. Bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times_s: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises `TooManyFailures`."""
        if len(self._recent(address)) >= _FAILURES_MAX:
            raise TooManyFailures("too many wrong tokens from this address: wait a minute", retry_after_s=60)

    def count(self, address: str) -> None:
        self._times_s[address] = [*self._recent(address), self._clock.monotonic_s()]
        self._times_s.move_to_end(address)
        while len(self._times_s) > _ADDRESSES_MAX:
            self._times_s.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        since_s = self._clock.monotonic_s() - _FAILURES_WITHIN_S
        return [at_s for at_s in self._times_s.get(address, ()) if at_s > since_s]


def _asked(body: bytes) -> tuple[str, str, object]:
    """Id and proof of the token, and what a site says about itself; None: it is no site."""
    try:
        facts = json.loads(body)
        return str(facts["id"]), str(facts["proof"]), facts.get("site")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # nested a thousand times, too
        raise NotARequest("the request is not the one of `mainstay join`") from None


async def _send(send: Send, answer: Answer) -> None:
    body = json.dumps(dict(answer.body)).encode() + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if answer.retry_after_s:
        headers.append((b"retry-after", str(answer.retry_after_s).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
