"""Answers that are newer than the question."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mainstay.cluster.prober import Prober
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable


@contextmanager
def probing(attempt: Callable[[], object]) -> Iterator[Prober]:
    prober = Prober("test", attempt, every_s=3600, clock=SYSTEM)
    prober.start()
    try:
        yield prober
    finally:
        prober.stop()


def test_every_question_gets_an_attempt_of_its_own() -> None:
    attempts: list[int] = []
    with probing(lambda: attempts.append(1)) as prober:
        assert prober.answers_within(10)
        assert prober.answers_within(10)
        assert len(attempts) == 2
        assert prober.seen_ago_s < 10


def test_a_failure_is_an_answer_at_once() -> None:
    def fail() -> None:
        raise Unavailable("away")

    with probing(fail) as prober:
        assert not prober.answers_within(60), "and nobody waited a minute for it"


def test_a_bug_is_no_end() -> None:
    failures = [ValueError("a bug")]

    def attempt() -> None:
        if failures:
            raise failures.pop()

    with probing(attempt) as prober:
        assert not prober.answers_within(10)
        assert prober.answers_within(10)


def test_an_attempt_that_hangs_is_no_answer_and_what_began_before_the_question_does_not_count() -> None:
    hanging, entered = threading.Event(), threading.Event()

    def attempt() -> None:
        entered.set()
        hanging.wait(30)

    with probing(attempt) as prober:
        asked = threading.Thread(target=prober.answers_within, args=(0.01,))
        asked.start()
        assert entered.wait(10)
        asked.join()
        assert not prober.answers_within(0.01)
        hanging.set()
        assert prober.answers_within(10)
