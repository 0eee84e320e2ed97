"""One request, and what became known of it on the way; the log line and the numbers are made from here."""

import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mainstay.access.actors import Actor
from mainstay.doors.githttp.answer import Answer
from mainstay.doors.githttp.body import Body
from mainstay.doors.githttp.target import Target
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import BYTES, Counter, Histogram, counter, gauge, histogram
from mainstay.product.projects.admission import Admission

log = get_logger()

OPEN = gauge("githttp_open_requests", "Git requests over HTTP under way.")
_REQUESTS = counter("githttp_requests_total", "Git requests over HTTP.", ["endpoint", "service", "status"])
_SECONDS = histogram("githttp_seconds", "From the request to the last byte.", ["endpoint", "service"])
_RECEIVED = histogram("githttp_received_bytes", "Request bodies, unpacked.", ["service"], buckets=BYTES)
_SENT = histogram("githttp_sent_bytes", "Answers.", ["service"], buckets=BYTES)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

Scope = MutableMapping[str, Any]

ELSEWHERE = "mainstay.elsewhere"
"""In a scope: an `Elsewhere`, put there by who stands before this door on a replica. No client can."""


class RoleChanged(Exception):
    """The site became a replica before anything was done for the request: it belongs to the primary now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What is known of a request before it comes to this door, on a site that has or may get a primary."""

    has_moved: Callable[[], bool]
    """Whether the site is no more what it was when the request came here."""
    admission: Admission | None = None
    """Who it is and that they may, as the primary has said."""
    refusal: MainstayError | None = None
    """Why they may not, as the primary has said."""
    remark: str = ""
    """For the person behind a fetch."""

    def check(self) -> None:
        """Raises `RoleChanged`."""
        if self.has_moved():
            raise RoleChanged


@dataclass(slots=True, kw_only=True)
class Visit:
    scope: Scope
    headers: dict[bytes, bytes]
    request_id: str
    answer: Answer
    started_s: float
    body: Body | None = None
    target: Target | None = None
    actor: Actor | None = None
    outcome: str = "answered"
    """Or `refused` (an error with a status), `gone` (the client), `unknown`, `failed` (a bug), `moved` (to
    the site that is the primary now)."""
    because: str = ""

    @property
    def elsewhere(self) -> Elsewhere | None:
        found: Elsewhere | None = self.scope.get(ELSEWHERE)
        return found

    @property
    def address(self) -> str:
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def report(self, *, ended_s: float) -> None:
        """Write the line and count."""
        elapsed_s = ended_s - self.started_s
        received_bytes = self.body.plain_bytes if self.body else 0
        self._count(elapsed_s, received_bytes)
        log.info(
            "githttp.answered",
            method=self.scope["method"],
            service=self.target.service.value if self.target else "",
            endpoint=self.target.endpoint.value if self.target else "",
            project=self.target.path if self.target else "",
            actor=self.actor.label if self.actor else "",
            address=self.address,
            status=self.answer.status,
            outcome=self.outcome,
            because=self.because,
            received_bytes=received_bytes,
            sent_bytes=self.answer.sent_bytes,
            duration_ms=round(elapsed_s * 1000, 1),
        )

    def _count(self, elapsed_s: float, received_bytes: int) -> None:
        service = self.target.service.value if self.target else "none"
        endpoint = self.target.endpoint.value if self.target else "none"
        numbers = _numbers_of(endpoint, service, self.answer.status)
        numbers.requests.inc()
        numbers.seconds.observe(elapsed_s)
        numbers.sent.observe(self.answer.sent_bytes)
        if received_bytes:
            numbers.received.observe(received_bytes)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of requests of one kind."""

    requests: Counter
    seconds: Histogram
    received: Histogram
    sent: Histogram


@lru_cache(maxsize=256)
def _numbers_of(endpoint: str, service: str, status: int) -> _Numbers:
    """To find them by their labels takes as long as to count."""
    return _Numbers(
        requests=_REQUESTS.labels(endpoint, service, status),
        seconds=_SECONDS.labels(endpoint, service),
        received=_RECEIVED.labels(service),
        sent=_SENT.labels(service),
    )


def request_id_of(header: bytes) -> str:
    """The id that came with the request, if it is one that may stand in a log; else a fresh one."""
    text = header.decode("latin-1")
    return text if _REQUEST_ID.match(text) else new_ulid()
