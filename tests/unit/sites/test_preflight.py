"""Everything that keeps a machine from becoming a replica is said at once, with what to do."""

from dataclasses import replace

import pytest

from mainstay.ops.sites.preflight import (
    Machine,
    NotFacts,
    NotReady,
    PrimaryFacts,
    as_answer,
    duration,
    estimate,
    facts_in,
    problems,
    texts_of,
)

GIB = 1024**3
PRIMARY = PrimaryFacts(
    name="paris",
    version="0.4",
    postgresql_major=15,
    database_bytes=GIB,
    objects_bytes=9 * GIB,
    objects_items=1234,
    now_ms=1_000_000,
    schema_current=3,
    schema_floor=2,
    sites_address="paris:7443",
    database_address="paris:7444",
)
READY = Machine(
    postgresql_majors=(15,),
    free_bytes=13 * GIB,
    clock_off_ms=200,
    ports_taken={},
    directory="empty",
    schema_current=3,
    schema_floor=2,
    bytes_per_s=10 * 1024**2,
)


def only(machine: Machine, primary: PrimaryFacts = PRIMARY) -> str:
    found = problems(machine, primary)
    assert len(found) == 1
    return f"{found[0].what}: {found[0].do}"


def test_a_fresh_machine_that_has_everything_may_go_on() -> None:
    assert problems(READY, PRIMARY) == []


def test_another_postgresql_is_named_with_the_package_to_install() -> None:
    said = only(replace(READY, postgresql_majors=(14, 16)))
    assert "has PostgreSQL 15, this machine has 14, 16" in said
    assert "apt-get install postgresql-15" in said
    assert "this machine has none" in only(replace(READY, postgresql_majors=()))


def test_a_disk_needs_room_for_both_and_a_fifth() -> None:
    assert problems(replace(READY, free_bytes=12 * GIB), PRIMARY) == []
    said = only(replace(READY, free_bytes=12 * GIB - 1))
    assert "have 12.0 GiB free" in said
    assert problems(replace(READY, free_bytes=0, directory="ours"), PRIMARY) == []


def test_a_clock_that_is_off_is_told_in_which_direction() -> None:
    assert problems(replace(READY, clock_off_ms=5_000), PRIMARY) == []
    assert "5.0 s ahead of the primary's" in only(replace(READY, clock_off_ms=5_001))
    assert "7.0 s behind the primary's" in only(replace(READY, clock_off_ms=-7_000))


def test_programs_one_release_apart_run_side_by_side_and_others_do_not() -> None:
    older = replace(READY, schema_current=2, schema_floor=1)
    assert problems(older, PRIMARY) == []
    assert "install version 0.4 here" in only(replace(older, schema_current=1))
    newer = replace(READY, schema_current=4)
    assert "upgrade the primary first" in only(newer)


def test_all_problems_come_at_once() -> None:
    machine = replace(
        READY,
        postgresql_majors=(),
        clock_off_ms=60_000,
        ports_taken={"http": "127.0.0.1:8080 is taken", "database_listen": "no such address"},
        directory="occupied",
        directory_says="it belongs to another instance",
        database_reached="connection refused",
    )
    found = problems(machine, PRIMARY)
    assert len(found) == 6
    error = NotReady(found)
    assert str(error).count("\n") == 5
    assert "--database-listen" in str(error)
    assert error.problems == found


def test_the_time_of_the_copy_follows_from_the_measured_line() -> None:
    guess = estimate(READY, PRIMARY)
    assert guess.seconds == 1024
    assert guess.text() == "10.0 GiB at 10.0 MiB/s: about 17 min"
    assert "a slow line" in estimate(replace(READY, bytes_per_s=1000.0), PRIMARY).text()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (119, "119 s"), (120, "2 min"), (7300, "2 h 1 min")]
)
def test_durations_are_said_in_their_largest_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_what_the_primary_says_goes_over_as_texts_and_comes_back() -> None:
    assert facts_in(texts_of(PRIMARY)) == PRIMARY
    with pytest.raises(NotFacts):
        facts_in({**texts_of(PRIMARY), "database_bytes": "many"})
    with pytest.raises(NotFacts):
        facts_in({})


def test_the_answer_for_programs_has_problems_and_estimate() -> None:
    answer = as_answer(replace(READY, clock_off_ms=9_000), PRIMARY)
    assert answer["problems"][0]["do"].startswith("let both machines keep time")
    assert answer["estimate"] == {"bytes": 10 * GIB, "seconds": 1024.0}
