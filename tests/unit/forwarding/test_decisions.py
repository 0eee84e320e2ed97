"""What becomes of a request of Git on a site, by what the site is and what is known."""

from dataclasses import replace

import pytest

from mainstay.cluster.station import ALONE, Lag, Sight
from mainstay.repository.forwarding.decisions import (
    HOPS_MAX,
    AskPrimary,
    Here,
    Refuse,
    Said,
    SendOn,
    ServeHere,
    ServeStale,
    View,
    decide,
)
from mainstay.storage.database.fence import Claim

PARIS = Claim(1, "01PARIS", "paris", "https://paris.example")
REPLICA = Sight("replica", "its database follows that of paris", PARIS, Lag(12.3, 0, is_connected=False))
FETCH = View(sight=REPLICA, is_fetch=True)
PUSH = View(sight=REPLICA, is_fetch=False)
SUPERSEDED = Sight("superseded", "it was superseded", PARIS)


def test_a_primary_serves_everything_itself() -> None:
    for view in (FETCH, PUSH):
        assert decide(replace(view, sight=ALONE)) == ServeHere("this site is the primary")


def test_a_push_goes_on_without_a_question() -> None:
    assert decide(PUSH) == SendOn("only the primary takes changes")


def test_a_fetch_asks_first() -> None:
    assert isinstance(decide(FETCH), AskPrimary)


@pytest.mark.parametrize(
    ("said", "here", "step"),
    [
        (
            Said(7),
            Here(7, is_complete=True),
            ServeHere("version 7 is here, as new as the primary's"),
        ),
        (Said(7), Here(8, is_complete=True), ServeHere("version 8 is here, as new as the primary's")),
        (Said(7), Here(6, is_complete=False), SendOn("version 6 is here, the primary has 7")),
        (Said(7), Here(7, is_complete=False), SendOn("not all packs are here yet")),
        (Said(7), None, SendOn("the repository is not here yet")),
        (Said(None), None, SendOn("the primary refuses it, and says so best itself")),
    ],
)
def test_a_fetch_is_served_here_only_when_nothing_is_missing(
    said: Said, here: Here | None, step: ServeHere | SendOn
) -> None:
    assert decide(replace(FETCH, primary="answers", said=said, here=here)) == step


def test_without_the_primary_a_fetch_is_served_and_told_how_old_it_may_be() -> None:
    step = decide(replace(FETCH, primary="away"))
    assert isinstance(step, ServeStale)
    assert step.behind == "12s"
    assert step.remark == (
        "The primary does not answer. This is a replica; what it has is at most 12 s behind it."
    )
    unknown = replace(REPLICA, lag=Lag(None, 0, is_connected=False))
    step = decide(replace(FETCH, primary="away", sight=unknown))
    assert isinstance(step, ServeStale)
    assert (step.behind, "as of its last contact" in step.remark) == ("unknown", True)


def test_without_the_primary_a_push_is_told_why_not_and_what_to_do() -> None:
    step = decide(replace(PUSH, primary="away"))
    assert isinstance(step, Refuse)
    assert step.sentence == (
        "pushes go on to the primary, and the primary (paris https://paris.example) does not answer: nothing"
        " was changed. Push again when it is back; an administrator can make this site the primary with"
        " `mainstay promote`"
    )


def test_a_superseded_site_serves_nothing_of_its_own() -> None:
    for view in (FETCH, PUSH):
        assert decide(replace(view, sight=SUPERSEDED)) == SendOn("this site is superseded")
        step = decide(replace(view, sight=SUPERSEDED, primary="away"))
        assert isinstance(step, Refuse)
        assert "not the primary any more" in step.sentence


def test_no_request_goes_round_for_ever() -> None:
    for primary in ("not asked", "answers", "away"):
        step = decide(replace(FETCH, hops=HOPS_MAX, primary=primary))
        assert isinstance(step, Refuse)
    assert decide(replace(FETCH, hops=HOPS_MAX, sight=ALONE)) == ServeHere("this site is the primary")
