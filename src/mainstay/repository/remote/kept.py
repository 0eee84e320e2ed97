"""An answer that is asked for again and again: kept for a moment, and longer when nobody can be asked.

For what a request needs to know but must not wait for: who lives, which token is good. The question blocks,
so it is asked in a thread, by one at a time; meanwhile the old answer does.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, Unavailable
from mainstay.foundation.logs import get_logger

log = get_logger()

Answer = TypeVar("Answer")

_OLD_TIMES = 3
"""An answer this many times older than it should be is worth a wait."""


class Kept(Generic[Answer]):
    """`ask` is asked when the answer is older than `fresh_s`; who has an old answer waits `wait_s_max`."""

    def __init__(
        self, ask: Callable[[], Answer], *, fresh_s: float, clock: Clock, wait_s_max: float = 1.0
    ) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._wait_s_max = wait_s_max
        self._clock = clock
        self._answer: tuple[Answer] | None = None
        self._asked_s = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def get(self) -> Answer:
        """The answer. Raises what the question raised when there never was one."""
        age_s = self._clock.monotonic_s() - self._asked_s
        if age_s > self._fresh_s:
            asking = self._start()
            if self._answer is None:
                await asyncio.shield(asking)
            elif age_s > _OLD_TIMES * self._fresh_s:
                await self._wait_a_moment(asking)
        if self._answer is None:
            raise Unavailable("this could not be found out: try again")
        return self._answer[0]

    async def renewed(self, *, apart_s: float = 0.0) -> Answer:
        """The answer as of now. Who comes sooner than `apart_s` after the last question waits until then."""
        early_s = self._asked_s + apart_s - self._clock.monotonic_s()
        if early_s > 0:
            await asyncio.sleep(early_s)
        await self._wait_a_moment(self._start())
        return await self.get()

    async def _wait_a_moment(self, asking: asyncio.Task[None]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s_max):
                await asyncio.shield(asking)

    def _start(self) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(self._find_out())
        return self._asking

    async def _find_out(self) -> None:
        try:
            self._answer = (await asyncio.to_thread(self._ask),)
        except MainstayError as error:
            if self._answer is None:
                raise
            log.warning("remote.old_answer_kept", reason=str(error))
        self._asked_s = self._clock.monotonic_s()
