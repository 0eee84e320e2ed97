"""The heart of a node: puts it on the list, beats every two seconds, hears who wishes it to drain.

A thread with a database line of its own. It blocks nobody and fails nobody: while the database is away it
goes on trying, and says so once; afterwards the node is as alive as before. A node that was frozen or
killed is simply not heard any more. On a replica it rests: the list is that of the primary's nodes.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from mainstay.cluster import nodes
from mainstay.cluster.enduring import bugs_as_outages
from mainstay.cluster.line import Line
from mainstay.cluster.nodes import Heard, Introduction, Pulse, State
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, gauge

log = get_logger()

BEAT_EVERY_S = 2.0
LINE_LIMIT_S = 1.5
_LOOK_EVERY_S = 0.25

BEATS = counter("heartbeats_total", "Heartbeats of this node by what became of them.", ["outcome"])
LAG = gauge("heartbeat_lag_seconds", "How long the last heartbeat took.", across="livemax")
SKEW = gauge("clock_skew_seconds", "This clock minus the clock of the database.", across="livemostrecent")
LAST_BEAT = gauge(
    "heartbeat_last_timestamp_seconds", "When the database last took a heartbeat.", across="livemax"
)


class Heart:
    """One per node. `start`, and at the end `stop`, which says goodbye."""

    def __init__(
        self,
        *,
        line: Line,
        me: Introduction,
        state: Callable[[], State],
        facts: Callable[[], Mapping[str, Any]],
        drain: Callable[[], None],
        clock: Clock,
        rests: Callable[[], bool] = lambda: False,
    ) -> None:
        """`rests` is asked before each beat: while it says yes, there is none."""
        self._rests = rests
        self._line = line
        self._me = me
        self._state = state
        self._facts = facts
        self._drain = drain
        self._clock = clock
        self._started_ms: int | None = None
        self._lag_ms = 0
        self._skew_ms = 0
        self._failing_since_s: float | None = None
        self._drain_heard = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Say that the node stopped, if the database hears it in time; then be silent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LINE_LIMIT_S * 2)
        self._line.close()

    def _live(self) -> None:
        while not self._stopping.is_set():
            said, due_s = self._state(), self._clock.monotonic_s() + BEAT_EVERY_S
            self.turn(said)
            # What has changed is said at once: whoever starts or drains a node waits for just that.
            while self._state() == said and self._clock.monotonic_s() < due_s:
                if self._stopping.wait(_LOOK_EVERY_S):
                    break
        self.turn("stopped")

    def turn(self, state: State) -> None:
        """One beat. Whatever the database answers, the next one comes."""
        if self._rests():
            self._started_ms = None
            return
        try:
            with bugs_as_outages("heart.crashed"):
                heard = self._beat(state)
        except (MainstayError, OutcomeUnknown) as error:
            self._note_failure(str(error))
            return
        self._note_success()
        if not heard.listed:
            self._started_ms = None  # the next turn registers
            log.warning("heart.not_listed", node=self._me.id)
        if heard.drain_asked and not self._drain_heard:
            self._drain_heard = True
            log.info("heart.drain_heard", node=self._me.id)
            self._drain()

    def _beat(self, state: State) -> Heard:
        if self._started_ms is None:
            self._started_ms = nodes.register(self._line, self._me, state=state)
            log.info("heart.registered", node=self._me.id, name=self._me.name)
        pulse = Pulse(state=state, lag_ms=self._lag_ms, skew_ms=self._skew_ms, facts=self._facts())
        began_s, began_ms = self._clock.monotonic_s(), self._clock.now_ms()
        heard = nodes.beat(self._line, self._me.id, pulse, started_ms=self._started_ms)
        self._lag_ms = round((self._clock.monotonic_s() - began_s) * 1000)
        self._skew_ms = began_ms + self._lag_ms // 2 - heard.now_ms
        return heard

    def _note_success(self) -> None:
        BEATS.labels("taken").inc()
        LAG.set(self._lag_ms / 1000)
        SKEW.set(self._skew_ms / 1000)
        LAST_BEAT.set(self._clock.now_ms() / 1000)
        if self._failing_since_s is not None:
            for_s = round(self._clock.monotonic_s() - self._failing_since_s, 1)
            log.info("heart.recovered", after_s=for_s)
            self._failing_since_s = None

    def _note_failure(self, because: str) -> None:
        BEATS.labels("failed").inc()
        if self._failing_since_s is None:
            self._failing_since_s = self._clock.monotonic_s()
            log.warning("heart.failed", because=because)
