"""Plain blocking functions, called from code that waits: a bounded pool of threads."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Held = TypeVar("Held")

_ENTERING_MAX = 4
"""Of one repository."""


@dataclass(slots=True)
class _Gate:
    """Where those wait who want to enter the same."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_ENTERING_MAX))
    users: int = 0


class Threads:
    """The pool. What runs in it keeps the caller's log context."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="git")
        self._gates: dict[int, _Gate] = {}

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: context.run(function, *args, **kwargs))

    async def run_to_the_end(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Like `run`, but a cancelled caller still waits: a commit is never left half observed."""
        task = asyncio.ensure_future(self.run(function, *args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise

    async def run_few(self, of: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Like `run`, but for one repository few run at a time.

        A caller that is cancelled does not wait; its place is free when its thread is.
        """
        running = await self._begun(partial(function, *args, **kwargs), of)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(_forget)
            raise

    def later(self, function: Callable[[], None]) -> None:
        """Run `function` soon, with nobody waiting for it; `close` waits. It must not raise."""
        self._pool.submit(function)

    @asynccontextmanager
    async def holding(
        self, manager: AbstractContextManager[Held], *, of: int | None = None
    ) -> AsyncIterator[Held]:
        """Enter a blocking context manager in a thread; leaving it must be quick.

        A caller that is cancelled while it enters does not wait for that, and what was entered is left.
        Of one repository few enter at a time: a herd that waits for a pack from far away leaves threads for
        everybody else.
        """
        entering = await self._begun(manager.__enter__, of)
        try:
            held = await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda entered: _leave(manager, entered))
            raise
        try:
            yield held
        finally:
            manager.__exit__(None, None, None)

    async def _begun(self, function: Callable[[], R], of: int | None) -> asyncio.Future[R]:
        """Let it run, once there is a place."""
        if of is None:
            return asyncio.ensure_future(self.run(function))
        gate = self._gates.setdefault(of, _Gate())
        gate.users += 1
        try:
            await gate.places.acquire()
        except asyncio.CancelledError:
            self._leave_gate(of)
            raise
        running = asyncio.ensure_future(self.run(function))
        # Not when the caller goes, but when the thread is free again.
        running.add_done_callback(lambda _: self._leave_gate(of, entered=True))
        return running

    def _leave_gate(self, of: int, *, entered: bool = False) -> None:
        gate = self._gates[of]
        if entered:
            gate.places.release()
        gate.users -= 1
        if not gate.users:
            del self._gates[of]

    def close(self) -> None:
        self._pool.shutdown(wait=True)


def _leave(manager: AbstractContextManager[Held], entered: asyncio.Future[Held]) -> None:
    if not entered.cancelled() and entered.exception() is None:
        manager.__exit__(None, None, None)


def _forget(running: asyncio.Future[Any]) -> None:
    """What it raised is of interest to nobody any more."""
    if not running.cancelled():
        running.exception()


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they are over, however they end; what they raised is theirs."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
