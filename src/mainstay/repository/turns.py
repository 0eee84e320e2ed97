"""Admission: how many fetches and pushes may run at once, and how long others wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mainstay.foundation.errors import Unavailable


class Busy(Unavailable):
    """All turns are taken and stayed taken."""


class Turns:
    """A bounded number of turns; the queue is bounded by time."""

    def __init__(self, what: str, *, turns_max: int, wait_s_max: float) -> None:
        self._what = what
        self._free = asyncio.Semaphore(turns_max)
        self._wait_s_max = wait_s_max

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._wait_s_max):
                await self._free.acquire()
        except TimeoutError:
            raise Busy(f"too many {self._what} at once: try again in a moment", retry_after_s=10) from None
        try:
            yield
        finally:
            self._free.release()
