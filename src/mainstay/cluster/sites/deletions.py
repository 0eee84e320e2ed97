"""What was deleted on the primary and is to go here, too, but later.

The database of a replica may be behind, on purpose by hours: what it still names must be there. So an object
goes when the database here has surely heard of it. What this file forgets stays on the disk and harms nobody.
"""

import threading
from pathlib import Path
from typing import Final

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.foundation.private_files import replace_file
from mainstay.storage.objects import ObjectStore

log = get_logger()

KEPT_MAX: Final = 200_000


class Deletions:
    """One file. Safe for threads."""

    def __init__(self, file: Path, *, keep_s: int) -> None:
        self._file = file
        self._keep_ms = keep_s * 1000
        self._lock = threading.Lock()
        self._due: list[tuple[int, str]] = _read(file)

    def add(self, key: str, at_ms: int) -> None:
        """It was deleted there at that time."""
        due_ms = at_ms + self._keep_ms
        with self._lock:
            if len(self._due) >= KEPT_MAX:
                log.warning("sites.deletion_forgotten", key=key)
                return
            self._due.append((due_ms, key))
            with self._file.open("a") as out:
                out.write(f"{due_ms} {key}\n")

    def carry_out(self, store: ObjectStore, *, now_ms: int) -> int:
        """Delete what is due, and return how many are gone. Keys are never used again, so none came back."""
        with self._lock:
            due = {key for due_ms, key in self._due if due_ms <= now_ms}
            gone = {key for key in due if _is_deleted(store, key)}
            if gone:
                self._due = [(due_ms, key) for due_ms, key in self._due if key not in gone]
                replace_file(self._file, "".join(f"{due_ms} {key}\n" for due_ms, key in self._due).encode())
            return len(gone)


def _is_deleted(store: ObjectStore, key: str) -> bool:
    """What cannot be deleted now is tried again the next time."""
    try:
        store.delete(key)
    except Unavailable as error:
        log.warning("sites.object_not_deleted", key=key, because=str(error))
        return False
    return True


def _read(file: Path) -> list[tuple[int, str]]:
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return []
    pairs = [line.split(" ") for line in lines]
    return [(int(pair[0]), pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()]  # noqa: PLR2004 - a pair
