"""Where a pushed pack waits until it is known to be sound, connected and allowed.

A directory per push, beside the repository and not in it: git sees it only through the environment of the
processes that check the push. A push that dies leaves a directory that the next start wipes.
"""

import asyncio
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from mainstay.cache.copies import Copy
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.git.native.place import MIB, GitPlace, Limits
from mainstay.git.native.run import GitProcess, allow, feed, run, start, stop
from mainstay.git.packs import HEADER_BYTES, NotAPack, object_count
from mainstay.repository.reporting import Complaints
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.streams import ByteSource
from mainstay.repository.threads import Threads, ended
from mainstay.storage.ledger import Repository
from mainstay.storage.upload import PackFiles, finished_pack

PACK_RECEIVED = declare("push.pack_received", "the pack is indexed in quarantine; nothing was recorded")

_BYTES_PER_OBJECT = 200
_BYTES_PER_ANNOUNCED_OBJECT = 80
_PACKED_BYTES_MIN = 9
"""The smallest object in a pack: a header, and the end of an empty deflate stream."""
_DRAIN_BYTES_MAX = 64 * MIB
_SMALL_BYTES_MAX = 1 << 19
_REVERSE_INDEX_FROM = 10_000
_FORGOTTEN_AFTER_S = 24 * 3600
_TOLERATED = "badTimezone=ignore,missingSpaceBeforeDate=ignore,zeroPaddedFilemode=ignore"
"""Old mistakes in the histories of public projects, which no one can mend any more and which harm nobody.
Everything else that fsck calls an error refuses the push."""


class BadPack(Invalid):
    """The pack is not one that we take; the message says why, in git's words where git said it."""


class NoRoom(Unavailable):
    """The disk does not take a quarantine; the message says why."""


class Quarantine:
    """The directory of one push. A context manager: soon after its end the directory is gone.

    The pusher does not wait for that; a node that dies first leaves it to `wipe`.
    """

    def __init__(self, push_id: str, copy: Copy, settings: RepositorySettings, threads: Threads) -> None:
        self._threads = threads
        self._directory = settings.quarantine / push_id
        self._settings = settings
        self._copy = copy
        self.place = GitPlace(git_dir=copy.place.git_dir, objects=self._directory, alternates=(copy.objects,))

    def __enter__(self) -> Self:
        try:
            (self._directory / "pack").mkdir(parents=True)
        except OSError as refused:
            raise NoRoom(f"no push can be taken now: {refused.strerror}") from refused
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.later(partial(shutil.rmtree, self._directory, ignore_errors=True))

    def limits(self, objects: int) -> Limits:
        """What a process that handles this push may use: a base, and a little per object."""
        memory = self._settings.child_memory_mib * MIB + objects * _BYTES_PER_OBJECT
        return Limits(data_bytes_max=memory)

    def indexing_limits(self, announced: int, received_bytes: int) -> Limits:
        """What index-pack may use for what it was fed so far.

        It allocates a table for as many objects as the header announces, which costs nothing until it is
        filled; all else is given only for objects that can have come, so that a lie buys no memory.
        """
        here = min(announced, received_bytes // _PACKED_BYTES_MIN)
        memory = announced * _BYTES_PER_ANNOUNCED_OBJECT + here * _BYTES_PER_OBJECT
        work_s = self._settings.push_cpu_s_per_mib * received_bytes // MIB
        return Limits(
            data_bytes_max=self._settings.child_memory_mib * MIB + memory,
            cpu_s_max=self._settings.push_cpu_s + work_s,
        )

    async def receive(
        self, source: ByteSource, complaints: Complaints, *, ends: bool, at_end: Callable[[], None]
    ) -> int:
        """Index the pack that `source` brings and return its number of objects.

        `ends` says whether the source ends after the pack (HTTP) or stays open for the answer (SSH);
        `at_end` is called when the client has sent everything. Raises `BadPack`.
        """
        try:
            first, is_all = await _first_bytes(source, _SMALL_BYTES_MAX if ends else HEADER_BYTES)
            objects = self._announced(first)
            if is_all:
                await self._index_small(first, objects, complaints)
            else:
                await self._index(first, source, objects, complaints, at_end)
        finally:
            if ends:
                await _drain(source)
        at_end()
        failpoint(PACK_RECEIVED)
        return objects

    def _announced(self, first: bytes) -> int:
        try:
            return object_count(first, objects_max=self._settings.pack_objects_max)
        except NotAPack as wrong:
            raise BadPack(str(wrong)) from wrong

    async def _index_small(self, pack: bytes, objects: int, complaints: Complaints) -> None:
        """A pack that is here whole: one blocking call in a thread costs half of a watched process."""
        arguments, limits = self._arguments(objects), self.indexing_limits(objects, len(pack))
        finished = await self._threads.run(run, self.place, arguments, stdin=pack, limits=limits, check=False)
        await complaints.hear(finished.stderr)
        if finished.exit_code != 0:
            raise _refusal(finished.exit_code, complaints)

    def _arguments(self, objects: int) -> list[str]:
        """A small pack needs no reverse index on disk: git makes one faster than it finds one."""
        reverse = "--rev-index" if objects >= _REVERSE_INDEX_FROM else "--no-rev-index"
        return [
            "index-pack", "--stdin", "--fix-thin", reverse, f"--strict={_TOLERATED}",
            "--show-resolving-progress", f"--max-input-size={self._settings.pack_gib_max << 30}",
        ]  # fmt: skip

    async def _index(
        self,
        first: bytes,
        source: ByteSource,
        objects: int,
        complaints: Complaints,
        at_end: Callable[[], None],
    ) -> None:
        limits = self.indexing_limits(objects, len(first))
        process = await start(self.place, self._arguments(objects), limits=limits)
        assert process.stderr is not None

        def fed(received_bytes: int) -> None:
            allow(process, self.indexing_limits(objects, received_bytes))

        feeding = asyncio.create_task(_feed(process, first, source, fed, at_end))
        try:
            await complaints.follow(process.stderr)
            code = await process.wait()
        finally:
            # Whatever happened: from here on nobody else reads the source, and nobody feeds a dead process.
            try:
                await ended(feeding)
            finally:
                await stop(process)
        if not feeding.cancelled():
            feeding.result()  # a client that went away
        if code != 0:
            raise _refusal(code, complaints)

    def pack(self) -> Path:
        """The pack that was received."""
        (pack,) = (self._directory / "pack").glob("*.pack")
        return pack

    def files(self, repository: Repository, objects: int) -> PackFiles:
        """Describe the indexed pack for the manifest. Blocks: reads the pack once to hash it."""
        pack = self.pack()
        files = {
            ending: pack.with_suffix(f".{ending}")
            for ending in ("pack", "idx", "rev")
            if pack.with_suffix(f".{ending}").exists()
        }
        return finished_pack(repository, files, objects=objects, kind="receive")


def remove_forgotten(directory: Path, clock: Clock) -> int:
    """Remove quarantines older than any push may take: their process died while the node lived on.

    Returns how many. What a node that starts finds is removed at once, by whoever starts it.
    """
    oldest_s = clock.now_ms() / 1000 - _FORGOTTEN_AFTER_S
    removed = 0
    for entry in directory.glob("*"):
        try:
            is_forgotten = entry.stat().st_mtime < oldest_s
        except FileNotFoundError:
            continue
        if is_forgotten:
            shutil.rmtree(entry, ignore_errors=True)
            removed += 1
    return removed


async def _first_bytes(source: ByteSource, enough: int) -> tuple[bytes, bool]:
    """The first `enough` bytes or a little more, and whether they are all there is."""
    chunks: list[bytes] = []
    size = 0
    while size < max(enough, HEADER_BYTES):
        chunk = await source.read()
        if not chunk:
            return b"".join(chunks), True
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks), False


def _refusal(code: int, complaints: Complaints) -> BadPack:
    if code == -signal.SIGXCPU:
        return BadPack("the pack takes too much computing to unpack for its size")
    if code < 0:
        return BadPack(f"git was ended by signal {-code} before it had taken the pack")
    return BadPack(complaints.last or f"index-pack ended with {code}")


async def _feed(
    process: GitProcess,
    first: bytes,
    source: ByteSource,
    fed: Callable[[int], None],
    at_end: Callable[[], None],
) -> None:
    """Pump the pack into git. Over SSH no end comes: git knows where the pack ends, and this is cancelled.

    `fed` is told how much it is in all before git gets it. However it ends, git's input is closed: a client
    that went away leaves git with an early end, not waiting.
    """
    assert process.stdin is not None
    received_bytes = 0
    try:
        chunk = first
        while chunk:
            received_bytes += len(chunk)
            fed(received_bytes)
            if not await feed(process, chunk):
                return
            chunk = await source.read()
        at_end()
    finally:
        process.stdin.close()


async def _drain(source: ByteSource) -> None:
    """Read what a client still sends, refused or not, so that it reads our answer instead of a reset."""
    drained = 0
    while drained < _DRAIN_BYTES_MAX:
        chunk = await source.read()
        if not chunk:
            return
        drained += len(chunk)
