"""What only a directory store promises: that bytes and names are on the disk before `put` returns.

Proved from outside: by the system calls of a real process, by killing one, and on a full disk.
"""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.storage.objects.directory import LEFTOVER_AGE_MS, DirectoryStore
from support.servers import program, skip_missing

STORING = """
import os, sys
from pathlib import Path
from mainstay.storage.objects.directory import DirectoryStore
from mainstay.foundation import failpoints
failpoints.arm(sys.argv[3])
store = DirectoryStore(Path(sys.argv[1]))
os.access("put-begins", os.F_OK)
if sys.argv[2] == "bytes":
    store.put_bytes("repositories/R/packs/a.pack", b"content")
else:
    store.put("repositories/R/packs/a.pack", Path(sys.argv[2]))
os.access("put-returned", os.F_OK)
"""
KEY = "repositories/R/packs/a.pack"
FOLDERS = ["", "/repositories", "/repositories/R", "/repositories/R/packs"]


def store_in_process(root: Path, source: str, *, armed: str = "", under: tuple[str, ...] = ()) -> int:
    command = [*under, sys.executable, "-c", STORING, str(root), source, armed]
    return subprocess.run(command, check=False, timeout=60).returncode


class Trace:
    """The system calls of one `put`, in order, as strace saw them."""

    CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")

    def __init__(self, path: Path) -> None:
        lines = path.read_text(errors="replace").splitlines()
        begins = next(n for n, line in enumerate(lines) if "put-begins" in line)
        returned = next(n for n, line in enumerate(lines) if "put-returned" in line)
        found = [self.CALL.match(line) for line in lines[begins + 1 : returned]]
        self.calls = [(m[1], m[2]) for m in found if m is not None and int(m[3]) >= 0]

    def first(self, name: str, pattern: str) -> int:
        """The position of a successful call; fails the test when there is none."""
        for position, (call, arguments) in enumerate(self.calls):
            if re.fullmatch(name, call) and re.search(pattern, arguments):
                return position
        pytest.fail(f"no {name}({pattern}) in {self.calls}")

    def last(self, name: str, pattern: str) -> int:
        matches = [
            position
            for position, (call, arguments) in enumerate(self.calls)
            if re.fullmatch(name, call) and re.search(pattern, arguments)
        ]
        assert matches, f"no {name}({pattern}) in {self.calls}"
        return matches[-1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def strace(tmp_path: Path) -> tuple[str, ...]:
    strace = program("strace")
    if subprocess.run([strace, "-o", "/dev/null", "true"], check=False, capture_output=True).returncode:
        skip_missing("strace", "tracing is not permitted here")
    calls = "trace=openat,write,fsync,fdatasync,link,linkat,rename,mkdir,access,faccessat2,unlink"
    return (strace, "-f", "-y", "-qq", "-e", calls, "-o", str(tmp_path / "trace"))


class TestOrderOfSystemCalls:
    def test_bytes(self, root: Path, tmp_path: Path, strace: tuple[str, ...]) -> None:
        assert store_in_process(root, "bytes", under=strace) == 0
        trace = Trace(tmp_path / "trace")
        written = trace.last("write", r"\.tmp-.*content")
        synced = trace.first("fsync", r"\.tmp-")
        linked = trace.first("link(at)?", r"\.tmp-.*a\.pack")
        named = trace.last("fsync", r"/packs>")
        assert written < synced < linked < named

    def test_a_linked_file(self, root: Path, source: Path, tmp_path: Path, strace: tuple[str, ...]) -> None:
        assert store_in_process(root, str(source), under=strace) == 0
        trace = Trace(tmp_path / "trace")
        synced = trace.first("fsync", r"/source>")
        linked = trace.first("link(at)?", r"source.*a\.pack")
        named = trace.last("fsync", r"/packs>")
        assert synced < linked < named

    def test_every_new_folder_is_synced_into_the_one_above(
        self, root: Path, tmp_path: Path, strace: tuple[str, ...]
    ) -> None:
        assert store_in_process(root, "bytes", under=strace) == 0
        trace = Trace(tmp_path / "trace")
        for above, made in itertools.pairwise(FOLDERS):
            assert trace.first("mkdir", f'objects{made}"') < trace.first("fsync", f"objects{above}>")

    def test_folders_another_process_made_are_synced_too(
        self, root: Path, tmp_path: Path, strace: tuple[str, ...]
    ) -> None:
        """It may not have come so far as to sync them itself."""
        (root / "repositories/R/packs").mkdir(parents=True)
        assert store_in_process(root, "bytes", under=strace) == 0
        trace = Trace(tmp_path / "trace")
        for folder in FOLDERS:
            trace.first("fsync", f"objects{folder}>")

    def test_equal_bytes_are_synced_again(self, root: Path, tmp_path: Path, strace: tuple[str, ...]) -> None:
        """Whoever stored them may have died before its own sync."""
        assert store_in_process(root, "bytes") == 0
        assert store_in_process(root, "bytes", under=strace) == 0
        trace = Trace(tmp_path / "trace")
        assert trace.first("fsync", r"/a\.pack>") < trace.last("fsync", r"/packs>")


class TestKilled:
    @pytest.mark.parametrize("point", ["objects.file_written", "objects.file_synced"])
    @pytest.mark.parametrize("copied", [True, False])
    def test_before_the_link_nothing_is_visible(
        self, root: Path, source: Path, point: str, copied: bool
    ) -> None:
        what = "bytes" if copied else str(source)
        assert store_in_process(root, what, armed=f"{point}=kill") == -signal.SIGKILL
        store = DirectoryStore(root)
        assert list(store.list("")) == []
        assert store.size_bytes(KEY) is None
        store.put_bytes(KEY, b"other content")
        assert store.get_bytes(KEY) == b"other content"

    @pytest.mark.parametrize("copied", [True, False])
    def test_after_the_link_the_whole_is_visible(self, root: Path, source: Path, copied: bool) -> None:
        what = "bytes" if copied else str(source)
        assert store_in_process(root, what, armed="objects.linked=kill") == -signal.SIGKILL
        store = DirectoryStore(root)
        assert store.get_bytes(KEY) == b"content"
        store.put_bytes(KEY, b"content")

    def test_leftovers_go_after_a_day(self, root: Path) -> None:
        clock = ManualClock(now_ms=1_700_000_000_000)
        assert store_in_process(root, "bytes", armed="objects.file_synced=kill") == -signal.SIGKILL
        (leftover,) = root.glob(".tmp-*")
        os.utime(leftover, ns=(0, clock.now_ms() * 1_000_000))
        clock.advance(LEFTOVER_AGE_MS / 1000)
        DirectoryStore(root, clock=clock)
        assert leftover.exists()
        clock.advance(1)
        DirectoryStore(root, clock=clock)
        assert not leftover.exists()


class TestFiles:
    def test_a_file_is_linked_in_and_out(self, root: Path, source: Path, tmp_path: Path) -> None:
        store = DirectoryStore(root)
        store.put(KEY, source)
        store.fetch(KEY, tmp_path / "fetched")
        assert source.stat().st_ino == (tmp_path / "fetched").stat().st_ino

    def test_another_file_system_gets_a_copy(self, tmp_path: Path, source: Path, tiny_disk: Path) -> None:
        store = DirectoryStore(tiny_disk / "objects")
        store.put(KEY, source)
        store.fetch(KEY, tmp_path / "fetched")
        store.fetch(KEY, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == b"content"
        assert store.get_bytes(KEY) == b"content"

    def test_stored_bytes_are_read_only(self, root: Path) -> None:
        DirectoryStore(root).put_bytes(KEY, b"content")
        assert (root / KEY).stat().st_mode & 0o777 == 0o444

    def test_files_of_others_are_not_objects(self, root: Path) -> None:
        store = DirectoryStore(root)
        store.put_bytes("a/b", b"content")
        (root / ".nfs0001").write_bytes(b"")
        (root / "a" / ".tmp-old").write_bytes(b"")
        (root / "a" / "link").symlink_to(root / "a" / "b")
        assert [found.key for found in store.list("")] == ["a/b"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        skip_missing("tmpfs", "mounting one needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


class TestFullDisk:
    def test_full_is_said_and_nothing_is_left(self, tiny_disk: Path, tmp_path: Path) -> None:
        store = DirectoryStore(tiny_disk / "objects")
        store.put_bytes("a/small", b"fits")
        large = tmp_path / "large"
        large.write_bytes(bytes(2 << 20))
        for attempt in (
            lambda: store.put("a/large", large),
            lambda: store.put_bytes("a/large", bytes(2 << 20)),
        ):
            with pytest.raises(Unavailable, match="its disk is full"):
                attempt()
        assert [found.key for found in store.list("")] == ["a/small"]
        assert list((tiny_disk / "objects").glob(".tmp-*")) == []
        store.put_bytes("a/other", b"fits again")

    def test_a_disk_that_is_not_mounted_any_more(self, tiny_disk: Path) -> None:
        root = tiny_disk / "objects"
        store = DirectoryStore(root)
        store.put_bytes("a/b", b"content")
        subprocess.run(["umount", "--lazy", str(tiny_disk)], check=True)
        root.mkdir()
        try:
            with pytest.raises(Unavailable, match="is its disk mounted"):
                store.size_bytes("a/b")
            with pytest.raises(Unavailable, match="is its disk mounted"):
                store.put_bytes("a/c", b"content")
        finally:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tiny_disk)], check=True)

    def test_a_read_only_disk(self, tiny_disk: Path) -> None:
        store = DirectoryStore(tiny_disk / "objects")
        store.put_bytes("a/b", b"content")
        subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
        with pytest.raises(Unavailable, match="read-only"):
            store.put_bytes("a/c", b"content")
        assert store.get_bytes("a/b") == b"content"
