"""Object stores for tests: a fresh, empty one of each kind, and a memory store that can misbehave."""

from collections.abc import Iterator
from pathlib import Path

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.objects import ObjectStore, StoredObject
from mainstay.storage.objects.memory import MemoryStore
from mainstay.storage.objects.opening import open_object_store
from support.s3 import S3Server


def fresh_store(kind: str, directory: Path, server: S3Server | None) -> ObjectStore:
    """An empty store: `directory` under `directory`, `memory`, or `s3` under a prefix of its own."""
    if kind == "directory":
        return open_object_store(str(directory / "objects"))
    if kind == "memory":
        return open_object_store("memory://")
    assert server is not None
    return server.open(f"store-{new_ulid().lower()}")


class FlakyStore(MemoryStore):
    """A memory store that is away while `away` is set, and counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked: list[tuple[str, str]] = []

    def put(self, key: str, source: Path) -> None:
        self._ask("put", key)
        super().put(key, source)

    def put_bytes(self, key: str, content: bytes) -> None:
        self._ask("put_bytes", key)
        super().put_bytes(key, content)

    def get_bytes(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._ask("get_bytes", key)
        return super().get_bytes(key, start=start, length=length)

    def size_bytes(self, key: str) -> int | None:
        self._ask("size_bytes", key)
        return super().size_bytes(key)

    def delete(self, key: str) -> None:
        self._ask("delete", key)
        super().delete(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._ask("list", prefix)
        return super().list(prefix)

    def _ask(self, what: str, key: str) -> None:
        self.asked.append((what, key))
        if self.away:
            raise Unavailable("the store is away")
