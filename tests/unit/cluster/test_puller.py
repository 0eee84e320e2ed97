"""The puller of a replica over a line that is made up: what comes, and what a crash leaves."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mainstay.cluster.sites.deletions import Deletions
from mainstay.cluster.sites.landing import DOWNLOADED, PULLED, BeingPulled, Landing
from mainstay.cluster.sites.line import FeedPage, Listed
from mainstay.cluster.sites.positions import Acknowledged
from mainstay.cluster.sites.puller import Puller
from mainstay.cluster.sites.puller_state import PullerState, behind, pause, read_state, resume, write_state
from mainstay.cluster.sites.tasks import Task, Tasks
from mainstay.foundation import failpoints
from mainstay.foundation.clock import SYSTEM, ManualClock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.feed.log import Feed, FeedGone
from mainstay.storage.feed.store import FedStore
from mainstay.storage.objects import NoSuchObject, ObjectStore
from mainstay.storage.objects.directory import DirectoryStore
from mainstay.storage.objects.memory import MemoryStore

UID = new_ulid()


def pack_key() -> str:
    return f"repositories/{UID}/packs/{new_ulid()}.pack"


class Upstream:
    """A primary in the same process, whose line fails as a test wants it."""

    def __init__(self, directory: Path) -> None:
        self.log = Feed(directory / "feed")
        self.identity = self.log.begin(boot=lambda: "one")
        self.inner = MemoryStore()
        self.store = FedStore(self.inner, self.log, clock=SYSTEM)
        self.failing: set[str] = set()
        self.is_away = False
        self.is_refused = False
        self.downloads: list[str] = []
        self.listings = 0
        self.said: list[Acknowledged] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def last(self) -> Acknowledged:
        return self.said[-1] if self.said else Acknowledged("", 0)

    def put(self, content: bytes = b"content") -> str:
        key = pack_key()
        self.store.put_bytes(key, content)
        return key

    def begin_anew(self) -> None:
        self.log.begin(boot=new_ulid)
        self.identity = self.log.identity

    def facts(self) -> Mapping[str, Any]:
        self._speak()
        return {"feed": {"identity": self.identity, "end": self.log.end}, "now_ms": SYSTEM.now_ms()}

    def listing(self, prefix: str) -> Iterator[Listed]:
        self._speak()
        self.listings += 1
        for stored in list(self.inner.list(prefix)):
            yield Listed(stored.key, stored.size_bytes)

    def feed(self, identity: str, after: int, *, wait_s: int) -> FeedPage:
        self._speak()
        if self.is_refused:
            raise Conflict("this site is paused")
        if identity != self.identity:
            raise FeedGone("the feed has begun anew")
        page = self.log.read(after)
        if not page.entries:
            time.sleep(0.005)  # a poll that brings nothing takes its time
        return FeedPage(page.entries, page.position, SYSTEM.now_ms())

    def download(self, key: str, target: Path) -> None:
        self._speak()
        assert self.gate.wait(60)
        self.downloads.append(key)
        if key in self.failing:
            raise Unavailable("this one does not come")
        target.write_bytes(self.inner.get_bytes(key))  # into that very file, as the line does

    def bundle(self, keys: Sequence[str]) -> Mapping[str, bytes | None]:
        self._speak()
        assert self.gate.wait(60)
        found: dict[str, bytes | None] = {}
        for key in set(keys) - self.failing:
            try:
                found[key] = self.inner.get_bytes(key)
                self.downloads.append(key)
            except NoSuchObject:
                found[key] = None
        return found

    def acknowledge(self, found: Acknowledged) -> None:
        self._speak()
        self.said.append(found)

    def _speak(self) -> None:
        if self.is_away:
            raise Unavailable("nobody answers")


class Replica:
    def __init__(
        self, directory: Path, upstream: Upstream, store: ObjectStore | None = None, **options: Any
    ) -> None:
        self.directory = directory / "puller"
        directory.mkdir(exist_ok=True)
        self.store = store or MemoryStore()
        self.puller = Puller(upstream, self.store, self.directory, clock=SYSTEM, **options)

    @contextmanager
    def running(self) -> Iterator[Puller]:
        stop = threading.Event()
        thread = threading.Thread(target=self.puller.run, args=(stop,))
        thread.start()
        try:
            yield self.puller
        finally:
            stop.set()
            thread.join(60)
            assert not thread.is_alive()

    def has(self, *keys: str) -> bool:
        return all(self.store.size_bytes(key) is not None for key in keys)


def until(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    until_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until_s, "it did not come to that"
        time.sleep(0.005)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    (tmp_path / "primary").mkdir()
    return Upstream(tmp_path / "primary")


@pytest.fixture
def replica(tmp_path: Path, upstream: Upstream) -> Replica:
    return Replica(tmp_path / "replica", upstream)


def acknowledged(upstream: Upstream) -> bool:
    said = upstream.last
    return (said.identity, said.position) == (upstream.identity, upstream.log.end)


def test_what_was_there_is_compared_and_what_is_new_follows(upstream: Upstream, replica: Replica) -> None:
    before = [upstream.put(b"x" * size) for size in range(20)]
    with replica.running():
        until(lambda: acknowledged(upstream))
        assert replica.has(*before)
        after = [upstream.put() for _ in range(20)]
        until(lambda: acknowledged(upstream))
        assert replica.has(*after)
        until(lambda: replica.puller.state.is_complete)
    assert sorted(upstream.downloads) == sorted([*before, *after]), "each once"
    state = read_state(replica.directory)
    assert state is not None
    assert (state.phase, state.pulled, state.missing, state.compared) == ("stopped", 40, 20, 20)
    assert list((replica.directory / "partial").iterdir()) == [replica.directory / "partial" / "boot"]


def test_a_second_life_goes_on_without_comparing(
    upstream: Upstream, replica: Replica, tmp_path: Path
) -> None:
    upstream.put()
    with replica.running():
        until(lambda: acknowledged(upstream))
    later = upstream.put()
    again = Replica(tmp_path / "replica", upstream, replica.store)
    with again.running():
        until(lambda: acknowledged(upstream))
    assert again.has(later)
    assert upstream.listings == 1


def test_a_feed_that_has_begun_anew_is_a_comparison_and_no_loss(upstream: Upstream, replica: Replica) -> None:
    with replica.running():
        until(lambda: acknowledged(upstream))
        unheard = pack_key()
        upstream.inner.put_bytes(unheard, b"stored by a process that died before it said so")
        upstream.begin_anew()
        until(lambda: acknowledged(upstream))
        assert replica.has(unheard)
    assert upstream.listings == 2


def test_one_object_that_does_not_come_holds_up_nobody(upstream: Upstream, replica: Replica) -> None:
    with replica.running():
        until(lambda: acknowledged(upstream))
        start = upstream.log.end
        poison = pack_key()
        upstream.failing.add(poison)
        upstream.store.put_bytes(poison, b"poison")
        hole = upstream.log.end
        others = [upstream.put() for _ in range(30)]
        until(lambda: upstream.last.ahead == ((hole, upstream.log.end),))
        assert replica.has(*others)
        assert upstream.last.position == start
        assert not replica.puller.state.is_complete
        until(lambda: replica.puller.state.behind["packs"].items == 1)
        assert poison in replica.puller.state.because
        upstream.failing.clear()
        until(lambda: acknowledged(upstream))
        assert replica.has(poison)


def test_a_comparison_with_one_object_that_does_not_come_still_follows(
    upstream: Upstream, replica: Replica
) -> None:
    poison = upstream.put()
    upstream.failing.add(poison)
    with replica.running():
        until(lambda: upstream.listings == 1 and upstream.last.identity == upstream.identity)
        start = upstream.log.end
        later = upstream.put()
        until(lambda: upstream.last.ahead == ((start, upstream.log.end),))
        assert replica.has(later)
        assert upstream.last.position == 0
        assert read_state(replica.directory).identity == "", "a second life would compare"  # type: ignore[union-attr]
        upstream.failing.clear()
        until(lambda: acknowledged(upstream))


def test_a_primary_that_is_away_is_waited_for(upstream: Upstream, replica: Replica) -> None:
    upstream.is_away = True
    with replica.running():
        until(lambda: replica.puller.state.phase == "away")
        assert replica.puller.state.because == "nobody answers"
        key = upstream.put()
        upstream.is_away = False
        until(lambda: replica.has(key) and replica.puller.state.phase == "following")


def test_a_paused_puller_rests_and_remembers(upstream: Upstream, replica: Replica, tmp_path: Path) -> None:
    replica.directory.mkdir(exist_ok=True)
    pause(replica.directory, "the line is needed for something else")
    with replica.running():
        until(lambda: replica.puller.state.phase == "paused")
        assert replica.puller.state.because == "the line is needed for something else"
        key = upstream.put()
        assert not replica.has(key)
        resume(replica.directory)
        until(lambda: replica.has(key))
        pause(replica.directory)
        until(lambda: replica.puller.state.phase == "paused")
    assert upstream.downloads == [key]


def test_the_primary_may_pause_it(upstream: Upstream, replica: Replica) -> None:
    upstream.is_refused = True
    with replica.running():
        until(lambda: replica.puller.state.phase == "paused")
        assert "is paused" in replica.puller.state.because


def test_other_bytes_are_set_aside_and_never_dropped(upstream: Upstream, replica: Replica) -> None:
    key = upstream.put(b"of the primary")
    replica.store.put_bytes(key, b"of this site, which was the primary once")
    with replica.running():
        until(lambda: acknowledged(upstream))
    assert replica.store.get_bytes(key) == b"of the primary"
    kept = replica.directory / "aside" / key
    assert kept.read_bytes() == b"of this site, which was the primary once"
    assert replica.puller.state.set_aside == (key,)


def test_a_cache_pulls_what_it_was_told_to(upstream: Upstream, tmp_path: Path) -> None:
    wanted = pack_key()
    replica = Replica(tmp_path / "cache", upstream, wants=lambda key: key == wanted)
    unwanted = upstream.put()
    with replica.running():
        until(lambda: acknowledged(upstream))
        upstream.store.put_bytes(wanted, b"wanted")
        later = upstream.put()
        until(lambda: acknowledged(upstream))
    assert upstream.downloads == [wanted]
    assert not replica.has(unwanted)
    assert not replica.has(later)


def test_what_is_deleted_there_goes_later(upstream: Upstream, tmp_path: Path) -> None:
    replica = Replica(tmp_path / "replica", upstream, keep_deleted_s=3600)
    key = upstream.put()
    with replica.running():
        until(lambda: acknowledged(upstream))
        upstream.store.delete(key)
        until(lambda: acknowledged(upstream))
        assert replica.has(key)
    due = Deletions(replica.directory / "deleted", keep_s=3600)
    assert due.carry_out(replica.store, now_ms=SYSTEM.now_ms()) == 0
    assert due.carry_out(replica.store, now_ms=SYSTEM.now_ms() + 3_700_000) == 1
    assert not replica.has(key)
    assert Deletions(replica.directory / "deleted", keep_s=3600).carry_out(replica.store, now_ms=1 << 60) == 0


def test_an_object_that_went_before_it_came_is_no_failure(upstream: Upstream, replica: Replica) -> None:
    with replica.running():
        until(lambda: acknowledged(upstream))
        upstream.gate.clear()
        key = upstream.put()
        upstream.store.delete(key)
        upstream.gate.set()
        until(lambda: acknowledged(upstream))
    assert not replica.has(key)


@pytest.mark.parametrize("point", [DOWNLOADED, PULLED])
def test_what_fails_on_the_way_into_the_store_is_done_again(
    upstream: Upstream, replica: Replica, point: str
) -> None:
    with replica.running():
        until(lambda: acknowledged(upstream))
        failpoints.arm(f"{point}=error")
        try:
            keys = [upstream.put() for _ in range(5)]
            until(lambda: f"failpoint '{point}'" in replica.puller.state.because)
            assert replica.puller.state.position < upstream.log.end
        finally:
            failpoints.arm("")
        until(lambda: acknowledged(upstream))
        assert replica.has(*keys)


@pytest.mark.parametrize("seed", range(2))
def test_from_whatever_a_crash_leaves_it_goes_on(upstream: Upstream, tmp_path: Path, seed: int) -> None:
    """The disk as it is at some moment is all that the next life has."""
    random = Random(seed)
    keys = [upstream.put(b"x" * random.randrange(2000)) for _ in range(20)]
    place = tmp_path / "life-0"
    for life in range(3):
        replica = Replica(place, upstream, DirectoryStore(place / "objects"))
        left = tmp_path / f"life-{life + 1}"
        with replica.running():
            keys += [upstream.put(b"y" * random.randrange(2000)) for _ in range(10)]
            pulled = random.randrange(1, 10)
            until(partial(_is_so_far, replica.puller, pulled, upstream))
            for part in ("puller", "objects"):  # in this order: what the state says must be there
                _copy_living(place / part, left / part)
        state = read_state(left / "puller")
        if state is not None and state.identity:
            before = {each.key for each in upstream.log.read(0).entries if not each.is_deleted}
            all_there = DirectoryStore(left / "objects")
            read = sum(len(each.line) for each in upstream.log.read(0).entries)
            assert state.position <= read
            position = 0
            for entry in upstream.log.read(0).entries:
                position += len(entry.line)
                if position <= state.position:
                    assert all_there.size_bytes(entry.key) is not None
            assert before >= set(keys) - set(keys[-10:])
        place = left
    last = Replica(place, upstream, DirectoryStore(place / "objects"))
    with last.running():
        until(lambda: last.puller.state.position == upstream.log.end)
    assert last.has(*keys)


def _is_so_far(puller: Puller, pulled: int, upstream: Upstream) -> bool:
    return puller.state.pulled >= pulled or puller.state.position == upstream.log.end


def _copy_living(source: Path, target: Path) -> None:
    """As it is at this moment; files come and go meanwhile."""
    for file in list(source.rglob("*")):
        if file.is_file() and ".tmp-" not in file.name and not file.name.endswith(".new"):
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(file, target / file.relative_to(source))


# Its parts
def test_one_at_a_time_has_the_place_of_a_key(tmp_path: Path) -> None:
    store = MemoryStore()
    one, other = Landing(store, tmp_path), Landing(store, tmp_path)
    for each in (one, other):
        each.prepare()
    key = pack_key()
    with one.place(key) as partial:
        for each in (one, other):
            with pytest.raises(BeingPulled), each.place(key):
                pass
        with other.place(pack_key()) as elsewhere:
            assert elsewhere != partial
        partial.write_bytes(b"content")
        assert one.half_bytes == 7
        assert one.store(key, partial) == 7
    with other.place(key) as partial:
        assert partial.read_bytes() == b""
    assert store.get_bytes(key) == b"content"


def test_what_the_store_has_is_not_written_to(tmp_path: Path) -> None:
    """As a crash leaves it between the store's link and the end of the other name."""
    store = DirectoryStore(tmp_path / "objects")
    landing = Landing(store, tmp_path)
    landing.prepare()
    key = pack_key()
    with landing.place(key) as partial:
        partial.write_bytes(b"content")
        store.put(key, partial)
    assert partial.stat().st_nlink == 2
    with pytest.raises(BeingPulled), landing.place(key):
        pass
    with landing.place(key) as partial:
        partial.write_bytes(b"other")
    assert store.get_bytes(key) == b"content"


def test_an_object_that_is_listed_and_in_the_feed_is_pulled_once(upstream: Upstream, tmp_path: Path) -> None:
    """Stored between the beginning of a comparison and its list."""
    late = [b"x" * 100_000 for _ in range(20)]
    keys: list[str] = []
    facts = upstream.facts

    def facts_and_more() -> Mapping[str, Any]:
        found = facts()
        keys.extend(upstream.put(content) for content in late)
        return found

    upstream.facts = facts_and_more  # type: ignore[method-assign]
    replica = Replica(tmp_path / "replica", upstream, DirectoryStore(tmp_path / "objects"))
    with replica.running():
        until(lambda: acknowledged(upstream))
    assert [replica.store.get_bytes(key) for key in keys] == late
    assert replica.puller.state.pulled == len(keys)


def test_who_failed_waits_longer_each_time() -> None:
    clock = ManualClock()
    tasks = Tasks(monotonic_s=clock.monotonic_s)
    tasks.put(Task("key", 1, 0))
    pauses = []
    for _ in range(8):
        task = tasks.take(0)
        assert task is not None
        tasks.again(task)
        waited_s = 0.0
        while True:
            clock.advance(0.5)
            waited_s += 0.5
            if (found := tasks.take(0)) is not None:
                tasks._under_way.discard(found)
                tasks._ready.append(found)
                break
        pauses.append(waited_s)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_state_that_is_torn_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    state = PullerState(phase="following", identity="f", position=3, behind=behind([], now_ms=0))
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    for torn in (
        b"",
        b"{",
        b"[]",
        b'{"phase": "following"}',
        b'{"phase": "?", "behind": {}, "set_aside": []}',
    ):
        (tmp_path / "puller.json").write_bytes(torn)
        assert read_state(tmp_path) is None


def test_what_is_behind_is_told_by_class() -> None:
    journal = f"journal/{UID}/{1:012d}.json"
    left = [Task(pack_key(), 10, 1000), Task(pack_key(), 5, 4000), Task(journal, 1, 0), Task("?", 1, 0)]
    found = behind(left, now_ms=5000)
    assert (found["packs"].items, found["packs"].bytes, found["packs"].seconds) == (2, 15, 4.0)
    assert (found["journal"].items, found["journal"].seconds, found["unknown"].items) == (1, 0.0, 1)


def test_nothing_is_pulled_for_a_key_that_is_gone(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(NoSuchObject):
        upstream.download(pack_key(), tmp_path / "target")
