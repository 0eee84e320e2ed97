"""A replica turns to the newest primary by itself, unless it has too much; pushes wait for who has all."""

from dataclasses import replace

from mainstay.ops.sites import following, waiting
from mainstay.ops.sites.following import Follow, Following, Stay
from mainstay.ops.sites.waiting import Candidate
from mainstay.storage.database.fence import Claim

VIEW = Following(
    me="OSLO",
    follows="PARIS",
    newest=Claim(2, "BERLIN", "berlin", "https://berlin"),
    database_address="berlin:7444",
    timeline=1,
    received=900,
    forks={1: 1000},
)


def test_a_replica_follows_who_was_promoted() -> None:
    assert following.decide(VIEW) == Follow("BERLIN", "berlin was promoted to epoch 2")


def test_it_stays_with_whom_it_follows_and_when_nobody_is_newer() -> None:
    assert isinstance(following.decide(replace(VIEW, follows="BERLIN")), Stay)
    assert isinstance(following.decide(replace(VIEW, newest=Claim())), Stay)
    assert isinstance(following.decide(replace(VIEW, newest=Claim(3, "OSLO"))), Stay)


def test_who_has_more_than_the_new_primary_is_stuck_and_says_so() -> None:
    stuck = following.decide(replace(VIEW, received=1001))
    assert isinstance(stuck, Stay)
    assert stuck.is_stuck
    assert "1 bytes of the old primary's history that berlin has not" in stuck.because
    assert isinstance(following.decide(replace(VIEW, received=1000)), Follow)


def test_a_timeline_that_was_not_left_there_is_followed() -> None:
    assert isinstance(following.decide(replace(VIEW, timeline=2, received=5000)), Follow)
    assert isinstance(following.decide(replace(VIEW, forks={})), Follow)


def test_a_paused_one_and_an_unknown_address_wait() -> None:
    paused = following.decide(replace(VIEW, is_paused=True))
    assert isinstance(paused, Stay)
    assert paused.is_stuck
    assert isinstance(following.decide(replace(VIEW, database_address="")), Stay)


NEAR = Candidate(stream="berlin", is_wanted=True, is_streaming=True, behind_bytes=100)


def test_pushes_wait_for_a_synchronous_replica_once_it_has_caught_up() -> None:
    found = waiting.decide([NEAR], [])
    assert found.names == ("berlin",)
    assert found.because == "berlin has caught up"
    for late in (
        replace(NEAR, behind_bytes=waiting.NEAR_BYTES + 1),
        replace(NEAR, behind_bytes=None),
        replace(NEAR, is_streaming=False),
        replace(NEAR, has_objects=False),
    ):
        assert waiting.decide([late], []).names == ()


def test_one_that_is_waited_for_stays_so_while_it_is_away() -> None:
    away = replace(NEAR, is_streaming=False, behind_bytes=None)
    assert waiting.decide([away], ["berlin"]).names == ("berlin",)


def test_nobody_waits_for_who_was_paused_or_removed() -> None:
    assert waiting.decide([replace(NEAR, is_wanted=False)], ["berlin"]).names == ()
    gone = waiting.decide([], ["berlin"])
    assert (gone.names, gone.because) == ((), "berlin is no site any more")
