"""Who may be believed: a server whose synchronous commit succeeded within the last second.

Two servers can take themselves for the primary at the same time: one is frozen or cut off while the other is
promoted, and comes back. The old one cannot commit, because its standby has left it; but it can answer, and
its answers are from the past. So:

- a snapshot counts only if a commit on the very server it comes from was confirmed and that commit was sent
  less than `LIFE_S` before the snapshot was taken (a *lease*). A standby that confirms a commit has not been
  promoted before, so until then there was no other primary;
- before the first commit on a server not seen before, a writer waits `PAUSE_S`, a little longer than a lease
  lives. So when the new primary confirms its first commit, no lease on the old one is alive.

Both together: who reads after a commit was confirmed sees it. Clocks are not compared between machines; only
durations are measured, each on one machine. A server that has a synchronous standby is needed for this; with
none, a lease only says that the server is alive (`mainstay doctor --ha` tells).

The row in `cluster_lease` says that some process has already waited for that server; it is written after the
wait, so whoever finds it need not wait. A server on timeline 1 was never promoted: nobody came before it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mainstay.foundation.errors import MainstayError, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, histogram
from mainstay.storage.database import DatabaseAway

LIFE_S = 1.0
PAUSE_S = 1.05
_RENEW_AFTER_S = 0.4
_WAIT_S_MAX = 5.0
_REST_S = 0.05
"""Between two heartbeats, so that a server that refuses at once is not asked a thousand times a second."""

_BEATS = counter("database_heartbeats_total", "Heartbeats of the read lease.", ["outcome"])
_BEAT_S = histogram("database_heartbeat_seconds", "How long a synchronous commit takes.")

log = get_logger()


class Server(NamedTuple):
    """One life of one server: it changes when the server is started again."""

    started: bytes
    address: bytes | None
    port: bytes | None


@dataclass(frozen=True, slots=True)
class Beat:
    """A confirmed commit."""

    server: Server
    sent_s: float
    """When COMMIT was about to be sent; what is proved is proved as of then."""


class NotProved(DatabaseAway):
    """The server that answered could not be shown to be the primary now."""


def covers(beat: Beat | None, server: Server, at_s: float) -> bool:
    """Whether a snapshot that `server` took not later than `at_s` is as good as the newest."""
    return beat is not None and beat.server == server and at_s <= beat.sent_s + LIFE_S


def is_due(beat: Beat, at_s: float) -> bool:
    """Whether to renew in the background, so that nobody waits."""
    return at_s > beat.sent_s + _RENEW_AFTER_S


def pause_s(first_seen_s: float, now_s: float) -> float:
    """How long a writer still waits on a server first seen at `first_seen_s`."""
    return max(0.0, first_seen_s + PAUSE_S - now_s)


class Leases:
    """Asks for heartbeats when somebody reads, by one thread for all; sleeps when nobody does."""

    def __init__(self, beat: Callable[[], Beat], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """`beat` commits once on the server it finds. Raises `MainstayError`, `OutcomeUnknown`."""
        self._beat = beat
        self._clock_s = clock_s
        self._latest: Beat | None = None
        self._changed = threading.Condition()
        self._is_wanted = False
        self._begun = 0
        self._ended = 0
        self._interrupts = 0
        self._failure = "no heartbeat yet"
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def prove(self, server: Server) -> None:
        """Return when a snapshot that `server` has just taken is the truth. Raises `NotProved`."""
        now_s = self._clock_s()
        latest = self._latest
        if latest is not None and covers(latest, server, now_s):
            if is_due(latest, now_s):
                self.ask()
            return
        self._wait_for_proof(server, now_s)

    def ask(self) -> None:
        """Want a heartbeat soon."""
        if not self._is_wanted:
            with self._changed:
                self._want()

    def interrupt(self, because: str) -> None:
        """Who waits for a proof waits in vain."""
        with self._changed:
            self._failure = because
            self._interrupts += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_WAIT_S_MAX)

    def _want(self) -> None:
        self._is_wanted = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="database-lease", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _wait_for_proof(self, server: Server, at_s: float) -> None:
        with self._changed:
            enough = self._begun + 1  # one that begins after now says all there is to say
            interrupts = self._interrupts
            self._want()
            self._changed.wait_for(
                lambda: (
                    covers(self._latest, server, at_s)
                    or self._ended >= enough
                    or self._interrupts > interrupts
                    or self._is_closed
                ),
                timeout=_WAIT_S_MAX,
            )
            if covers(self._latest, server, at_s):
                return
            is_another = self._latest is not None and self._latest.server != server
        if is_another and self._ended >= enough:
            raise NotProved("another server is the primary now")
        raise NotProved(f"the server was not confirmed as the primary: {self._failure}")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_wanted or self._is_closed)
                if self._is_closed:
                    return
                self._is_wanted = False
                self._begun += 1
            latest = self._one()
            with self._changed:
                self._ended += 1
                if latest is not None:
                    self._latest = latest
                self._changed.notify_all()
            time.sleep(_REST_S)

    def _one(self) -> Beat | None:
        started_s = self._clock_s()
        try:
            beat = self._beat_whatever_happens()
        except (MainstayError, OutcomeUnknown) as failed:
            self._failure = str(failed)
            _BEATS.labels("failed").inc()
            log.warning("database.heartbeat_failed", reason=str(failed))
            return None
        _BEATS.labels("confirmed").inc()
        _BEAT_S.observe(self._clock_s() - started_s)
        return beat

    def _beat_whatever_happens(self) -> Beat:
        """Without this thread nobody here could read any more: a bug is a failed heartbeat."""
        try:
            return self._beat()
        except (MainstayError, OutcomeUnknown):
            raise
        except Exception as bug:
            log.exception("database.heartbeat_crashed")
            raise Unavailable(f"{type(bug).__name__}: {bug}") from bug
