"""What a site remembers between two runs: the last words of its primary, a promotion that was begun.

Small files in `DATA/sites`, replaced whole. What the primary said is written at most once a second, and not
synced: the machine whose power fails is not the one that is promoted a moment later.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mainstay.foundation.errors import Conflict
from mainstay.foundation.file_locks import held
from mainstay.foundation.private_files import make_private_directory, replace_file
from mainstay.ops.sites.losses import Heard, LastPush
from mainstay.ops.sites.promotion import Progress, progress_in, progress_said

_FILE_BYTES_MAX: Final = 1 << 20
_OFFERED_MAX: Final = 20
_RECORD_BYTES_MAX: Final = 64 * 1024


class MemoryUnreadable(Conflict):
    """A file is there and is not what was written."""


class Memory:
    """The files in one directory."""

    def __init__(self, data: Path) -> None:
        self._directory = data / "sites"

    def heard(self) -> Heard | None:
        """None: the primary was never heard. What cannot be read was not heard either."""
        try:
            return heard_in(self._read("heard.json"))
        except (MemoryUnreadable, KeyError, TypeError, ValueError):
            return None

    def note_heard(self, heard: Heard) -> None:
        self._write("heard.json", asdict(heard), durable=False)

    def said(self) -> Any:
        """What this site, as primary, lets its replicas remember; None: nothing."""
        try:
            return self._read("said.json")
        except MemoryUnreadable:
            return None

    def note_said(self, said: Mapping[str, Any]) -> None:
        self._write("said.json", dict(said), durable=False)

    def progress(self) -> Progress | None:
        """Of the last promotion. Raises `MemoryUnreadable`."""
        said = self._read("promotion.json")
        try:
            return None if said is None else progress_in(said)
        except (KeyError, TypeError, ValueError) as error:
            raise MemoryUnreadable(f"{self._directory / 'promotion.json'}: {error!r}") from error

    @contextmanager
    def one_promotion(self) -> Iterator[None]:
        """Of a person and a process that promote the site at the same time, one waits for the other."""
        make_private_directory(self._directory)
        with held(self._directory / "promotion.lock"):
            yield

    def note_progress(self, progress: Progress) -> None:
        self._write("promotion.json", progress_said(progress), durable=True)

    def incomplete(self) -> list[int]:
        """Repositories that a promotion closed and that have not come back."""
        said = self._read("incomplete.json")
        return [int(each) for each in said] if isinstance(said, list) else []

    def note_incomplete(self, ids: list[int]) -> None:
        self._write("incomplete.json", sorted(set(ids)), durable=True)

    def keep_lost(self, name: str, content: bytes) -> None:
        """The record of a push that a promotion lost."""
        self._keep("lost", name, content)

    def keep_diverged(self, name: str, content: bytes) -> None:
        """The record of a change that only this site had when it was made a replica."""
        self._keep("diverged", name, content)

    def diverged(self) -> dict[str, str]:
        """Those that no other site has taken yet, by their names; a few at a time."""
        files = sorted((self._directory / "diverged").glob("*.json"))[:_OFFERED_MAX]
        return {file.name: file.read_text() for file in files if file.stat().st_size <= _RECORD_BYTES_MAX}

    def note_adopted(self, name: str) -> None:
        """The new primary has it: it is kept, and offered no more."""
        file = self._directory / "diverged" / name
        file.rename(file.with_suffix(".adopted"))

    def adding(self) -> Mapping[str, str] | None:
        """What `replica add` was given by the primary, so that a repeat needs no second token."""
        said = self._read("adding.json")
        return {str(name): str(text) for name, text in said.items()} if isinstance(said, dict) else None

    def note_adding(self, facts: Mapping[str, str]) -> None:
        self._write("adding.json", dict(facts), durable=True)

    def _keep(self, folder: str, name: str, content: bytes) -> None:
        make_private_directory(self._directory)
        make_private_directory(self._directory / folder)
        replace_file(self._directory / folder / name, content, durable=True)

    def _read(self, name: str) -> Any:
        """None: there is none."""
        file = self._directory / name
        try:
            content = file.read_bytes()[:_FILE_BYTES_MAX]
        except FileNotFoundError:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise MemoryUnreadable(f"{file} cannot be read") from error

    def _write(self, name: str, said: Any, *, durable: bool) -> None:
        make_private_directory(self._directory)
        replace_file(self._directory / name, json.dumps(said).encode(), durable=durable)


def heard_in(said: Any) -> Heard | None:
    """From what was kept."""
    if said is None:
        return None
    push = said["last_push"]
    return Heard(
        at_ms=int(said["at_ms"]),
        site_id=str(said["site_id"]),
        name=str(said["name"]),
        url=str(said["url"]),
        wal=None if said["wal"] is None else int(said["wal"]),
        last_push=None if push is None else LastPush(**push),
        waits_for_us=said["waits_for_us"] is True,
    )
