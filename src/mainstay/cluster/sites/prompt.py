"""Ask something that may hang, such as a database that accepts and never answers, and do not hang with it.

Who asks again while the first question is still open waits for the same answer.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from mainstay.foundation.errors import Unavailable

Result = TypeVar("Result")

LIMIT_S: Final = 1.0
_THREADS: Final = 8


class TooSlow(Unavailable):
    """No answer came in time. It may come later, and counts for who asks then."""


class Prompt:
    """Safe for threads."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._open: dict[str, Future[Any]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="prompt")

    def ask(self, about: str, question: Callable[[], Result]) -> Result:
        """The answer; what the question raises, too. Raises `TooSlow`."""
        with self._lock:
            answer = self._open.get(about)
            is_new = answer is None
            if answer is None:
                answer = self._open[about] = self._threads.submit(question)
        if is_new:
            answer.add_done_callback(lambda _: self._forget(about))  # at once, perhaps: not under the lock
        try:
            return answer.result(self._limit_s)  # type: ignore[no-any-return]  # one kind of answer per `about`
        except TimeoutError:
            if answer.done():
                raise
            raise TooSlow(f"no answer about {about} within {self._limit_s:g} s") from None

    def close(self) -> None:
        """Nobody waits for what is still open."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget(self, about: str) -> None:
        with self._lock:
            self._open.pop(about, None)
