"""How many may be inside at once, how many may wait in line, and how long."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from mainstay.foundation.errors import Unavailable


class TooBusy(Unavailable):
    """Everybody is served in turn, and the line is full or too slow."""


@dataclass(slots=True)
class _Share:
    places: asyncio.Semaphore
    users: int = 0


class Turnstile:
    """Admit `inside_max` at a time; let `waiting_max` more wait up to `waiting_s_max` each.

    Of one address at most `per_address_max` are inside; more wait, and nobody else waits for them.
    """

    def __init__(
        self, *, inside_max: int, per_address_max: int, waiting_max: int, waiting_s_max: float
    ) -> None:
        self._places = asyncio.Semaphore(inside_max)
        self._shares: dict[str, _Share] = {}
        self._per_address_max = per_address_max
        self._waiting_max = waiting_max
        self._waiting_s_max = waiting_s_max
        self.waiting = 0
        self.inside = 0

    @asynccontextmanager
    async def passed(self, address: str) -> AsyncIterator[None]:
        """Hold a place for the length of the block. Raises `TooBusy`."""
        with self._share_of(address) as share:
            if self._places.locked() or share.locked():
                await self._stand_in_line(share)
            else:
                await share.acquire()
                await self._places.acquire()
            self.inside += 1
            try:
                yield
            finally:
                self.inside -= 1
                self._places.release()
                share.release()

    @contextmanager
    def _share_of(self, address: str) -> Iterator[asyncio.Semaphore]:
        """The places of one address, kept while somebody from there is here."""
        share = self._shares.setdefault(address, _Share(asyncio.Semaphore(self._per_address_max)))
        share.users += 1
        try:
            yield share.places
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[address]

    async def _stand_in_line(self, share: asyncio.Semaphore) -> None:
        if self.waiting >= self._waiting_max:
            raise TooBusy("the server is too busy: the line is full", retry_after_s=10)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._waiting_s_max):
                await self._acquire_both(share)
        except TimeoutError:
            raise TooBusy("the server is too busy: no place became free in time", retry_after_s=10) from None
        finally:
            self.waiting -= 1

    async def _acquire_both(self, share: asyncio.Semaphore) -> None:
        await share.acquire()
        try:
            await self._places.acquire()
        except asyncio.CancelledError:
            share.release()
            raise
