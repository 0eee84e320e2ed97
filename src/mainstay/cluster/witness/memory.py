"""The twin of the real witnesses: a record in this process, on a clock that a test may hold."""

import threading
from collections.abc import Callable

from mainstay.cluster.witness import Overtaken, Record, Seen, checked_successor
from mainstay.foundation.boots import since_boot_s


class MemoryWitness:
    """Safe for use from several threads."""

    def __init__(self, *, clock_s: Callable[[], float] = since_boot_s) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._record: Record | None = None
        self._count = 0
        self._changed_s = clock_s()

    def look(self) -> Seen | None:
        with self._lock:
            if self._record is None:
                return None
            return Seen(self._record, str(self._count), self._clock_s() - self._changed_s)

    def swap(self, version: str | None, record: Record) -> str:
        with self._lock:
            if version != (None if self._record is None else str(self._count)):
                raise Overtaken("the record was changed meanwhile")
            self._keep(checked_successor(self._record, record), self._count + 1)
            return str(self._count)

    def restart(self) -> None:
        """Forget for how long nothing has changed, as a process does."""
        with self._lock:
            self._changed_s = self._clock_s()

    def _keep(self, record: Record, count: int) -> None:
        self._record, self._count = record, count
        self._changed_s = self._clock_s()
