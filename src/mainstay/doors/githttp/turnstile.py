"""How many may be inside at once, how many may wait in line, and how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mainstay.foundation.errors import Unavailable


class TooBusy(Unavailable):
    """Everybody is served in turn, and the line is full or too slow."""


class Turnstile:
    """Admit `inside_max` at a time; let `waiting_max` more wait up to `waiting_s_max` each."""

    def __init__(self, *, inside_max: int, waiting_max: int, waiting_s_max: float) -> None:
        self._places = asyncio.Semaphore(inside_max)
        self._waiting_max = waiting_max
        self._waiting_s_max = waiting_s_max
        self.waiting = 0
        self.inside = 0

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Hold a place for the length of the block. Raises `TooBusy`."""
        if self._places.locked():
            await self._stand_in_line()
        else:
            await self._places.acquire()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            self._places.release()

    async def _stand_in_line(self) -> None:
        if self.waiting >= self._waiting_max:
            raise TooBusy("the server is too busy: the line is full", retry_after_s=10)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._waiting_s_max):
                await self._places.acquire()
        except TimeoutError:
            raise TooBusy("the server is too busy: no place became free in time", retry_after_s=10) from None
        finally:
            self.waiting -= 1
