"""The feed: one line per object that was stored or deleted, appended by all processes of a node.

    + <ms> <size> <key>        - <ms> 0 <key>

A *position* counts bytes since the feed began, so it only grows, and two readers can compare how far they
are. Lines are in segments, `feed/<position of the first byte>.log`; the oldest are removed.

The feed says what to look at first; it is not the truth. Nothing is synced: a power cut may take lines back,
and then the same position could mean other lines. So a feed has an identity, which is new after every boot
of the machine. Who reads must then compare everything once, as must who was away for longer than the
segments that are kept.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mainstay.foundation.boots import boot_id
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.file_locks import held
from mainstay.foundation.ids import new_ulid

SEGMENT_BYTES: Final = 4 << 20
SEGMENTS_KEPT: Final = 16
READ_BYTES_MAX: Final = 256 * 1024
_LINE_BYTES_MAX: Final = 4096


class FeedGone(Conflict):
    """There is nothing at that position (any more): compare everything, and begin at the end of the feed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object that came or went."""

    key: str
    size_bytes: int
    at_ms: int
    is_deleted: bool = False

    @property
    def line(self) -> bytes:
        sign = "-" if self.is_deleted else "+"
        return f"{sign} {self.at_ms} {self.size_bytes} {self.key}\n".encode()


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, and the position after them."""

    entries: Sequence[Entry]
    position: int


class Feed:
    """The feed in one directory. Safe for threads and for processes. All but `begin` need that it exists."""

    def __init__(
        self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES, segments_kept: int = SEGMENTS_KEPT
    ) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments_kept = segments_kept

    @property
    def directory(self) -> Path:
        """Changes there mean that something was appended."""
        return self._directory

    @property
    def has_begun(self) -> bool:
        return bool(self._identity_line())

    def begin(self, *, boot: Callable[[], str] | None = None) -> str:
        """Make the feed, or go on with it, and return its identity. Once per start of a node, by one process.

        Where nobody can say whether the machine was booted meanwhile, it was.
        """
        self._directory.mkdir(exist_ok=True)
        now = (boot or boot_id)()
        with self._locked():
            identity, _, since = self._identity_line().partition(" ")
            if identity and now and since == now:
                return identity
            for segment in self._segments():
                self._file(segment).unlink()
            identity = new_ulid()
            fresh = self._directory / "identity.new"
            fresh.write_text(f"{identity} {now}")
            fresh.replace(self._directory / "identity")
            return identity

    def forget(self) -> None:
        """From now on nobody appends. Whoever begins again begins anew, because something will be missing."""
        (self._directory / "identity").unlink(missing_ok=True)

    @property
    def identity(self) -> str:
        """Which feed the positions are of. Raises `FeedGone` when it was not begun."""
        found = self._identity_line().partition(" ")[0]
        if not found:
            raise FeedGone("this node has no feed of its objects")
        return found

    @property
    def end(self) -> int:
        """The position after the last whole line."""
        segments = self._segments()
        return segments[-1] + self._whole_size(segments[-1]) if segments else 0

    def append(self, entries: Sequence[Entry]) -> int:
        """Write lines and return the position after them. Raises `Unavailable`: then none is there."""
        text = b"".join(entry.line for entry in entries)
        with self._locked():
            start = self._current()
            try:
                return start + _append(self._file(start), text)
            except OSError as error:
                raise Unavailable(f"cannot write the feed of objects: {error.strerror}") from error

    def read(self, after: int, *, bytes_max: int = READ_BYTES_MAX) -> Page:
        """The entries that follow a position, as many as fit; none at the end. Raises `FeedGone`."""
        segments = self._segments()
        if after == 0 and not segments:
            return Page([], 0)
        starts = [start for start in segments if start <= after]
        if not starts or after > starts[-1] + self._size(starts[-1]):
            raise FeedGone(f"the feed has nothing at {after} (any more)")
        text = self._text(starts[-1], after - starts[-1], bytes_max)
        whole = text[: text.rfind(b"\n") + 1]
        entries = [entry_in(line) for line in whole.splitlines()]
        return Page(entries, after + len(whole))

    def _current(self) -> int:
        """The start of the segment to write to; a full one is followed by a new one."""
        segments = self._segments()
        if not segments:
            return 0
        start, size = segments[-1], self._size(segments[-1])
        if size < self._segment_bytes:
            return start
        for old in segments[: 1 - self._segments_kept]:
            self._file(old).unlink()
        return start + self._whole_size(start)

    def _text(self, start: int, offset: int, bytes_max: int) -> bytes:
        try:
            with self._file(start).open("rb") as segment:
                segment.seek(offset)
                return segment.read(bytes_max)
        except FileNotFoundError:
            raise FeedGone(f"the feed has nothing at {start + offset} any more") from None

    def _segments(self) -> list[int]:
        return sorted(int(file.stem) for file in self._directory.glob("*.log"))

    def _file(self, start: int) -> Path:
        return self._directory / f"{start:020d}.log"

    def _size(self, start: int) -> int:
        try:
            return self._file(start).stat().st_size
        except FileNotFoundError:
            return 0

    def _identity_line(self) -> str:
        try:
            return (self._directory / "identity").read_text()
        except FileNotFoundError:
            return ""

    def _whole_size(self, start: int) -> int:
        try:
            with self._file(start).open("rb") as segment:
                return _whole_bytes(segment.fileno())
        except FileNotFoundError:
            return 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self._directory / "lock"))
            except OSError as error:
                raise Unavailable(f"cannot write the feed of objects: {error}") from error
            yield


def _append(file: Path, text: bytes) -> int:
    """All of the text or nothing; return the size of the file with it.

    What somebody left there who was killed in the middle of a line was read by nobody, and goes.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = _whole_bytes(descriptor)
        if size != os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, size)
        if os.write(descriptor, text) == len(text):
            return size + len(text)
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _whole_bytes(descriptor: int) -> int:
    """The size of the file up to the end of its last whole line."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    start = max(0, size - _LINE_BYTES_MAX)
    return start + os.pread(descriptor, _LINE_BYTES_MAX, start).rfind(b"\n") + 1


def entry_in(line: bytes) -> Entry:
    """What `Entry.line` has written. Raises `ValueError`."""
    sign, at_ms, size_bytes, key = line.decode().split(" ")
    return Entry(key, int(size_bytes), int(at_ms), is_deleted=sign == "-")
