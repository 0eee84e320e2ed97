"""Keep one process up with the decree: look every 0.8 s; when nobody answers go on with what was known."""

import threading
from collections.abc import Callable

from mainstay.cluster.enduring import bugs_as_outages
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, gauge
from mainstay.ops.maintenance.decisions import Deed, Refuse, Wait, decide
from mainstay.ops.maintenance.state import OPEN, Maintenance, Mode, banner_of
from mainstay.ops.maintenance.switch import Seen
from mainstay.repository.holding import Cause

log = get_logger()

LINE_LIMIT_S = 1.0
_LOOK_EVERY_S = 0.8
"""With the limit of a look this is within `switch.IN_FORCE_S`."""
_HOLD = "hold"

MODES = gauge("maintenance_mode", "Processes of this node that know it is in force.", ["mode"])
REFUSALS = counter("maintenance_refusals_total", "Requests refused by maintenance mode.", ["deed"])
FAILOVER = Cause(
    event="maintenance.awaited",
    held=gauge("maintenance_waiting_requests", "Requests that wait for a planned failover."),
    ends=counter("maintenance_waits_total", "Requests that had to wait for a planned failover.", ["outcome"]),
)


class Closed(Unavailable):
    """Refused by maintenance mode. The text is for the person, with the operator's own words below."""

    def __init__(self, refusal: Refuse, message: str) -> None:
        text = f"{refusal.sentence}\n{message}" if message else refusal.sentence
        super().__init__(text, retry_after_s=refusal.retry_after_s)
        self.sentence = refusal.sentence
        self.message = message


class Held(Unavailable):
    """Not now: a planned failover is under way. Worth waiting for, a little."""


class Lookout:
    """One per process. Between two looks the time goes on by our own clock, from the database's."""

    def __init__(
        self, look: Callable[[], Seen], *, clock: Clock, close: Callable[[], None] = lambda: None
    ) -> None:
        self._look = look
        self._clock = clock
        self._close = close
        self._state = OPEN
        self._ahead_ms = clock.now_ms() - round(clock.monotonic_s() * 1000)
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Look once before anybody is served, then again and again."""
        self.turn()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LINE_LIMIT_S * 2)
        self._close()

    @property
    def state(self) -> Maintenance:
        return self._state

    @property
    def now_ms(self) -> int:
        """The database's time, as far as known."""
        return round(self._clock.monotonic_s() * 1000) + self._ahead_ms

    @property
    def mode(self) -> Mode:
        return self._state.mode_at(self.now_ms)

    @property
    def is_quiet(self) -> bool:
        """Whether workers leave what can wait."""
        return self._state.is_quiet_at(self.now_ms)

    @property
    def has_something(self) -> bool:
        """Whether there is anything to decide or to tell; most of the time there is not."""
        return self._state.mode is not Mode.OFF or self._state.hold_until_ms is not None

    @property
    def banner(self) -> dict[str, str] | None:
        return banner_of(self._state, self.now_ms)

    def check(self, deed: Deed, *, address: str) -> None:
        """Return when the request may go on. Raises `Closed`, or `Held` when it should wait."""
        state = self._state
        if not self.has_something:
            return
        outcome = decide(state, deed, address=address, now_ms=self.now_ms)
        if isinstance(outcome, Wait):
            raise Held(outcome.because)
        if isinstance(outcome, Refuse):
            REFUSALS.labels(deed.value).inc()
            raise Closed(outcome, state.message)

    def turn(self) -> None:
        """Look once. What cannot be seen stays as it was."""
        try:
            with bugs_as_outages("maintenance.look_crashed"):
                self._note(self._look())
        except (MainstayError, OutcomeUnknown) as error:
            if not self._failing:
                log.warning("maintenance.look_failed", because=str(error))
            self._failing = True
        self._count()

    def _note(self, seen: Seen) -> None:
        self._failing = False
        self._ahead_ms = seen.now_ms - round(self._clock.monotonic_s() * 1000)
        if seen.state != self._state:
            log.info("maintenance.changed", mode=seen.state.mode.value, starts_ms=seen.state.starts_ms)
            self._state = seen.state

    def _count(self) -> None:
        mode, held = self.mode, self._state.hold_until_ms is not None
        for each in (Mode.READ_ONLY, Mode.FULL):
            MODES.labels(each.value).set(mode is each)
        MODES.labels(_HOLD).set(held)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            self.turn()


def always_open(clock: Clock) -> Lookout:
    """For tests of doors, and tools that serve nobody: not started, it never hears of maintenance."""
    return Lookout(lambda: Seen(OPEN, clock.now_ms()), clock=clock)
