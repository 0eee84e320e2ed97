"""Stretches of a feed, done in any order: what is said of them is true, and in the end it is all."""

from hypothesis import given
from hypothesis import strategies as st

from mainstay.cluster.sites.positions import AHEAD_MAX, Acknowledged
from mainstay.cluster.sites.progress import Progress

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(LENGTHS, st.randoms(use_true_random=False), st.integers(0, 100))
def test_nothing_counts_that_is_not_done(lengths: list[int], random: object, base: int) -> None:
    stretches, at = [], base
    for length in lengths:
        stretches.append((at, at + length))
        at += length
    order = list(stretches)
    random.shuffle(order)  # type: ignore[attr-defined]
    progress, done = Progress(base), set[tuple[int, int]]()
    for stretch in order:
        progress.done(*stretch)
        progress.done(*stretch)
        done.add(stretch)
        said = Acknowledged("f", progress.position, progress.ahead)
        for start, end in stretches:
            assert said.has("f", start, end) == ((start, end) in done)
        assert not said.has("g", *stretch)
        assert all(first < last for first, last in progress.ahead)
    assert (progress.position, progress.ahead) == (at, ())


def test_what_is_said_has_a_limit_and_names_the_newest() -> None:
    progress = Progress(0)
    for number in range(1, 1000):
        progress.done(number * 10, number * 10 + 5)
    assert len(progress.ahead) == AHEAD_MAX
    assert progress.ahead[-1] == (9990, 9995)
    progress.done(0, 9990)
    assert (progress.position, progress.ahead) == (9995, ())
