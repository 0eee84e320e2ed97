"""Two sites and a witness under every fault at once: never two that acknowledge, and nothing lost.

Each schedule is one seed. A failure names it: `World(seed).run()` plays it again.
"""

from dataclasses import replace

import pytest

from mainstay.cluster.witness.terms import Terms
from support.long import only_long
from support.two_sites import Broken, Rules, World

SCHEDULES = 120
SCHEDULES_LONG = 20_000


class Marginless(Terms):
    """Terms that nobody has checked."""

    def __post_init__(self) -> None:
        return


BROKEN = {
    "no margin: the holder counts to the end of the term": Rules(
        terms=Marginless(usable_s=10.0, renew_every_s=0.5)
    ),
    "a replica is promoted although it may lack something": Rules(takes_over_when_behind=True),
    "the primary goes on alone before the witness knows": Rules(goes_alone_untold=True),
    "nobody looks again before acknowledging": Rules(checks_before_acknowledging=False),
}


def run(seeds: range, rules: Rules | None = None) -> int:
    """Play schedules; how many promotions there were. Raises `Broken` with the seed."""
    promotions = 0
    for seed in seeds:
        world = World(seed, rules)
        try:
            world.run()
        except Broken as broken:
            raise Broken(f"seed {seed}: {broken}") from broken
        promotions += world.promotions
    return promotions


def test_one_site_acknowledges_at_a_time_and_nothing_is_lost() -> None:
    assert run(range(SCHEDULES)) > SCHEDULES / 6, "the faults must make sites fail over"


@only_long
@pytest.mark.timeout(3600)
def test_the_same_over_many_schedules() -> None:
    assert run(range(SCHEDULES, SCHEDULES + SCHEDULES_LONG)) > SCHEDULES_LONG / 6


@pytest.mark.parametrize("rules", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_on_purpose_is_caught(rules: Rules) -> None:
    with pytest.raises(Broken, match=r"may both write|acknowledges after|lost|gone"):
        run(range(4 * SCHEDULES), rules)


def test_a_seed_plays_the_same_again() -> None:
    worlds = [World(11), World(11)]
    for world in worlds:
        world.run()
    assert worlds[0].acknowledged == worlds[1].acknowledged
    assert replace(Rules()) == Rules()
