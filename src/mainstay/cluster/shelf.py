"""What a node remembers of the shared secrets while the database is away: as they are kept there, wrapped.

A process that is started again in the middle of an outage finds its host keys and credentials here. One file
per secret, replaced whole; all of them may be deleted at any time.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mainstay.foundation.private_files import make_private_directory, replace_file


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
        make_private_directory(self.directory)
        replace_file(self._file(name), wrapped.encode("ascii"))

    def _file(self, name: str) -> Path:
        return self.directory / f"{quote(name, safe='')}.wrapped"
