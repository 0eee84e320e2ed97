"""The webhook `cache_sync`: a URL is told of each push that has come to a cache whole, ready to be fetched.

For machines that fetch at the cache as soon as it is worth it. Whoever runs the cache names the URL. One
request per push, in the words of GitLab's `repository_update`:

    {"event_name": "cache_sync", "cache_location": "oslo",
     "project": {"path_with_namespace": "tools/engine"}, "push_id": "01K…",
     "changes": [{"before": "…", "after": "…", "ref": "refs/heads/main"}], "refs": ["refs/heads/main"]}

It is tried a few times, and told to nobody later: a push that came while the URL was away is not told again.
"""

import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, NotFound, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter
from mainstay.foundation.retry import Schedule, retry
from mainstay.git.objectnames import shown
from mainstay.storage.journal import is_commit_key
from mainstay.storage.ledger import Change
from mainstay.storage.records import BrokenRecord, decode_change

log = get_logger()

WAITING_MAX: Final = 1000
"""Pushes that were heard of and not told yet; more are not told at all."""
FRESH_S_MAX: Final = 600
"""An older push is none that anybody waits for: the first copy, or a long absence."""
ARRIVAL_S_MAX: Final = 60.0
"""How long the packs of a push, and its row, may come after its record."""
_LOOK_S: Final = 0.2
_SCHEDULE: Final = Schedule(attempts_max=4, first_pause_s=0.5, pause_max_s=4.0)
_STOP_S: Final = 10.0

_TOLD = counter("cache_sync_total", "Pushes that the webhook `cache_sync` was about.", ["outcome"])

Presence = Literal["here", "coming", "not kept"]


class NotTold(Unavailable):
    """The URL did not take it."""


class Cache(Protocol):
    """What is on this site."""

    def read(self, key: str) -> bytes:
        """Raises `NotFound`, `Unavailable`."""
        ...

    def presence_of(self, change: Change) -> Presence:
        """Raises `Unavailable`."""
        ...

    def project_of(self, change: Change) -> str:
        """Its full path."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    key: str
    until_s: float


class CacheSync:
    """Between `start` and `close`; `landed` may be called by any thread, and never waits."""

    def __init__(self, cache: Cache, *, location: str, post: Callable[[bytes], None], clock: Clock) -> None:
        """`post` sends a body to the URL, or raises `NotTold`."""
        self._cache = cache
        self._location = location
        self._post = post
        self._clock = clock
        self._waiting: queue.Queue[_Waiting] = queue.Queue(WAITING_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache-sync", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What was not told by now is told no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def landed(self, key: str) -> None:
        """An object of the primary is here."""
        if is_commit_key(key):
            self._put(_Waiting(key, self._clock.monotonic_s() + ARRIVAL_S_MAX))

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            self.turn()

    def turn(self) -> None:
        """Look once at each that waits."""
        for _ in range(self._waiting.qsize()):
            waiting = self._waiting.get_nowait()
            try:
                is_done = self._tell(waiting.key)
            except (NotFound, Unavailable, BrokenRecord) as failed:
                log.debug("cache_sync.not_looked_at", key=waiting.key, because=str(failed))
                is_done = False
            if not is_done:
                self._wait_on(waiting)

    def _wait_on(self, waiting: _Waiting) -> None:
        if self._clock.monotonic_s() > waiting.until_s or self._stopping.is_set():
            _TOLD.labels("late").inc()
            log.warning("cache_sync.never_whole", key=waiting.key)
            return
        self._put(waiting)

    def _put(self, waiting: _Waiting) -> None:
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            _TOLD.labels("dropped").inc()

    def _tell(self, key: str) -> bool:
        """Whether nothing is left to do about it."""
        change = decode_change(self._cache.read(key))
        if not _is_news(change, now_ms=self._clock.now_ms()):
            return True
        presence = self._cache.presence_of(change)
        if presence == "here":
            self._send(change)
        return presence != "coming"

    def _send(self, change: Change) -> None:
        project = self._cache.project_of(change)
        body = json.dumps(said_of(change, project=project, location=self._location)).encode()
        try:
            retry(lambda: self._post(body), on=NotTold, schedule=_SCHEDULE, sleep=self._sleep)
        except MainstayError as failed:
            _TOLD.labels("refused").inc()
            log.warning("cache_sync.not_told", project=project, because=str(failed))
        else:
            _TOLD.labels("told").inc()

    def _sleep(self, pause_s: float) -> None:
        self._stopping.wait(pause_s)


def _is_news(change: Change, *, now_ms: int) -> bool:
    return change.kind == "push" and bool(change.refs) and now_ms - change.at_ms <= FRESH_S_MAX * 1000


def said_of(change: Change, *, project: str, location: str) -> dict[str, Any]:
    """The body of the request."""
    return {
        "event_name": "cache_sync",
        "cache_location": location,
        "project": {"path_with_namespace": project},
        "push_id": change.push_id,
        "changes": [{"before": move.old, "after": move.new, "ref": shown(move.name)} for move in change.refs],
        "refs": [shown(move.name) for move in change.refs],
    }
