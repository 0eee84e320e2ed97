"""When it is certain that nobody reaches the database."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from mainstay.cluster.absence import SETTLED_S, Absence
from mainstay.cluster.absence import Others as NodesThatMayLive
from mainstay.cluster.blame import PeerSays
from mainstay.cluster.nodes import Listing, NodeRow, State
from mainstay.foundation.clock import ManualClock
from mainstay.storage.database import DatabaseAway

PATIENCE_S = 30.0


def node(name: str) -> NodeRow:
    return NodeRow(
        id=name, name=name, http="", ssh="", rpc="", health="127.0.0.1:1", roles=frozenset(), labels=(),
        version="1", state="ready",
    )  # fmt: skip


class Others:
    """Answers what it was told to; who is not in the list is silent."""

    def __init__(self, **says: PeerSays) -> None:
        self.says = says
        self.asked: list[str] = []

    def ask(self, peers: Sequence[NodeRow], dependency: str) -> list[PeerSays]:
        assert dependency == "database"
        self.asked += [peer.name for peer in peers]
        return [self.says.get(peer.name, PeerSays(name=peer.name, reached=False)) for peer in peers]

    def close(self) -> None: ...


def away() -> None:
    raise DatabaseAway("gone")


@contextmanager
def absence(
    others: Others, *names: str, look: Callable[[], object] = away, look_s_max: float = PATIENCE_S
) -> Iterator[Absence]:
    asked = Absence(
        look=look, peers=lambda: [node(name) for name in names], questions=others, look_s_max=look_s_max
    )
    yield asked
    asked.close()


def denies(name: str) -> PeerSays:
    return PeerSays(name=name, reached=True, denies=True)


@pytest.mark.parametrize(
    ("says", "is_certain"),
    [
        (denies("b"), True),
        (PeerSays(name="b", reached=True, well=True), False),
        (PeerSays(name="b", reached=True), False),
        (PeerSays(name="b", reached=False), False),
    ],
    ids=["denies", "well", "no clear answer", "silent"],
)
def test_every_other_node_has_to_deny(says: PeerSays, is_certain: bool) -> None:
    with absence(Others(b=says, c=denies("c")), "b", "c") as asked:
        assert asked.is_certain() is is_certain


def test_all_of_many_are_asked() -> None:
    names = [f"n{number}" for number in range(12)]
    others = Others(**{name: denies(name) for name in names[:-1]})
    with absence(others, *names) as asked:
        assert not asked.is_certain()
    assert others.asked == names


def test_an_answer_here_is_enough_to_doubt() -> None:
    with absence(Others(), look=lambda: None) as asked:
        assert not asked.is_certain()


def test_who_never_saw_the_database_knows_nothing() -> None:
    asked = Absence(look=away, peers=lambda: None, questions=Others())
    assert not asked.is_certain()
    asked.close()


def test_a_look_that_hangs_is_no_answer_but_one_that_did_not_begin_says_nothing() -> None:
    release = threading.Event()
    with absence(Others(), look=lambda: release.wait(PATIENCE_S), look_s_max=0.05) as asked:
        assert [asked.is_certain() for _ in range(4)] == [True] * 4
        assert not asked.is_certain(), "all threads hang"
        release.set()


def test_who_asks_during_a_round_is_told_by_a_later_one() -> None:
    """The database comes back while somebody asks; who asks from then on hears of it."""
    is_back, asking, go_on = threading.Event(), threading.Event(), threading.Event()

    def look() -> None:
        was_back = is_back.is_set()
        asking.set()
        assert go_on.wait(PATIENCE_S)
        if not was_back:
            raise DatabaseAway("gone")

    said: dict[str, bool] = {}
    with absence(Others(), look=look) as asked:
        first = threading.Thread(target=lambda: said.update(first=asked.is_certain()))
        first.start()
        assert asking.wait(PATIENCE_S)
        is_back.set()
        second = threading.Thread(target=lambda: said.update(second=asked.is_certain()))
        second.start()
        go_on.set()
        first.join(PATIENCE_S)
        second.join(PATIENCE_S)
    assert said == {"first": True, "second": False}


class List:
    """The list of nodes of a database that is there, or not."""

    def __init__(self, *rows: NodeRow) -> None:
        self.rows: tuple[NodeRow, ...] | None = rows

    def __call__(self) -> Listing:
        if self.rows is None:
            raise DatabaseAway("gone")
        return Listing(now_ms=1_000_000, nodes=self.rows)


def beating(name: str, *, ago_ms: int = 0, state: State = "ready") -> NodeRow:
    return replace(node(name), beat_ms=1_000_000 - ago_ms, state=state)


def names(others: NodesThatMayLive) -> list[str] | None:
    asked = others.to_ask()
    return None if asked is None else [each.name for each in asked]


def test_who_does_not_beat_is_dead_only_when_the_database_was_there_for_a_while() -> None:
    clock, listed = ManualClock(), List(beating("me"), beating("b", ago_ms=3_600_000), beating("c"))
    others = NodesThatMayLive(listed, me="me", clock=clock)
    assert names(others) is None
    others.look()
    assert names(others) == ["b", "c"], "perhaps it has only not beaten yet"
    clock.advance(SETTLED_S + 1)
    others.look()
    assert names(others) == ["c"]

    rows, listed.rows = listed.rows, None
    with pytest.raises(DatabaseAway):
        others.look()
    assert names(others) == ["c"], "as it was last"
    listed.rows = rows
    others.look()
    assert names(others) == ["b", "c"], "after an outage it begins anew"


def test_who_has_said_that_it_stops_is_gone() -> None:
    others = NodesThatMayLive(List(beating("b", state="stopped")), me="me", clock=ManualClock())
    others.look()
    assert names(others) == []
