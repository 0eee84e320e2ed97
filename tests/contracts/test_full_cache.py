"""A disk of the cache that is full, has no names left, or takes nothing: refused in a sentence, no worse."""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mainstay.boot.disk import DiskWatch
from mainstay.cache.room import problem_of, short_bytes
from mainstay.foundation.errors import Unavailable
from mainstay.git.objectnames import ZERO_OID
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from support.databases import migrated_sqlite
from support.desk import Desk, a_commit, opened_desk
from support.raw_push import push_request
from support.servers import wait_until
from support.small_disk import fill, remount, small_disk

SIDE = "refs/heads/side"
SIZE_BYTES = 1 << 20


@pytest.fixture
def desks(sqlite_template: Path, tmp_path: Path) -> Iterator[list[Desk]]:
    """Three repositories of 1 MiB behind one cache of 4 MiB; their pushes need some of it, too."""
    with ExitStack() as stack:
        stack.enter_context(small_disk(tmp_path / "disk", size_kib=4096, files=200))
        opened = []
        for _ in range(3):
            database = migrated_sqlite(sqlite_template, ":memory:")
            stack.callback(database.close)
            opened.append(
                stack.enter_context(opened_desk(database, tmp_path / "disk", size_bytes=SIZE_BYTES))
            )
        yield opened


def clone(desk: Desk) -> bytes:
    wants = encode(f"want {desk.tip}\n".encode())
    heard = desk.fetch(encode(b"command=fetch\n") + DELIM + wants + encode(b"done\n") + FLUSH)
    assert len(heard) > SIZE_BYTES
    return heard


def pushed(desk: Desk, size_bytes: int = 10_000) -> bytes:
    made = a_commit(random.Random(size_bytes).randbytes(size_bytes))
    return desk.push(push_request([(SIDE, ZERO_OID, made[-1].oid)], made))


def test_a_full_cache_makes_room_by_what_was_used_longest_ago(desks: list[Desk]) -> None:
    for _ in range(2):
        for desk in desks:
            clone(desk)


def test_a_disk_that_others_filled_is_named_and_recovered_from(desks: list[Desk]) -> None:
    (disk,) = {desk.directory for desk in desks}
    desk = desks[0]
    desk.forget_cache()
    filling = disk / "filling"

    def is_full() -> bool:
        """What was deleted is given back when its last reader has gone, perhaps while the disk fills."""
        fill(disk, filling.name)
        return "No space left" in problem_of(disk / "cache")

    wait_until(is_full, timeout_s=10, what="the disk is full")
    for _ in range(2):
        with pytest.raises(Unavailable, match="No space left on device"):
            clone(desk)
        said = pushed(desk)
        assert b"ng refs/heads/side" in said
        assert b"No space left on device" in said
        assert b"nothing changed" in said
    filling.unlink()
    assert problem_of(disk / "cache") == ""
    clone(desk)
    assert b"ok refs/heads/side" in pushed(desk)


def test_no_names_left_is_named_and_recovered_from(desks: list[Desk]) -> None:
    (disk,) = {desk.directory for desk in desks}
    desk = desks[0]
    desk.forget_cache()
    names = [disk / f"name-{number}" for number in range(1000)]
    for name in names:
        with suppress(OSError):
            name.touch()
    with pytest.raises(Unavailable, match="No space left on device"):
        clone(desk)
    assert b"nothing changed" in pushed(desk)
    for name in names:
        name.unlink(missing_ok=True)
    clone(desk)
    assert b"ok refs/heads/side" in pushed(desk)


def test_a_disk_that_turned_read_only_is_named_and_recovered_from(desks: list[Desk]) -> None:
    (disk,) = {desk.directory for desk in desks}
    desk = desks[0]
    desk.forget_cache()
    watch = DiskWatch(disk / "cache")
    remount(disk, writable=False)
    try:
        watch.look()
        assert watch.problem == "cannot write to the local disk: Read-only file system"
        with pytest.raises(Unavailable, match="Read-only file system"):
            clone(desk)
        assert b"nothing changed" in pushed(desk)
    finally:
        remount(disk, writable=True)
    watch.look()
    assert watch.problem == ""
    clone(desk)
    assert b"ok refs/heads/side" in pushed(desk)


@pytest.mark.parametrize("size_bytes", [200_000, 1_000_000], ids=["small", "streamed"])
def test_a_push_for_which_there_is_no_room_is_not_called_a_bad_pack(
    desks: list[Desk], size_bytes: int
) -> None:
    (disk,) = {desk.directory for desk in desks}
    desk = desks[0]
    clone(desk)
    filling = fill(disk)
    os.truncate(filling, filling.stat().st_size - 65_536)
    said = pushed(desk, size_bytes)
    assert b"ng refs/heads/side this node's disk is full: try again; nothing changed" in said
    assert b"ok refs/heads/side" in pushed(desk, size_bytes), "the cache has made room"


def test_a_disk_that_hangs_is_a_problem_and_a_slow_one_is_not(tmp_path: Path) -> None:
    now_s = 100.0
    watch = DiskWatch(tmp_path, monotonic_s=lambda: now_s)
    watch.look()
    now_s += 29
    assert watch.problem == ""
    now_s += 10
    assert watch.problem == "the local disk has not answered for 39 s"
    watch.look()
    assert watch.problem == ""


def test_a_reserve_is_kept_free(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=10_000) as disk:
        assert short_bytes(disk) == 0
        filling = fill(disk)
        assert 100_000 < short_bytes(disk) < 300_000
        filling.unlink()
        assert short_bytes(disk) == 0
