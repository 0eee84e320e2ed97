"""What is held while a coroutine runs is let go of, whenever that is cancelled."""

import asyncio
import threading
from types import TracebackType
from typing import Self

import pytest

from mainstay.repository.threads import Threads, ended

DEADLINE_S = 10


class Held:
    """Something that is slow to take, as a pack that comes from far away is."""

    def __init__(self) -> None:
        self.entering, self.may_enter, self.left = threading.Event(), threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self.entering.set()
        assert self.may_enter.wait(DEADLINE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.left.set()


@pytest.mark.parametrize("is_inside", [False, True])
def test_a_cancelled_holder_leaves(is_inside: bool) -> None:
    held, threads = Held(), Threads(2)

    async def hold(inside: asyncio.Event) -> None:
        async with threads.holding(held):
            inside.set()
            await asyncio.Event().wait()

    async def cancelled() -> None:
        inside = asyncio.Event()
        holding = asyncio.create_task(hold(inside))
        await threads.run(held.entering.wait, DEADLINE_S)
        if is_inside:
            held.may_enter.set()
            await inside.wait()
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        held.may_enter.set()
        assert await threads.run(held.left.wait, DEADLINE_S)

    asyncio.run(cancelled())
    threads.close()


def test_who_could_not_enter_does_not_leave() -> None:
    threads = Threads(1)

    class Closed(Held):
        def __enter__(self) -> Self:
            super().__enter__()
            raise OSError("it is closed")

    held = Closed()

    async def cancelled() -> None:
        holding = asyncio.create_task(threads.holding(held).__aenter__())
        await asyncio.to_thread(held.entering.wait, DEADLINE_S)
        holding.cancel()
        await asyncio.wait([holding])
        held.may_enter.set()
        await threads.run(lambda: None)

    asyncio.run(cancelled())
    threads.close()
    assert not held.left.is_set()


def test_a_herd_at_one_gate_leaves_threads_for_others() -> None:
    threads, herd, other = Threads(8), [Held() for _ in range(20)], Held()
    other.may_enter.set()

    async def hold(held: Held, of: int) -> None:
        async with threads.holding(held, of=of):
            pass

    async def crowd() -> None:
        waiting = [asyncio.create_task(hold(held, 1)) for held in herd]
        async with asyncio.timeout(DEADLINE_S):
            await hold(other, 2)
        assert sum(held.entering.is_set() for held in herd) <= 4
        for task in waiting[:10]:
            task.cancel()
        await asyncio.wait(waiting[:10])
        for held in herd:
            held.may_enter.set()
        await asyncio.gather(*waiting[10:])
        for held in [each for each in herd if each.entering.is_set()]:
            await asyncio.to_thread(held.left.wait, DEADLINE_S)

    asyncio.run(crowd())
    threads.close()
    assert all(held.left.is_set() for held in herd if held.entering.is_set())
    assert all(held.left.is_set() for held in herd[10:])


def test_work_for_one_repository_leaves_threads_for_others() -> None:
    threads, may_end, lock = Threads(8), threading.Event(), threading.Lock()
    running: list[int] = []

    def work(number: int) -> int:
        with lock:
            running.append(number)
        assert may_end.wait(DEADLINE_S)
        return number

    async def crowd() -> None:
        waiting = [asyncio.create_task(threads.run_few(1, work, number)) for number in range(12)]
        async with asyncio.timeout(DEADLINE_S):
            assert await threads.run_few(2, lambda: "other") == "other"
        assert len(running) <= 4
        for task in waiting[:6]:
            task.cancel()
        await asyncio.wait(waiting[:6])
        may_end.set()
        assert await asyncio.gather(*waiting[6:]) == [*range(6, 12)]

    asyncio.run(crowd())
    threads.close()


def test_ended_tasks_are_over_and_their_errors_are_theirs() -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    async def end() -> None:
        failing, waiting = asyncio.create_task(fail()), asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        await ended(failing, waiting)
        assert failing.done()
        assert waiting.cancelled()

    asyncio.run(end())
