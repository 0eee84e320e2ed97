"""What every object store promises: directory, memory, and S3 on each server of `support.s3`."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.storage.objects import KeyTaken, NoSuchObject, ObjectStore
from mainstay.storage.objects.opening import open_object_store
from support.object_stores import fresh_store
from support.ports import free_port
from support.s3 import SERVERS, RunningServers, S3Server

pytestmark = pytest.mark.xdist_group("s3")
"""All in one worker: the strict server takes a quarter of a minute to start."""

KINDS = ["directory", "memory", *(f"s3-{name}" for name in SERVERS)]
LARGE_BYTES = (17 << 20) + 3
"""More than two parts of an upload, and not a multiple of one."""


@pytest.fixture(scope="session")
def servers() -> Iterator[RunningServers]:
    with RunningServers() as running:
        yield running


@pytest.fixture(params=list(SERVERS))
def s3(request: pytest.FixtureRequest, servers: RunningServers) -> S3Server:
    return servers[request.param]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, servers: RunningServers, tmp_path: Path) -> ObjectStore:
    kind, _, name = request.param.partition("-")
    return fresh_store(kind, tmp_path, servers[name] if name else None)


def file_of(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class TestStoring:
    def test_a_file_comes_back_as_it_was(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put("repositories/R/packs/a.pack", file_of(tmp_path / "a", b"PACK" * 100))
        assert store.get_bytes("repositories/R/packs/a.pack") == b"PACK" * 100
        assert store.size_bytes("repositories/R/packs/a.pack") == 400

    def test_a_large_file_comes_back_as_it_was(self, store: ObjectStore, tmp_path: Path) -> None:
        content = os.urandom(LARGE_BYTES)
        store.put("a/large", file_of(tmp_path / "large", content))
        assert store.size_bytes("a/large") == LARGE_BYTES
        assert store.get_bytes("a/large", start=(8 << 20) - 2, length=5) == content[(8 << 20) - 2 :][:5]
        store.fetch("a/large", tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == content

    def test_bytes_come_back_as_they_were(self, store: ObjectStore) -> None:
        store.put_bytes("journal/R/000000000001.json", b'{"a": 1}\n')
        assert store.get_bytes("journal/R/000000000001.json") == b'{"a": 1}\n'

    def test_nothing_is_an_object_too(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put_bytes("a/empty", b"")
        assert store.get_bytes("a/empty") == b""
        assert store.get_bytes("a/empty", start=0, length=10) == b""
        assert store.size_bytes("a/empty") == 0
        store.fetch("a/empty", tmp_path / "empty")
        assert (tmp_path / "empty").read_bytes() == b""

    def test_the_source_stays(self, store: ObjectStore, tmp_path: Path) -> None:
        source = file_of(tmp_path / "source", b"content")
        store.put("a/b", source)
        assert source.read_bytes() == b"content"
        source.unlink()
        assert store.get_bytes("a/b") == b"content"

    def test_a_symbolic_link_is_followed(self, store: ObjectStore, tmp_path: Path) -> None:
        file_of(tmp_path / "real", b"content")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        store.put("a/b", tmp_path / "link")
        assert store.get_bytes("a/b") == b"content"


class TestTakenKeys:
    def test_equal_bytes_again_are_fine(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put_bytes("a/b", b"same")
        store.put_bytes("a/b", b"same")
        store.put("a/b", file_of(tmp_path / "same", b"same"))
        assert store.get_bytes("a/b") == b"same"

    @pytest.mark.parametrize("other", [b"diff", b"longer content", b""])
    def test_other_bytes_are_refused(self, store: ObjectStore, tmp_path: Path, other: bytes) -> None:
        store.put_bytes("a/b", b"same")
        with pytest.raises(KeyTaken, match="a/b"):
            store.put_bytes("a/b", other)
        with pytest.raises(KeyTaken):
            store.put("a/b", file_of(tmp_path / "other", other))
        assert store.get_bytes("a/b") == b"same"

    def test_large_files_are_compared(self, store: ObjectStore, tmp_path: Path) -> None:
        content = bytearray(os.urandom(LARGE_BYTES))
        store.put("a/large", file_of(tmp_path / "first", bytes(content)))
        store.put("a/large", file_of(tmp_path / "equal", bytes(content)))
        content[-1] ^= 1
        with pytest.raises(KeyTaken):
            store.put("a/large", file_of(tmp_path / "last-byte", bytes(content)))

    def test_of_racing_writers_one_wins(self, store: ObjectStore) -> None:
        for turn in range(5):
            key, start = f"race/{turn}", threading.Barrier(16)

            def create(content: bytes, key: str = key, start: threading.Barrier = start) -> bytes | None:
                start.wait()
                try:
                    store.put_bytes(key, content)
                except KeyTaken:
                    return None
                return content

            with ThreadPoolExecutor(16) as threads:
                outcomes = list(threads.map(create, [b"writer %d" % n for n in range(16)]))
            winners = [content for content in outcomes if content is not None]
            assert winners == [store.get_bytes(key)]

    def test_of_racing_equal_writers_all_win(self, store: ObjectStore) -> None:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda _: store.put_bytes("race/equal", b"equal"), range(16)))
        assert store.get_bytes("race/equal") == b"equal"


class TestReading:
    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, None, b"0123456789"),
            (3, None, b"3456789"),
            (3, 4, b"3456"),
            (0, 10, b"0123456789"),
            (8, 5, b"89"),
            (10, None, b""),
            (10, 1, b""),
            (99, 5, b""),
            (4, 0, b""),
        ],
    )
    def test_ranges_are_cut_as_slices_are(
        self, store: ObjectStore, start: int, length: int | None, expected: bytes
    ) -> None:
        store.put_bytes("a/digits", b"0123456789")
        assert store.get_bytes("a/digits", start=start, length=length) == expected

    def test_fetching_replaces_what_is_there(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put_bytes("a/b", b"new")
        target = file_of(tmp_path / "target", b"old and longer")
        store.fetch("a/b", target)
        store.fetch("a/b", target)
        assert target.read_bytes() == b"new"
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["target"]

    def test_a_fetched_file_outlives_the_object(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put_bytes("a/b", b"content")
        store.fetch("a/b", tmp_path / "target")
        store.delete("a/b")
        assert (tmp_path / "target").read_bytes() == b"content"

    def test_what_is_not_there(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put_bytes("a/b/c", b"content")
        for key in ("a/x", "x", "a/b", "a/b/c/d"):
            assert store.size_bytes(key) is None
            with pytest.raises(NoSuchObject, match=key):
                store.get_bytes(key)
            with pytest.raises(NoSuchObject, match=key):
                store.get_bytes(key, start=1, length=1)
            with pytest.raises(NoSuchObject, match=key):
                store.fetch(key, tmp_path / "target")
        assert not (tmp_path / "target").exists()


class TestDeleting:
    def test_a_deleted_object_is_gone(self, store: ObjectStore) -> None:
        store.put_bytes("a/b", b"content")
        store.put_bytes("a/c", b"content")
        store.delete("a/b")
        assert store.size_bytes("a/b") is None
        assert [found.key for found in store.list("")] == ["a/c"]

    def test_deleting_what_is_not_there_is_fine(self, store: ObjectStore) -> None:
        store.put_bytes("a/b", b"content")
        for key in ("a/x", "x/y/z", "a", "a/b/c"):
            store.delete(key)
        assert store.get_bytes("a/b") == b"content"


class TestListing:
    KEYS = ("journal/R/1.json", "journal/R/2.json", "journal/R2/1.json", "journal/R/prepared/x.json", "top")

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", set(KEYS)),
            ("journal/", set(KEYS[:4])),
            ("journal/R/", {KEYS[0], KEYS[1], KEYS[3]}),
            ("journal/R", set(KEYS[:4])),
            ("journal/R/1", {KEYS[0]}),
            ("journal/R/1.json", {KEYS[0]}),
            ("journal/R/prep", {KEYS[3]}),
            ("nothing", set()),
            ("nothing/here/", set()),
            ("top/", set()),
        ],
    )
    def test_a_prefix_is_a_prefix(self, store: ObjectStore, prefix: str, expected: set[str]) -> None:
        for key in self.KEYS:
            store.put_bytes(key, key.encode())
        found = list(store.list(prefix))
        assert {item.key for item in found} == expected
        assert len(found) == len(expected)

    def test_size_and_time_are_told(self, store: ObjectStore) -> None:
        before_ms = int(time.time() * 1000)
        store.put_bytes("a/b", b"12345")
        (found,) = store.list("a/")
        assert (found.key, found.size_bytes) == ("a/b", 5)
        # S3 tells whole seconds.
        assert before_ms - 1000 <= found.modified_ms <= int(time.time() * 1000) + 1000

    def test_more_than_a_page(self, store: ObjectStore) -> None:
        keys = {f"many/{n:04}" for n in range(1100)}
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda key: store.put_bytes(key, b""), keys))
        assert {found.key for found in store.list("many/")} == keys


MALFORMED = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "..",
    "a/../b",
    ".hidden",
    "a/.tmp-x",
    "a b",
    "a\n",
    "a\0",
    "ä",
    "%2e",
]


class TestKeys:
    @pytest.mark.parametrize("key", [*MALFORMED, "a" * 256, "/".join(["a" * 100] * 6)])
    def test_malformed_keys_are_refused(self, store: ObjectStore, tmp_path: Path, key: str) -> None:
        source = file_of(tmp_path / "source", b"content")
        for attempt in (
            lambda: store.put(key, source),
            lambda: store.put_bytes(key, b"content"),
            lambda: store.get_bytes(key),
            lambda: store.fetch(key, tmp_path / "target"),
            lambda: store.size_bytes(key),
            lambda: store.delete(key),
        ):
            with pytest.raises(Invalid):
                attempt()
        assert list(store.list("")) == []

    def test_the_longest_key_works(self, store: ObjectStore) -> None:
        key = "/".join(["a" * 255, "b" * 256])[:511]
        store.put_bytes(key, b"content")
        assert store.get_bytes(key) == b"content"


class TestStoreIsAway:
    def refuses_everything(self, store: ObjectStore, tmp_path: Path) -> None:
        source = file_of(tmp_path / "source", b"content")
        large = file_of(tmp_path / "large", bytes(LARGE_BYTES))
        for attempt in (
            lambda: store.put("a/b", source),
            lambda: store.put("a/b", large),
            lambda: store.put_bytes("a/b", b"content"),
            lambda: store.get_bytes("a/b"),
            lambda: store.get_bytes("a/b", start=1, length=2),
            lambda: store.fetch("a/b", tmp_path / "target"),
            lambda: store.size_bytes("a/b"),
            lambda: store.delete("a/b"),
            lambda: list(store.list("")),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                attempt()
            assert time.monotonic() - started < 30
        assert not (tmp_path / "target").exists()

    def test_no_server(self, tmp_path: Path) -> None:
        away = S3Server("away", f"http://127.0.0.1:{free_port()}")
        self.refuses_everything(away.open("prefix"), tmp_path)

    def test_no_bucket(self, s3: S3Server, tmp_path: Path) -> None:
        self.refuses_everything(s3.open("prefix", bucket="no-such-bucket"), tmp_path)

    def test_wrong_credentials(self, servers: RunningServers, tmp_path: Path) -> None:
        stranger = replace(servers["rgw"], secret_key="wrong")
        store = stranger.open("prefix")
        with pytest.raises(Unavailable, match="refuses our credentials"):
            store.put_bytes("a/b", b"content")
        self.refuses_everything(store, tmp_path)

    def test_no_directory(self, tmp_path: Path) -> None:
        store = open_object_store(str(tmp_path / "objects"))
        (tmp_path / "objects").rename(tmp_path / "unmounted")
        self.refuses_everything(store, tmp_path)
        assert not (tmp_path / "objects").exists()
