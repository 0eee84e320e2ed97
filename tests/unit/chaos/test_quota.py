"""Which fault a long run needs next, so that it shows as much as it promises."""

from support.chaos.faults import FAULTS
from support.chaos.quota import FAILOVERS, GOALS, NODE_KILLS, PARTITIONS, counted, most_wanted, sentence

WEIGHTS = {"node killed": 4.0, "two nodes killed": 8.0, "database killed": 3.0, "node unplugged": 1.0}


def test_faults_count_for_what_they_break() -> None:
    done = counted(["node killed", "two nodes killed", "node and database killed", "redis flushed"])
    assert done == {NODE_KILLS: 4, FAILOVERS: 1}


def test_what_is_farthest_behind_comes_next() -> None:
    done = counted(["two nodes killed"] * 50 + ["database killed"] * 20 + ["node unplugged"] * 2)
    want = most_wanted(done, WEIGHTS, minutes=30)
    assert want is not None
    assert want.what == PARTITIONS
    assert want.weights == {"node unplugged": 1.0}


def test_nothing_is_wanted_when_all_goals_are_reached_or_nothing_helps() -> None:
    reached = counted(
        ["two nodes killed"] * GOALS[NODE_KILLS]
        + ["database killed"] * GOALS[FAILOVERS]
        + ["node unplugged"] * GOALS[PARTITIONS]
    )
    assert most_wanted(reached, WEIGHTS, minutes=30) is None
    assert most_wanted(counted([]), {"redis flushed": 1.0}, minutes=30) is None


def test_a_short_run_aims_at_its_share() -> None:
    done = counted(["two nodes killed"] * 10 + ["database killed"] * 5 + ["node unplugged"] * 5)
    assert most_wanted(done, WEIGHTS, minutes=5) is None
    assert most_wanted(done, WEIGHTS, minutes=40) == most_wanted(done, WEIGHTS, minutes=30) is not None


def test_the_goals_are_more_than_what_was_asked_for() -> None:
    assert GOALS[NODE_KILLS] > 100
    assert GOALS[FAILOVERS] > 20
    assert GOALS[PARTITIONS] > 20
    for what in GOALS:
        assert any(what in counted([name]) for name in FAULTS), what


def test_every_name_that_counts_is_a_fault() -> None:
    assert sentence(counted(list(FAULTS))).startswith("7 node kills, 6 database failovers, 6 partitions")
