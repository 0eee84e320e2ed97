"""What becomes of a process that ended."""

from dataclasses import replace

from mainstay.boot.fate import Ended, LetRest, Restart, StopNode, decide

CRASHED = Ended(process="web", exit_code=-9, ran_s=5.0, was_ready=True, failures_before=0)


def test_a_process_that_died_in_a_ready_node_is_started_again() -> None:
    decision = decide(CRASHED, node_was_ready=True, stopping=False)
    assert decision == Restart(0.2, 1, "web was killed by signal 9 after 5.0 s")


def test_pauses_grow_with_each_failure_and_have_a_ceiling() -> None:
    pauses = []
    for failures in (0, 1, 2, 50):
        decision = decide(replace(CRASHED, failures_before=failures), node_was_ready=True, stopping=False)
        assert isinstance(decision, Restart)
        pauses.append(decision.pause_s)
    assert pauses == [0.2, 0.4, 0.8, 15.0]


def test_a_process_that_worked_for_long_is_started_at_once_and_its_past_is_forgotten() -> None:
    ended = replace(CRASHED, ran_s=3600.0, failures_before=9, exit_code=0)
    assert decide(ended, node_was_ready=True, stopping=False) == Restart(
        0.0, 0, "web ended with code 0 after 3600 s"
    )


def test_a_process_that_never_starts_stops_the_node_with_a_reason() -> None:
    never = replace(CRASHED, was_ready=False, failures_before=1, exit_code=70, ran_s=0.5)
    assert isinstance(decide(never, node_was_ready=False, stopping=False), Restart)
    third = replace(never, failures_before=2)
    assert decide(third, node_was_ready=False, stopping=False) == StopNode(
        "the web process cannot start: it ended with code 70 3 times"
    )


def test_a_node_that_once_was_ready_never_gives_up() -> None:
    hopeless = replace(CRASHED, was_ready=False, failures_before=1000)
    assert isinstance(decide(hopeless, node_was_ready=True, stopping=False), Restart)


def test_nothing_is_started_while_the_node_stops() -> None:
    decision = decide(CRASHED, node_was_ready=True, stopping=True)
    assert decision == LetRest("web was killed by signal 9 while the node stops")
