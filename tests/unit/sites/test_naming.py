"""Whom commits wait for and whom the witness names: never a replica that may lack something."""

from dataclasses import replace

from mainstay.ops.sites.naming import AWAY_S_MAX, Name, Standing, Stay, WaitFor, decide

NEW = Standing(site_id="berlin", is_wanted=True, is_waited_for=False)
NEAR = replace(NEW, has_nearly_all=True)
WAITED = replace(NEAR, is_waited_for=True)
WHOLE = replace(WAITED, has_everything=True)
GONE = replace(WHOLE, away_s=AWAY_S_MAX + 1)
OTHER = replace(WHOLE, site_id="rome")


def test_a_replica_becomes_the_named_one_step_by_step() -> None:
    assert isinstance(decide([NEW], named=""), Stay)
    step = decide([NEAR], named="")
    assert isinstance(step, WaitFor)
    assert step.site_ids == {"berlin"}
    assert isinstance(decide([WAITED], named=""), Stay), "it may lack what was acknowledged before"
    step = decide([WHOLE], named="")
    assert isinstance(step, Name)
    assert step.site_id == "berlin"
    assert isinstance(decide([WHOLE], named="berlin"), Stay)


def test_one_that_is_away_is_named_no_more_before_nobody_waits_for_it() -> None:
    assert isinstance(decide([replace(WHOLE, away_s=1.0)], named="berlin"), Stay), "perhaps it comes back"
    step = decide([GONE], named="berlin")
    assert isinstance(step, Name)
    assert step.site_id == ""
    assert "away for" in step.because
    step = decide([GONE], named="")
    assert isinstance(step, WaitFor)
    assert step.site_ids == frozenset()


def test_while_it_is_not_certain_whom_the_witness_names_nothing_changes() -> None:
    for sites in ([GONE], [WHOLE], [NEAR], []):
        assert isinstance(decide(sites, named=None), Stay)


def test_another_one_that_has_everything_takes_its_place() -> None:
    step = decide([GONE, OTHER], named="berlin")
    assert isinstance(step, Name)
    assert step.site_id == "rome"
    step = decide([GONE, OTHER], named="rome")
    assert isinstance(step, WaitFor)
    assert step.site_ids == {"rome"}


def test_who_was_paused_or_removed_is_named_no_more_first() -> None:
    unwanted = replace(WHOLE, is_wanted=False)
    step = decide([unwanted], named="berlin")
    assert isinstance(step, Name)
    assert step.site_id == ""
    assert isinstance(decide([unwanted], named=""), WaitFor)


def test_a_name_of_before_that_nobody_waits_for_is_taken_back() -> None:
    for sites in ([NEW], [NEAR], []):
        step = decide(sites, named="berlin")
        assert isinstance(step, Name)
        assert step.site_id == ""


def test_one_that_is_away_for_a_moment_is_not_named() -> None:
    assert isinstance(decide([replace(WHOLE, away_s=0.5)], named=""), Stay)
