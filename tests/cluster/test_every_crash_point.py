"""Kill a server, or make it fail, at every failpoint that a push passes: nothing acknowledged is lost,
nothing is half, and the same push again does what is left.

The points come from `mainstay debug failpoints`, so a new one is tested without a word here. A point that
is declared and that no push passes fails its test until `support.crash.points` says where it is passed.
"""

from pathlib import Path

import pytest

from support.crash.points import declared, of_the_store, on_a_compaction, on_a_push
from support.crash.trial import begun, fail_at, kill_at
from support.crash.world import Transport
from support.crash.worlds import ALL, STORAGES, Worlds, everywhere
from support.git_client import GitClient, fsck

_PASSAGES_MAX = 12
"""A push stores three files and two records, and each passes the points of the object store once."""


@pytest.mark.parametrize(("storage", "transport", "point"), everywhere(on_a_push))
def test_a_kill_loses_nothing_and_leaves_nothing_half(
    worlds: Worlds, storage: str, transport: Transport, point: str
) -> None:
    world = worlds.get(storage, transport)
    history = begun(world)
    outcome = kill_at(world, history, point)
    assert outcome.died, f"no push passes {point} on {storage}: support.crash.points should say who does"
    assert outcome.findings == []
    assert kill_at(world, history, point, atomic=True).findings == []


@pytest.mark.parametrize(("storage", "transport", "point"), everywhere(on_a_push))
def test_an_error_is_told_as_it_is(worlds: Worlds, storage: str, transport: Transport, point: str) -> None:
    world = worlds.get(storage, transport)
    outcome = fail_at(world, begun(world), point)
    assert not outcome.died
    assert outcome.findings == []


@pytest.mark.skipif(not ALL, reason="part of `make crash`")
@pytest.mark.parametrize(("storage", "transport", "point"), everywhere(of_the_store))
def test_each_object_of_a_push_may_be_the_last(
    worlds: Worlds, storage: str, transport: Transport, point: str
) -> None:
    world = worlds.get(storage, transport)
    history = begun(world)
    for passage in range(1, _PASSAGES_MAX):
        killed = kill_at(world, history, point, passage=passage)
        assert killed.findings == []
        assert fail_at(world, history, point, passage=passage).findings == []
        if not killed.died:
            assert passage > 4, f"a push stores five objects, not {passage - 1}"
            return
    pytest.fail("a push has no end")


def test_every_declared_failpoint_is_tested() -> None:
    tested = {point for kind in STORAGES.values() for point in [*on_a_push(kind), *on_a_compaction(kind)]}
    assert tested == set(declared())


@pytest.mark.parametrize(("storage", "transport"), everywhere())
def test_git_itself_learns_at_its_second_try_that_the_push_was_made(
    worlds: Worlds, storage: str, transport: Transport, tmp_path: Path
) -> None:
    world = worlds.get(storage, transport)
    history = begun(world)
    git = GitClient(tmp_path / "home", world.key)
    clone = tmp_path / "clone"
    git("clone", "--quiet", world.url(history.path), clone)
    git.commit(clone, "more", "more\n")
    world.running().ask("arm", "push.committed=kill")
    assert not git.try_("push", world.url(history.path), "HEAD:main", "HEAD:again", cwd=clone)
    assert world.has_died(within_s=20)
    world.start()
    again = git.try_("push", world.url(history.path), "HEAD:main", "HEAD:again", cwd=clone)
    assert again
    assert "Everything up-to-date" in again.err
    git("clone", "--quiet", "--mirror", world.url(history.path), tmp_path / "mirror")
    fsck(git, tmp_path / "mirror")


@pytest.mark.parametrize(("storage", "transport"), everywhere())
def test_after_all_this_mainstay_fsck_finds_nothing(
    worlds: Worlds, storage: str, transport: Transport
) -> None:
    world = worlds.get(storage, transport)
    begun(world)
    assert world.fsck() == {"sound": True, "findings": []}
