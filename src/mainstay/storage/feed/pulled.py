"""The object store of a replica: what is not here yet is pulled from the primary when somebody asks for it.

So a replica never says "there is no such object" because it is behind: it has the object, or gets it, or
says that the primary cannot be reached. A background puller (`cluster.sites`) is there for speed and for
the day when the primary is gone, not for correctness.

What is pulled is checked by size and SHA-256 on its way, stored as durably as if it had been pushed here,
and pulled once however many ask. As primary (`source` gives None) this is the inner store and nothing else.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.objects import NoSuchObject, ObjectStore, StoredObject

_PULLS_AT_ONCE = 8
_WAIT_S_MAX = 600.0


class PullsCrowded(Unavailable):
    """Too many objects are on their way already."""


class Source(Protocol):
    """Where missing objects are: the primary, over the line between sites."""

    def download(self, key: str, target: Path) -> None:
        """Write the object to a fresh file, checked. Raises `NoSuchObject`, `Unavailable`. Blocks."""
        ...


class PulledStore:
    """`inner`, completed from a source. Safe for threads."""

    def __init__(self, inner: ObjectStore, scratch: Path, source: Callable[[], Source | None]) -> None:
        self._inner = inner
        self._scratch = scratch
        self._source = source
        self._room = threading.BoundedSemaphore(_PULLS_AT_ONCE)
        self._lock = threading.Lock()
        self._under_way: dict[str, threading.Event] = {}

    def put(self, key: str, source: Path) -> None:
        self._inner.put(key, source)

    def put_bytes(self, key: str, content: bytes) -> None:
        self._inner.put_bytes(key, content)

    def get_bytes(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        try:
            return self._inner.get_bytes(key, start=start, length=length)
        except NoSuchObject:
            if not self.pull(key):
                raise
        return self._inner.get_bytes(key, start=start, length=length)

    def fetch(self, key: str, target: Path) -> None:
        try:
            self._inner.fetch(key, target)
        except NoSuchObject:
            if not self.pull(key):
                raise
            self._inner.fetch(key, target)

    def size_bytes(self, key: str) -> int | None:
        """Of the object here; None may also mean that it did not come yet."""
        return self._inner.size_bytes(key)

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """What is here by now."""
        return self._inner.list(prefix)

    def pull(self, key: str) -> bool:
        """Have the object here; False when there is nowhere to pull from.

        Raises `NoSuchObject` when the source has none either, `Unavailable` when it does not answer.
        """
        source = self._source()
        if source is None:
            return False
        with self._turn(key) as is_mine:
            if is_mine and self._inner.size_bytes(key) is None:  # else another has just brought it
                self._pull(key, source)
        return True

    def _pull(self, key: str, source: Source) -> None:
        target = self._scratch / f"pull-{new_ulid()}"
        try:
            source.download(key, target)
            self._inner.put(key, target)
        finally:
            target.unlink(missing_ok=True)

    @contextmanager
    def _turn(self, key: str) -> Iterator[bool]:
        """True for who is to pull; others come through when that has ended, however it ended."""
        with self._lock:
            done = self._under_way.get(key)
            is_mine = done is None
            if done is None:
                done = self._under_way[key] = threading.Event()
        if not is_mine:
            if not done.wait(_WAIT_S_MAX):
                raise PullsCrowded(f"object {key!r} takes too long to come from the primary")
            yield False
            return
        try:
            if not self._room.acquire(timeout=_WAIT_S_MAX):
                raise PullsCrowded("too many objects are on their way from the primary")
            try:
                yield True
            finally:
                self._room.release()
        finally:
            with self._lock:
                del self._under_way[key]
            done.set()
