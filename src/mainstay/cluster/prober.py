"""Try something again and again in a thread; whoever asks gets an answer that is newer than the question.

An attempt may hang for longer than anybody waits: then there is no answer in time, which is an answer.
"""

import threading
from collections.abc import Callable

from mainstay.cluster.enduring import bugs_as_outages
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger

log = get_logger()


class Prober:
    """Tries `attempt` every `every_s`, and at once when somebody asks."""

    def __init__(self, name: str, attempt: Callable[[], object], *, every_s: float, clock: Clock) -> None:
        self._name = name
        self._attempt = attempt
        self._every_s = every_s
        self._clock = clock
        self._news = threading.Condition()
        self._is_asked = False
        self._is_stopping = False
        self._began_s = clock.monotonic_s()
        self._failed_began_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"prober-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The thread ends after the attempt that it is in; nobody waits for it."""
        with self._news:
            self._is_stopping = True
            self._news.notify_all()

    @property
    def seen_ago_s(self) -> float:
        """How long ago the last attempt that went well began; since the start, if none did."""
        return self._clock.monotonic_s() - self._began_s

    @property
    def last_failed(self) -> bool:
        """Whether the last attempt that has ended failed."""
        return self._failed_began_s > self._began_s

    def answers_within(self, limit_s: float) -> bool:
        """Whether an attempt that begins after this call goes well within the limit."""
        asked_s = self._clock.monotonic_s()
        with self._news:
            self._is_asked = True
            self._news.notify_all()
            self._news.wait_for(lambda: self._is_settled(asked_s), timeout=limit_s)
            return self._began_s >= asked_s

    def _is_settled(self, asked_s: float) -> bool:
        return max(self._began_s, self._failed_began_s) >= asked_s

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._is_asked or self._is_stopping, timeout=self._every_s)
                if self._is_stopping:
                    return
                self._is_asked = False
            began_s = self._clock.monotonic_s()
            is_well = self._try_once()
            with self._news:
                if is_well:
                    self._began_s = began_s
                else:
                    self._failed_began_s = began_s
                self._news.notify_all()

    def _try_once(self) -> bool:
        try:
            with bugs_as_outages("prober.crashed"):
                self._attempt()
        except (MainstayError, OutcomeUnknown) as error:
            log.debug("prober.failed", name=self._name, because=str(error))
            return False
        return True
