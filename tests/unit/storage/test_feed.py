"""The feed of objects: order, positions, what is gone, and that every object has a class."""

import re
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage import identity, journal
from mainstay.storage.feed.classes import CLASSES, JOURNAL, MARKERS, PACKS, UnknownClass, class_of
from mainstay.storage.feed.log import Entry, Feed, FeedGone
from mainstay.storage.feed.store import FedStore
from mainstay.storage.objects.memory import MemoryStore


def entry(number: int) -> Entry:
    return Entry(f"key/{number}", number, 1000 + number)


def begun(directory: Path, **limits: int) -> Feed:
    feed = Feed(directory / "feed", **limits)
    feed.begin(boot=lambda: "boot")
    return feed


def read_all(feed: Feed, after: int = 0) -> Sequence[Entry]:
    found: list[Entry] = []
    while (page := feed.read(after, bytes_max=100)).entries:
        found += page.entries
        after = page.position
    return found


# The log
def test_what_is_appended_is_read_in_order_and_once(tmp_path: Path) -> None:
    feed = begun(tmp_path)
    first = feed.append([entry(1), entry(2)])
    gone = Entry("key/1", 0, 5, is_deleted=True)
    last = feed.append([gone])
    assert read_all(feed) == [entry(1), entry(2), gone]
    assert feed.read(first).entries == [gone]
    assert feed.read(last) == feed.read(feed.end)
    assert feed.read(last).entries == []


def test_segments_follow_each_other_and_the_oldest_go(tmp_path: Path) -> None:
    feed = begun(tmp_path, segment_bytes=50, segments_kept=3)
    positions = [feed.append([entry(number)]) for number in range(100)]
    assert positions == sorted(set(positions))
    assert len(list((tmp_path / "feed").glob("*.log"))) == 3
    with pytest.raises(FeedGone, match="nothing at 0"):
        feed.read(0)
    assert [each.size_bytes for each in read_all(feed, positions[94])] == [95, 96, 97, 98, 99]


def test_a_position_beyond_the_end_is_said(tmp_path: Path) -> None:
    feed = begun(tmp_path)
    feed.append([entry(1)])
    with pytest.raises(FeedGone):
        feed.read(feed.end + 1)


def test_a_line_that_is_half_written_waits(tmp_path: Path) -> None:
    feed = begun(tmp_path)
    end = feed.append([entry(1)])
    segment = next((tmp_path / "feed").glob("*.log"))
    with segment.open("ab") as out:
        out.write(b"+ 12 34 ke")
    assert feed.read(0).position == end


def test_what_a_killed_process_left_of_a_line_goes(tmp_path: Path) -> None:
    feed = begun(tmp_path)
    end = feed.append([entry(1)])
    segment = next((tmp_path / "feed").glob("*.log"))
    with segment.open("ab") as out:
        out.write(b"+ 12 34 ke")
    assert feed.end == end
    feed.append([entry(2)])
    assert read_all(feed) == [entry(1), entry(2)]
    assert feed.read(end).entries == [entry(2)]
    segment.write_bytes(b"+ 1 2 torn")
    feed.append([entry(3)])
    assert read_all(feed) == [entry(3)]


def test_a_disk_that_is_full_leaves_no_half_of_a_line(tmp_path: Path) -> None:
    feed = begun(tmp_path)
    feed.append([entry(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (feed.end + 5, hard))
    try:
        with pytest.raises(Unavailable, match="feed of objects"):
            feed.append([entry(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert read_all(feed) == [entry(1)]
    feed.append([entry(3)])
    assert read_all(feed) == [entry(1), entry(3)]


def test_a_feed_that_nobody_wrote_for_a_while_begins_anew(tmp_path: Path) -> None:
    feed = begun(tmp_path)
    identity = feed.identity
    feed.forget()
    feed.forget()
    assert not feed.has_begun
    assert feed.begin(boot=lambda: "boot") != identity


def test_another_boot_makes_another_feed(tmp_path: Path) -> None:
    feed = Feed(tmp_path / "feed")
    first = feed.begin(boot=lambda: "one")
    feed.append([entry(1)])
    assert feed.begin(boot=lambda: "one") == first == feed.identity
    assert feed.end > 0
    second = feed.begin(boot=lambda: "two")
    assert second != first
    assert feed.end == 0
    assert feed.begin(boot=lambda: "") not in (first, second, feed.begin(boot=lambda: ""))


def test_a_feed_that_never_began_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FeedGone, match="no feed"):
        _ = Feed(tmp_path / "feed").identity


def test_threads_do_not_tear_lines(tmp_path: Path) -> None:
    feed = begun(tmp_path, segment_bytes=400)

    def append_many(base: int) -> None:
        for number in range(base, base + 50):
            feed.append([entry(number)])

    threads = [Thread(target=append_many, args=(base,)) for base in (0, 50, 100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(each.size_bytes for each in read_all(feed)) == list(range(200))


# Classes
def test_every_key_that_the_program_makes_has_its_class() -> None:
    uid, pack = new_ulid(), new_ulid()
    made = {
        f"repositories/{uid}/packs/{pack}.pack": PACKS,
        f"repositories/{uid}/packs/{pack}.graph": PACKS,
        journal.commit_key(uid, 7): JOURNAL,
        journal.prepared_key(uid, new_ulid()): JOURNAL,
        journal.checkpoint_key(uid, 1000): JOURNAL,
        identity.KEY: MARKERS,
        "sites/epoch/12": MARKERS,
    }
    assert {key: class_of(key) for key in made} == made


@pytest.mark.parametrize(
    "key", ["lfs/ab/cd", "repositories/x/packs/y.pack", "journal/1/2.json", "instance.jsonx"]
)
def test_a_key_without_a_class_is_refused(key: str) -> None:
    with pytest.raises(UnknownClass, match=re.escape(key)):
        class_of(key)


def test_classes_have_names_of_their_own() -> None:
    assert len({each.name for each in CLASSES}) == len(CLASSES)


# The store
def test_every_change_is_announced_after_it_was_made(tmp_path: Path) -> None:
    feed, inner = begun(tmp_path), MemoryStore()
    store = FedStore(inner, feed, clock=ManualClock())
    source = tmp_path / "pack"
    source.write_bytes(b"PACK")
    key = f"repositories/{new_ulid()}/packs/{new_ulid()}.pack"
    store.put(key, source)
    store.put_bytes(identity.KEY, b"{}")
    store.delete(identity.KEY)
    told = [(each.key, each.size_bytes, each.is_deleted) for each in read_all(feed)]
    assert told == [(key, 4, False), (identity.KEY, 2, False), (identity.KEY, 0, True)]
    assert store.get_bytes(key) == b"PACK"
    assert [each.key for each in inner.list("")] == [key]


def test_an_object_without_a_class_is_not_stored(tmp_path: Path) -> None:
    inner = MemoryStore()
    store = FedStore(inner, None, clock=ManualClock())
    with pytest.raises(UnknownClass):
        store.put_bytes("lfs/ab/cd", b"x")
    with pytest.raises(UnknownClass):
        store.put("lfs/ab/cd", tmp_path)
    assert not list(inner.list(""))
