"""A place for immutable bytes: `directory`, `cloud` (S3, GCS, Azure), `memory`.

Keys are relative paths of `[A-Za-z0-9._-]` segments, unique per upload, never reused, never overwritten.
Every implementation passes `tests/contracts/test_object_store.py`. All methods block: callers that wait
run them in a thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mainstay.foundation.errors import Conflict, NotFound, Unavailable

CONTENT_BYTES_MAX: Final = 64 << 20
"""What `put_bytes` takes at most; anything larger comes from a file."""


class StoreAway(Unavailable):
    """The store failed or did not answer, again and again. Asking once more now only takes time."""


class KeyTaken(Conflict):
    """Other bytes are already stored under this key."""


class NoSuchObject(NotFound):
    """Nothing is stored under this key."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    key: str
    size_bytes: int
    modified_ms: int


class ObjectStore(Protocol):
    """Immutable bytes under unique keys.

    Errors: `Invalid` for a malformed key, `Unavailable` when the store is away or refuses (full disk,
    denied credentials; the message says which).
    """

    def put(self, key: str, source: Path) -> None:
        """Store the file under `key`.

        When this returns, the bytes survive the loss of power (directory) or of this machine (cloud).
        A reader sees the whole object or none of it. Storing equal bytes again is fine; other bytes
        under a used key raise `KeyTaken`. `source` is left alone and may share its inode with the store:
        do not write to it afterwards.
        """
        ...

    def put_bytes(self, key: str, content: bytes) -> None:
        """`put` for small content (journal records, markers). At most 64 MiB."""
        ...

    def get_bytes(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return the content, or `length` bytes of it from `start`. Raises `NoSuchObject`.

        A range is cut at the end of the object, as a slice is.
        """
        ...

    def fetch(self, key: str, target: Path) -> None:
        """Make the object appear at `target`, whole or not at all; a directory store hard-links.

        `target` must not be written to. An existing `target` is replaced. Raises `NoSuchObject`.
        """
        ...

    def size_bytes(self, key: str) -> int | None:
        """The size of the object, or None when there is none. Never a guess from a cache."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object. Removing what is not there is fine."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose key starts with `prefix`, in no particular order."""
        ...
