"""Whom to ask, from answers that are kept: what is old does while nobody can be asked."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mainstay.cluster.placement import GitNode, ranked
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.repository.remote.asking import may_ask_another
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.roster import NoGitNode, Roster

NODES = [GitNode(id=name, host="192.0.2.1", port=9443) for name in ("N1", "N2", "N3", "N4")]


class Answers:
    """Gives one answer after another, and counts."""

    def __init__(self, *answers: Any) -> None:
        self.left = list(answers)
        self.asked = 0

    def __call__(self) -> Any:
        self.asked += 1
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def roster(nodes: Callable[[], Any], clock: ManualClock, *, label: str = "") -> Roster:
    return Roster(nodes=nodes, label_of=lambda _: label, clock=clock)


def test_an_answer_is_kept_while_it_is_fresh() -> None:
    clock, answers = ManualClock(), Answers("one", "two")

    async def look() -> None:
        kept = Kept(answers, fresh_s=2, clock=clock)
        assert [await kept.get(), await kept.get()] == ["one", "one"]
        assert answers.asked == 1
        clock.advance(60)
        assert await kept.get() == "two"

    asyncio.run(look())


def test_an_old_answer_does_while_nobody_can_be_asked() -> None:
    clock, answers = ManualClock(), Answers("one", Unavailable("the database is away"))

    async def look() -> None:
        kept = Kept(answers, fresh_s=2, clock=clock)
        assert await kept.get() == "one"
        for _ in range(3):
            clock.advance(60)
            assert await kept.get() == "one"
        assert await kept.renewed() == "one"
        assert answers.asked == 5

    asyncio.run(look())


def test_without_any_answer_the_reason_is_told() -> None:
    async def look() -> None:
        kept: Kept[str] = Kept(
            Answers(Unavailable("the database is away"), "one"), fresh_s=2, clock=ManualClock()
        )
        with pytest.raises(Unavailable, match="database"):
            await kept.get()
        assert await kept.get() == "one"

    asyncio.run(look())


def test_many_who_ask_at_once_ask_once() -> None:
    answers = Answers("one")

    async def look() -> list[Any]:
        kept = Kept(answers, fresh_s=2, clock=ManualClock())
        return await asyncio.gather(*(kept.get() for _ in range(20)))

    assert asyncio.run(look()) == ["one"] * 20
    assert answers.asked == 1


def test_who_failed_is_asked_last_for_some_seconds() -> None:
    clock = ManualClock()
    first, second, *_ = ranked(7, NODES)

    async def look() -> None:
        asked = roster(lambda: NODES, clock)
        assert {each.id for each in (await asked.order_for(7))[:2]} == {first.id, second.id}
        asked.failed(first)
        order = await asked.order_for(7)
        assert (order[0], order[-1]) == (second, first)
        clock.advance(6)
        assert {each.id for each in (await asked.order_for(7))[:2]} == {first.id, second.id}

    asyncio.run(look())


def test_the_busier_of_the_two_is_asked_second() -> None:
    async def look() -> None:
        asked = roster(lambda: NODES, ManualClock())
        first = (await asked.order_for(7))[0]
        with asked.busy(first):
            assert (await asked.order_for(7))[1] == first
        assert not asked._busy

    asyncio.run(look())


def test_nobody_is_said_to_be_nobody_and_looked_for_again() -> None:
    answers = Answers([], [], NODES)

    async def look() -> None:
        asked = roster(answers, ManualClock())
        with pytest.raises(NoGitNode, match="no node"):
            await asked.order_for(7)
        assert await asked.order_for(7)

    asyncio.run(look())


def test_a_label_that_cannot_be_found_out_is_none() -> None:
    def away(_: int) -> str:
        raise Unavailable("the database is away")

    async def look() -> int:
        return len(await Roster(nodes=lambda: NODES, label_of=away, clock=ManualClock()).order_for(7))

    assert asyncio.run(look()) == len(NODES)


def test_another_node_is_asked_only_when_nothing_would_be_done_twice() -> None:
    assert may_ask_another(can_start_again=True, answered_bytes=0, time_left_s=1)
    assert not may_ask_another(can_start_again=False, answered_bytes=0, time_left_s=1)
    assert not may_ask_another(can_start_again=True, answered_bytes=1, time_left_s=1)
    assert not may_ask_another(can_start_again=True, answered_bytes=0, time_left_s=0)
