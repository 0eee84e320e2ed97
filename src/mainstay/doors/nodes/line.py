"""The line before this door: how many are served at once, how many wait, and how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mainstay.foundation.errors import Unavailable


class NodeBusy(Unavailable):
    """As much is served as can be: ask another node."""


class Line:
    """Admit `inside_max` at a time; let `waiting_max` more wait up to `waiting_s_max` each."""

    def __init__(self, *, inside_max: int, waiting_max: int, waiting_s_max: float) -> None:
        self._places = asyncio.Semaphore(inside_max)
        self._waiting_max = waiting_max
        self._waiting_s_max = waiting_s_max
        self.waiting = 0
        self.inside = 0

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Hold a place for the length of the block. Raises `NodeBusy`."""
        await self._enter()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            self._places.release()

    async def _enter(self) -> None:
        if self._places.locked() and self.waiting >= self._waiting_max:
            raise NodeBusy("this node is too busy: the line is full", retry_after_s=5)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._waiting_s_max):
                await self._places.acquire()
        except TimeoutError:
            raise NodeBusy("this node is too busy: no place became free in time", retry_after_s=5) from None
        finally:
            self.waiting -= 1
