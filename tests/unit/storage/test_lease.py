"""Who may be believed, decided without a server: leases, newcomers, which host to choose."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from mainstay.foundation.errors import Invalid
from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.dialing import Answer, best_of, connection_arguments, places_of
from mainstay.storage.database.lease import (
    LIFE_S,
    PAUSE_S,
    Beat,
    Leases,
    NotProved,
    Server,
    covers,
    is_due,
    pause_s,
)

if TYPE_CHECKING:
    from mainstay.storage.database.faults import Connection

OLD = Server(b"yesterday", b"10.0.0.1", b"5432")
NEW = Server(b"today", b"10.0.0.2", b"5432")


def test_a_beat_covers_one_life_of_one_server_for_one_second() -> None:
    beat = Beat(OLD, 100.0)
    assert covers(beat, OLD, 99.0)
    assert covers(beat, OLD, 100.0 + LIFE_S)
    assert not covers(beat, OLD, 100.0 + LIFE_S + 0.001)
    assert not covers(beat, NEW, 100.0)
    assert not covers(beat, OLD._replace(started=b"since then"), 100.0)
    assert not covers(None, OLD, 100.0)


def test_a_lease_is_renewed_before_it_ends() -> None:
    beat = Beat(OLD, 100.0)
    assert not is_due(beat, 100.1)
    assert is_due(beat, 100.0 + LIFE_S / 2)


def test_a_writer_waits_until_every_lease_on_another_server_has_ended() -> None:
    assert pause_s(100.0, 100.0) == pytest.approx(PAUSE_S)
    assert PAUSE_S > LIFE_S
    assert pause_s(100.0, 100.5) == pytest.approx(PAUSE_S - 0.5)
    assert pause_s(100.0, 200.0) == 0


@dataclass
class Heart:
    """Beats as it is told."""

    answers: list[Beat | Exception] = field(default_factory=list)
    beats: int = 0

    def beat(self) -> Beat:
        self.beats += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def heart() -> Heart:
    return Heart([Beat(OLD, 100.0)])


@pytest.fixture
def now_s() -> list[float]:
    return [100.0]


@pytest.fixture
def leases(heart: Heart, now_s: list[float]) -> Iterator[Leases]:
    leases = Leases(heart.beat, clock_s=lambda: now_s[0])
    yield leases
    leases.close()


def test_the_first_read_asks_and_the_next_ones_need_not(leases: Leases, heart: Heart) -> None:
    for _ in range(50):
        leases.prove(OLD)
    assert heart.beats == 1


def test_an_old_lease_is_worth_nothing(leases: Leases, heart: Heart, now_s: list[float]) -> None:
    leases.prove(OLD)
    now_s[0] += LIFE_S + 0.1
    heart.answers = [DatabaseAway("it does not answer")]
    with pytest.raises(NotProved, match="does not answer"):
        leases.prove(OLD)


def test_a_server_that_is_not_the_one_that_commits_is_not_believed(leases: Leases) -> None:
    leases.prove(OLD)
    with pytest.raises(NotProved, match="another server"):
        leases.prove(NEW)


def test_a_heartbeat_under_way_counts_only_for_what_it_covers(leases: Leases, heart: Heart) -> None:
    """A crowd asks at once; one or two heartbeats answer all of them."""
    threads = [threading.Thread(target=leases.prove, args=(OLD,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert heart.beats <= 3


class Line:
    """Stands for a connection."""


def answer(place: int, timeline: int) -> Answer:
    return Answer(place, timeline, cast("Connection", Line()))


def test_the_primary_on_the_highest_timeline_is_chosen() -> None:
    zombie, standby, primary = answer(0, 3), answer(1, 0), answer(2, 4)
    assert best_of([zombie, standby, primary], frozenset()) is primary
    assert best_of([standby], frozenset()) is None
    assert best_of([], frozenset()) is None


def test_a_server_that_could_not_commit_is_the_last_choice() -> None:
    one, other = answer(0, 4), answer(1, 4)
    assert best_of([one, other], frozenset({0})) is other
    assert best_of([one], frozenset({0})) is one


def test_a_url_of_several_hosts_is_taken_apart() -> None:
    arguments = connection_arguments(
        "postgresql://mainstay:secret@one:5432,two:5433/db?target_session_attrs=read-write&connect_timeout=9"
    )
    assert places_of(arguments) == [{"host": "one", "port": "5432"}, {"host": "two", "port": "5433"}]
    assert "target_session_attrs" not in arguments, "what it would decide is decided here"
    assert arguments["connect_timeout"] == "9"
    assert places_of({"host": "one,two", "port": "6432"}) == [
        {"host": "one", "port": "6432"},
        {"host": "two", "port": "6432"},
    ]
    assert places_of({}) == [{}]
    with pytest.raises(Invalid):
        places_of({"host": "one,two,three", "port": "1,2"})


def test_a_bug_in_one_heartbeat_does_not_end_all(leases: Leases, heart: Heart) -> None:
    """The thread that beats is the only one; without it this process would never read again."""
    heart.answers = [ZeroDivisionError("a bug"), Beat(OLD, 100.0)]
    with pytest.raises(NotProved, match="a bug"):
        leases.prove(OLD)
    leases.prove(OLD)
    assert heart.beats == 2


def test_who_waits_for_a_proof_is_told_at_once_that_it_is_in_vain() -> None:
    began, ended = threading.Event(), threading.Event()

    def beat() -> Beat:
        began.set()
        ended.wait(30)
        return Beat(OLD, 100.0)

    leases = Leases(beat, clock_s=lambda: 100.0)
    telling = threading.Thread(target=lambda: (began.wait(30), leases.interrupt("only here is none")))
    telling.start()
    try:
        with pytest.raises(NotProved, match="only here is none"):
            leases.prove(OLD)
    finally:
        ended.set()
        telling.join()
        leases.close()
