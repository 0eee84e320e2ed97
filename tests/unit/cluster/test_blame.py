"""Whose fault is it that a dependency does not answer?"""

import pytest

from mainstay.cluster.blame import (
    FIND_AGAIN_S,
    WELL,
    Kind,
    PeerSays,
    Verdict,
    View,
    decide,
    should_send_away,
)

WELL_B = PeerSays(name="b", reached=True, well=True)
ILL_B = PeerSays(name="b", reached=True)
SILENT_B = PeerSays(name="b", reached=False)
SILENT_C = PeerSays(name="c", reached=False)


def view(*peers: PeerSays, was_shared: bool = False) -> View:
    return View(dependency="database", answers=False, peers=peers, was_shared=was_shared)


def test_a_dependency_that_answers_is_nobodys_fault() -> None:
    assert decide(View(dependency="database", answers=True, peers=[WELL_B])) == WELL
    assert WELL.takes_traffic


def test_a_node_that_alone_does_not_reach_it_leaves_the_rotation() -> None:
    verdict = decide(view(SILENT_C, WELL_B))
    assert verdict == Verdict("alone", "the database answers b but not this node")
    assert not verdict.takes_traffic


def test_what_is_away_for_all_takes_nobody_out() -> None:
    verdict = decide(view(ILL_B, SILENT_C))
    assert verdict == Verdict("shared", "the database answers neither this node nor b")
    assert verdict.takes_traffic


def test_a_node_without_others_stays() -> None:
    verdict = decide(view())
    assert verdict.takes_traffic
    assert "no other node" in verdict.because


def test_a_node_that_reaches_neither_the_database_nor_others_is_cut_off() -> None:
    verdict = decide(view(SILENT_C, SILENT_B))
    assert verdict == Verdict("cut_off", "neither the database nor b and c answers this node")
    assert not verdict.takes_traffic


def test_the_last_node_in_a_long_outage_goes_on() -> None:
    verdict = decide(view(SILENT_B, was_shared=True))
    assert verdict.kind == "shared"
    assert decide(view(WELL_B, was_shared=True)).kind == "alone", "unless another does better by now"


@pytest.mark.parametrize("kind", ["alone", "cut_off"])
def test_the_reason_is_told(kind: str) -> None:
    said = {"alone": decide(view(WELL_B)), "cut_off": decide(view(SILENT_B))}[kind]
    assert (said.kind, bool(said.because)) == (kind, True)


@pytest.mark.parametrize(
    ("kind", "shared_ago_s", "sent_away"),
    [
        ("well", 100.0, False),
        ("shared", 0.0, False),
        ("alone", float("inf"), True),
        ("cut_off", float("inf"), True),
        ("alone", FIND_AGAIN_S - 0.1, False),
        ("alone", FIND_AGAIN_S, True),
    ],
)
def test_requests_are_sent_away_by_who_is_alone_and_not_only_slower(
    kind: Kind, shared_ago_s: float, sent_away: bool
) -> None:
    assert should_send_away(Verdict(kind), shared_ago_s=shared_ago_s) is sent_away
