"""The twin of the real stores for fast tests: a dictionary under a lock. Durable until the process ends."""

from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.ids import new_ulid
from mainstay.storage.objects import CONTENT_BYTES_MAX, KeyTaken, NoSuchObject, StoredObject
from mainstay.storage.objects.keys import checked_key, checked_prefix
from mainstay.storage.objects.ranges import end_of


class MemoryStore:
    """Objects in this process. Safe for use from several threads."""

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._lock = Lock()
        self._objects: dict[str, tuple[bytes, int]] = {}

    def put(self, key: str, source: Path) -> None:
        self._keep(checked_key(key), source.read_bytes())

    def put_bytes(self, key: str, content: bytes) -> None:
        assert len(content) <= CONTENT_BYTES_MAX, "large content comes from a file"
        self._keep(checked_key(key), bytes(content))

    def get_bytes(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        content = self._content(checked_key(key))
        return content[start : end_of(len(content), start=start, length=length)]

    def fetch(self, key: str, target: Path) -> None:
        content = self._content(checked_key(key))
        temporary = target.with_name(f".tmp-{new_ulid()}")
        temporary.write_bytes(content)
        temporary.replace(target)

    def size_bytes(self, key: str) -> int | None:
        found = self._objects.get(checked_key(key))
        return None if found is None else len(found[0])

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(checked_key(key), None)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        wanted = checked_prefix(prefix)
        with self._lock:
            seen = list(self._objects.items())
        for key, (content, modified_ms) in seen:
            if key.startswith(wanted):
                yield StoredObject(key, len(content), modified_ms)

    def _keep(self, key: str, content: bytes) -> None:
        with self._lock:
            present = self._objects.setdefault(key, (content, self._clock.now_ms()))
        if present[0] != content:
            raise KeyTaken(f"object {key!r}: other bytes are stored under this key")

    def _content(self, key: str) -> bytes:
        found = self._objects.get(key)
        if found is None:
            raise NoSuchObject(f"object {key!r} is not in the store")
        return found[0]
