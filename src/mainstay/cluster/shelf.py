"""What a node remembers of the shared secrets while the database is away: as they are kept there, wrapped.

A process that is started again in the middle of an outage finds its host keys and credentials here. One file
per secret, replaced whole; all of them may be deleted at any time.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Shelf:
    """A directory of wrapped secrets."""

    directory: Path

    def read(self, name: str) -> str | None:
        try:
            return self._file(name).read_text("ascii")
        except FileNotFoundError:
            return None

    def keep(self, name: str, wrapped: str) -> None:
        """Remember it, unless it is what is remembered."""
        if self.read(name) == wrapped:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file(name).with_suffix(f".{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(wrapped)
        fresh.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self.directory / f"{quote(name, safe='')}.wrapped"
