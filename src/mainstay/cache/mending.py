"""Damage in a copy: found by whoever has a reason to doubt, replaced from the object store.

Disks lose bits and power cuts lose bytes. Git notices some of it when it serves, and its client the rest:
git copies parts of packs as they are. So a copy is looked through when git fails in it, when the same is
asked for again at once, and now and then without a reason (`cache.scrub`). A damaged file is replaced by a
sound one in one step, under the feet of processes that read it: they keep the file that they have open.

Looking through reads everything. A look that found nothing is not repeated for a while, fifty times as long
as it took: nobody can make a node read more than that.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from mainstay.cache.locks import exclusive
from mainstay.cache.packs import PackStore, files_of
from mainstay.cache.proof import is_sound
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.ids import new_ulid
from mainstay.storage.ledger import Pack

_PAUSE_S_MIN = 60.0
_PAUSE_PER_LOOK = 50.0
_PAUSE_S_MAX = 24 * 3600.0
_STAMP_STEP_S = 0.001

log = structlog.get_logger()


def stamp_of(directory: Path) -> int:
    """Another number after each mending of the copies of a repository, whichever process did it."""
    try:
        return (directory.parent / "mended").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Mender:
    """Looks through copies and replaces what is damaged."""

    def __init__(self, packs: PackStore, clock: Clock) -> None:
        self._packs = packs
        self._clock = clock

    def look_through(self, directory: Path, packs: tuple[Pack, ...], *, stamp: int) -> bool:
        """Whether anything in the copy was damaged, now or at any time since it had this `stamp`.

        False, too, when it was looked at a short while ago. Blocks. Raises `Unavailable` when something is
        damaged and cannot be replaced now; it is gone then.
        """
        with suppress(FileNotFoundError), exclusive(directory.parent / "look"):
            if stamp_of(directory) != stamp:
                return True
            not_before = directory.parent / "not_before"
            if self._is_early(not_before):
                return False
            started_s = time.monotonic()
            if self.mend(directory, packs):
                return True
            pause_s = max(_PAUSE_S_MIN, (time.monotonic() - started_s) * _PAUSE_PER_LOOK)
            _touch(not_before, self._clock.now_ms() / 1000 + min(pause_s, _PAUSE_S_MAX))
        return False

    def _is_early(self, not_before: Path) -> bool:
        """A clock that was set back may not keep us from looking for years."""
        with suppress(FileNotFoundError):
            return 0 < not_before.stat().st_mtime - self._clock.now_ms() / 1000 <= _PAUSE_S_MAX
        return False

    def mend(self, directory: Path, packs: tuple[Pack, ...]) -> bool:
        """Read all files of the copy and replace the damaged ones. Returns whether there were any."""
        damaged = [
            (pack, ending, path) for pack, ending, path in files_in(directory, packs)
            if not _is_well(path, ending, pack)
        ]  # fmt: skip
        if not damaged:
            return False
        log.warning(
            "cache.damage_found", copy=str(directory.parent.name), files=[path.name for *_, path in damaged]
        )
        try:
            for pack, ending, path in damaged:
                self._replace(pack, ending, path)
        finally:
            before_s = stamp_of(directory) / 1e9
            _touch(directory.parent / "mended", max(self._clock.now_ms() / 1000, before_s + _STAMP_STEP_S))
        log.info("cache.mended", copy=str(directory.parent.name))
        return True

    def _replace(self, pack: Pack, ending: str, path: Path) -> None:
        stored = self._packs.path(pack.id, ending)
        if not _is_well(stored, ending, pack):
            self._packs.forget(pack.id, ending)
        try:
            found = self._packs.ensure(pack, [ending])
        except MainstayError:
            path.unlink(missing_ok=True)
            raise
        if not found:
            path.unlink(missing_ok=True)
            return
        fresh = path.with_name(f"new-{new_ulid()}")
        try:
            os.link(stored, fresh)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)


def files_in(directory: Path, packs: tuple[Pack, ...]) -> Iterator[tuple[Pack, str, Path]]:
    """The files that the copy has of its packs, and may be read. The commit-graph is that of the newest."""
    for pack in packs:
        for ending in files_of(pack):
            path = directory / "objects" / "pack" / f"pack-{pack.id}.{ending}"
            if ending != "graph" and path.exists():
                yield pack, ending, path
    graph = directory / "objects" / "info" / "commit-graph"
    newest = next((pack for pack in reversed(packs) if "graph" in pack.artefacts), None)
    if newest is not None and graph.exists():
        yield newest, "graph", graph


def _is_well(path: Path, ending: str, pack: Pack) -> bool:
    """A file that went meanwhile is not damaged: it is brought again by whoever pins the copy next."""
    try:
        return is_sound(path, ending, pack)
    except FileNotFoundError:
        return True


def _touch(path: Path, at_s: float) -> None:
    path.touch()
    os.utime(path, (at_s, at_s))
