"""Whom a push waits for, what counts as an answer, and when nobody waits any longer."""

import threading
import time
from pathlib import Path

import pytest

from mainstay.cluster.sites.followers import SiteFollowers
from mainstay.cluster.sites.positions import Acknowledged, Positions
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid
from mainstay.storage.feed.log import Feed
from mainstay.storage.feed.store import FedStore
from mainstay.storage.followers import NO_FOLLOWERS, FollowersBehind
from mainstay.storage.objects.memory import MemoryStore

PARIS, ROME = new_ulid(), new_ulid()
UID = new_ulid()


class Primary:
    def __init__(self, directory: Path, *, silence_s: float = 60.0) -> None:
        self.feed = Feed(directory / "feed")
        self.identity = self.feed.begin()
        self.positions = Positions(directory / "sites")
        self.positions.begin()
        self.store = FedStore(MemoryStore(), self.feed, clock=SYSTEM)
        self.waited_for = [PARIS]
        self.followers = SiteFollowers(
            self.store,
            self.feed,
            self.positions,
            waited_for=lambda: self.waited_for,
            name_of=lambda site_id: "paris" if site_id == PARIS else "rome",
            clock=SYSTEM,
            silence_s_max=silence_s,
        )

    def put(self) -> str:
        key = f"repositories/{UID}/packs/{new_ulid()}.pack"
        self.store.put_bytes(key, b"content")
        return key

    def says(self, site: str, position: int, ahead: tuple[tuple[int, int], ...] = (), **more: int) -> None:
        Positions(self.positions.directory).note(site, Acknowledged(self.identity, position, ahead, **more))


@pytest.fixture
def primary(tmp_path: Path) -> Primary:
    return Primary(tmp_path)


class Push:
    """A push that waits, in a thread."""

    def __init__(self, primary: Primary, *keys: str) -> None:
        self.ended = threading.Event()
        self.refused: FollowersBehind | None = None
        self.waited_s = 0.0
        self._thread = threading.Thread(target=self._run, args=(primary, keys))
        self._thread.start()

    def _run(self, primary: Primary, keys: tuple[str, ...]) -> None:
        began_s = time.monotonic()
        try:
            primary.followers.wait(keys)
        except FollowersBehind as refused:
            self.refused = refused
        self.waited_s = time.monotonic() - began_s
        self.ended.set()

    def has_ended(self, within_s: float = 60.0) -> bool:
        ended = self.ended.wait(within_s)
        if ended:
            self._thread.join()
        return ended


def test_nobody_waits_where_nobody_must_follow(primary: Primary) -> None:
    primary.waited_for = []
    push = Push(primary, primary.put())
    assert push.has_ended()
    assert push.refused is None
    NO_FOLLOWERS.wait(["key"])


def test_a_push_waits_until_all_have_it(primary: Primary) -> None:
    primary.waited_for = [PARIS, ROME]
    push = Push(primary, primary.put())
    end = primary.feed.end
    primary.says(PARIS, end)
    assert not push.has_ended(0.1), "rome has not"
    primary.says(ROME, end - 1)
    assert not push.has_ended(0.1)
    primary.says(ROME, end)
    assert push.has_ended()
    assert push.refused is None


def test_a_push_does_not_wait_for_a_larger_one_before_it(primary: Primary) -> None:
    primary.put()
    before = primary.feed.end
    push = Push(primary, primary.put())
    primary.says(PARIS, 0, ((before, primary.feed.end),))
    assert push.has_ended()


def test_what_another_process_stored_is_before_the_end(primary: Primary) -> None:
    primary.put()
    push = Push(primary, f"repositories/{UID}/packs/{new_ulid()}.pack")
    assert not push.has_ended(0.1)
    primary.says(PARIS, primary.feed.end)
    assert push.has_ended()


def test_positions_of_another_feed_are_no_answer(primary: Primary) -> None:
    push = Push(primary, primary.put())
    primary.positions.note(PARIS, Acknowledged(new_ulid(), 1 << 40))
    assert not push.has_ended(0.1)
    primary.says(PARIS, primary.feed.end)
    assert push.has_ended()


def test_silence_ends_in_a_sentence(tmp_path: Path) -> None:
    primary = Primary(tmp_path, silence_s=0.2)
    push = Push(primary, primary.put())
    assert push.has_ended()
    assert "'paris'" in str(push.refused)
    assert "nothing was changed" in str(push.refused)


def test_who_gets_something_however_slowly_is_waited_for(tmp_path: Path) -> None:
    primary = Primary(tmp_path, silence_s=1.0)
    push = Push(primary, primary.put())
    for received_bytes in range(1, 9):
        assert not push.has_ended(0.25)
        primary.says(PARIS, 0, received_bytes=received_bytes)
    primary.says(PARIS, primary.feed.end)
    assert push.has_ended()
    assert push.refused is None
    assert push.waited_s > 1.0, "longer than a silence may be"


def test_a_site_that_is_not_waited_for_any_more_sets_pushes_free(primary: Primary) -> None:
    push = Push(primary, primary.put())
    assert not push.has_ended(0.1)
    primary.waited_for = []
    assert push.has_ended()
    assert push.refused is None


def test_many_pushes_hear_of_an_answer_soon(primary: Primary) -> None:
    """Each gets its own, and none has to wait until somebody looks by himself."""
    waits_s = []
    for _ in range(20):
        keys = [primary.put() for _ in range(5)]
        pushes = [Push(primary, key) for key in keys]
        began_s = time.monotonic()
        primary.says(PARIS, primary.feed.end)
        assert all(push.has_ended() for push in pushes)
        waits_s.append(time.monotonic() - began_s)
    assert sorted(waits_s)[len(waits_s) // 2] < 0.2, "the half of them, on a machine that is busy"


def test_what_was_acknowledged_is_forgotten_with_the_node(primary: Primary) -> None:
    primary.says(PARIS, 5)
    assert set(primary.positions.all()) == {PARIS}
    primary.positions.forget(PARIS)
    assert primary.positions.all() == {}
    primary.says(PARIS, 5)
    primary.positions.begin()
    assert primary.positions.all() == {}


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"x": 1}', '{"x": {"identity": "?"}}'])
def test_a_torn_file_is_nothing(primary: Primary, torn: str) -> None:
    (primary.positions.directory / "acknowledged.json").write_text(torn)
    assert primary.positions.all() == {}
