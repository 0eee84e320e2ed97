"""Wait in the event loop until something in a directory changes; one watch for all who wait."""

import asyncio
from pathlib import Path

from mainstay.storage.feed.watch import LOOK_S, Watch


class Changes:
    """Made inside the running loop, or at the first wait."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._watch: Watch | None = None
        self._next: asyncio.Event | None = None

    def now(self) -> asyncio.Event:
        """Set by the next change. Take it before looking, so that none is missed in between."""
        if self._watch is None:
            self._open()
        if self._next is None:
            self._next = asyncio.Event()
        return self._next

    async def wait(self, change: asyncio.Event, limit_s: float) -> None:
        """Until the change, or the limit is over."""
        told = self._watch is not None and self._watch.descriptor is not None
        try:
            async with asyncio.timeout(limit_s if told else min(limit_s, LOOK_S)):
                await change.wait()
        except TimeoutError:
            return

    def close(self) -> None:
        if self._watch is not None and self._watch.descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._watch.descriptor)
            self._watch.close()
        self._wake()

    def _open(self) -> None:
        self._watch = Watch(self._directory)
        if self._watch.descriptor is not None:
            asyncio.get_running_loop().add_reader(self._watch.descriptor, self._changed)

    def _changed(self) -> None:
        if self._watch is not None:
            self._watch.clear()
        self._wake()

    def _wake(self) -> None:
        change, self._next = self._next, None
        if change is not None:
            change.set()
