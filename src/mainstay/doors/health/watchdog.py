"""Measure how late the event loop is. A loop that blocks stalls every push of the process."""

import asyncio
import faulthandler
import sys
import threading
import time

from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import gauge

log = get_logger()

LAG = gauge("event_loop_lag_seconds", "How late the event loop of the data plane was.", across="livemax")

_BEAT_S = 0.5
_STUCK_S = 10.0


class LoopWatchdog:
    """Beats in the loop, and a thread beside it that writes down where the loop hangs."""

    def __init__(self) -> None:
        self.lag_s = 0.0
        self._last_beat_s = time.monotonic()
        self._reported = False

    @property
    def beat_age_s(self) -> float:
        return time.monotonic() - self._last_beat_s

    async def beat(self) -> None:
        """Run for ever beside the server."""
        threading.Thread(target=self._watch, name="loop-watchdog", daemon=True).start()
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            self._last_beat_s = time.monotonic()
            self.lag_s = max(0.0, self._last_beat_s - before_s - _BEAT_S)
            LAG.set(self.lag_s)
            self._reported = False

    def _watch(self) -> None:
        """Once per hang: where every thread is. Nothing is killed; that is for who asks `/-/liveness`."""
        while True:
            time.sleep(_BEAT_S)
            if self.beat_age_s > _STUCK_S and not self._reported:
                self._reported = True
                log.error("health.loop_stuck", beat_age_s=round(self.beat_age_s, 1))
                faulthandler.dump_traceback(file=sys.stderr)
