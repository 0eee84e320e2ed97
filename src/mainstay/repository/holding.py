"""Requests that wait for a database that is away, in the event loop: they keep no thread busy meanwhile.

They may wait for something else in the same manner (`Cause`).

How many wait is limited. Who comes later is refused at once, with a hint when to try again: a node must not
collect a day's requests in memory because its database is gone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from mainstay.foundation.metrics import Counter, Gauge, counter, gauge
from mainstay.storage.database import DatabaseAway
from mainstay.storage.hold import Patience

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Cause:
    """What is waited for: an event for the log, and numbers."""

    event: str
    held: Gauge
    ends: Counter


DATABASE = Cause(
    event="database.awaited",
    held=gauge("database_waiting_requests", "Requests that wait for the database to come back."),
    ends=counter("database_waits_total", "Requests that had to wait for the database.", ["outcome"]),
)


class Waiting:
    """All waiting requests of one door."""

    def __init__(self, *, hold_s: float, waiting_max: int, cause: Cause = DATABASE) -> None:
        self._cause = cause
        self._hold_s = hold_s
        self._waiting_max = waiting_max
        self._waiting = 0

    async def through(
        self,
        attempt: Callable[[], Awaitable[Result]],
        *,
        on: type[Exception] | tuple[type[Exception], ...] = DatabaseAway,
    ) -> Result:
        """Await `attempt()` again and again while it raises one of `on`; in the end raise the last one."""
        try:
            return await attempt()
        except on as failed:
            patience = Patience(self._hold_s, event=self._cause.event)
            pause_s = patience.after_failure(failed)
            if pause_s is None:
                raise
            if self._waiting >= self._waiting_max:
                self._cause.ends.labels("refused").inc()
                raise
        return await self._wait(attempt, on, patience, pause_s)

    @asynccontextmanager
    async def entering(
        self, enter: Callable[[], AbstractAsyncContextManager[Result]]
    ) -> AsyncIterator[Result]:
        """As `through`, for something that is entered and left again."""
        async with AsyncExitStack() as stack:
            yield await self.through(lambda: stack.enter_async_context(enter()))

    async def _wait(
        self,
        attempt: Callable[[], Awaitable[Result]],
        on: type[Exception] | tuple[type[Exception], ...],
        patience: Patience,
        pause_s: float,
    ) -> Result:
        self._waiting += 1
        self._cause.held.inc()
        outcome = "ended"
        try:
            while True:
                await asyncio.sleep(pause_s)
                try:
                    result = await attempt()
                except on as failed:
                    again_s = patience.after_failure(failed)
                    if again_s is None:
                        outcome = "given_up"
                        raise
                    pause_s = again_s
                else:
                    outcome = "served"
                    return result
        finally:
            self._waiting -= 1
            self._cause.held.dec()
            self._cause.ends.labels(outcome).inc()
