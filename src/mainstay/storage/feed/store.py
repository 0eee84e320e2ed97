"""An object store whose every change is in the feed, and which takes nothing that has no class.

An object is announced when it is stored, by whoever stored it; a process that dies in between leaves an
object that replicas find at their next comparison. No push depends on such an object: it never committed.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mainstay.foundation.clock import Clock
from mainstay.storage.feed.classes import class_of
from mainstay.storage.feed.log import Entry, Feed
from mainstay.storage.objects import ObjectStore, StoredObject

_REMEMBERED_MAX: Final = 10_000


class FedStore:
    """`inner`, with a feed of what changes there; without one (None) only the classes are checked."""

    def __init__(self, inner: ObjectStore, feed: Feed | None, *, clock: Clock) -> None:
        self._inner = inner
        self._feed = feed
        self._clock = clock
        self._lock = threading.Lock()
        self._announced: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def stretch_of(self, key: str) -> tuple[int, int] | None:
        """Where in the feed this process has announced the object; None: it has not, or long ago."""
        with self._lock:
            return self._announced.get(key)

    def put(self, key: str, source: Path) -> None:
        class_of(key)
        self._inner.put(key, source)
        self._announce(key, source.stat().st_size)

    def put_bytes(self, key: str, content: bytes) -> None:
        class_of(key)
        self._inner.put_bytes(key, content)
        self._announce(key, len(content))

    def get_bytes(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return self._inner.get_bytes(key, start=start, length=length)

    def fetch(self, key: str, target: Path) -> None:
        self._inner.fetch(key, target)

    def size_bytes(self, key: str) -> int | None:
        return self._inner.size_bytes(key)

    def delete(self, key: str) -> None:
        self._inner.delete(key)
        self._announce(key, 0, is_deleted=True)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return self._inner.list(prefix)

    def _announce(self, key: str, size_bytes: int, *, is_deleted: bool = False) -> None:
        if self._feed is not None:
            entry = Entry(key, size_bytes, self._clock.now_ms(), is_deleted=is_deleted)
            end = self._feed.append([entry])
            with self._lock:
                self._announced[key] = (end - len(entry.line), end)
                while len(self._announced) > _REMEMBERED_MAX:
                    self._announced.popitem(last=False)
