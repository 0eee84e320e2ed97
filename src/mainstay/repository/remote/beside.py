"""An event loop in a thread of its own, for callers that block: pages and the API ask other nodes, too."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, TypeVar

from mainstay.foundation.errors import Unavailable

Result = TypeVar("Result")

_PIECES_AHEAD = 4
_START_S_MAX = 30.0
_END_S_MAX = 10.0


class Unanswered(Unavailable):
    """It was not waited for to the end: nobody knows what became of it."""


class Passing:
    """What is written in the loop goes to who hears in another thread; a few pieces ahead, then it waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = asyncio.Semaphore(_PIECES_AHEAD)
        self.bytes_written = 0

    async def write(self, chunk: bytes) -> None:
        await self._room.acquire()
        self.bytes_written += len(chunk)
        self._pieces.put(chunk)

    def end(self) -> None:
        self._pieces.put(None)

    def pass_on(self, hear: Callable[[bytes], None]) -> None:
        """Until the end."""
        while (piece := self._pieces.get()) is not None:
            hear(piece)
            self._loop.call_soon_threadsafe(self._room.release)


class Beside:
    """The loop. `close` it after the last call."""

    def __init__(self, name: str) -> None:
        self._up = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        assert self._up.wait(_START_S_MAX), "the loop did not start"

    def run(self, work: Coroutine[Any, Any, Result], *, s_max: float) -> Result:
        """Do the work there and wait for it. Raises `Unanswered` when it takes too long, and ends it."""
        return _result(asyncio.run_coroutine_threadsafe(_within(work, s_max), self._loop))

    def stream(
        self,
        work: Callable[[Passing], Coroutine[Any, Any, None]],
        *,
        hear: Callable[[bytes], None],
        s_max: float,
    ) -> None:
        """Like `run`, and tell `hear`, in this thread, what the work writes. What `hear` raises ends it."""
        passing = Passing(self._loop)
        doing = asyncio.run_coroutine_threadsafe(_within(work(passing), s_max), self._loop)
        doing.add_done_callback(lambda _: passing.end())
        try:
            passing.pass_on(hear)
        finally:
            doing.cancel()  # nothing when it has ended
        _result(doing)

    def close(self) -> None:
        """End what still runs, too."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(_END_S_MAX)

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._up.set()
        await self._over.wait()


async def _within(work: Coroutine[Any, Any, Result], s_max: float) -> Result:
    try:
        async with asyncio.timeout(s_max):
            return await work
    except TimeoutError as error:
        raise Unanswered(f"another node took longer than {s_max:.0f} s for this") from error


def _result(doing: Future[Result]) -> Result:
    try:
        return doing.result()
    except CancelledError as error:
        raise Unanswered("this process is about to end: try again") from error
