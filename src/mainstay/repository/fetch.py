"""The way of a fetch.

1. `listing`: the refs as of now (one version query);
2. `ls-refs` and the advertisement are answered from it, without starting a process;
3. what the client wants is checked here (`wants`), never by git;
4. a copy is pinned and native `git upload-pack` makes the pack; its bytes are streamed past Python.

Not here: who may fetch (`doors`), transport (`doors`).
"""

import asyncio
import contextlib
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog

from mainstay.cache.copies import Copies, Copy, CopyVanished
from mainstay.cache.refs import RefListing, RefListings
from mainstay.cache.responses import Make, Responses, Write, key_of
from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.git.native.place import MIB, Limits
from mainstay.git.native.run import GitProcess, feed, start, stop
from mainstay.git.protocol import pktline, v0, v2
from mainstay.git.protocol.report import error_packet
from mainstay.git.protocol.services import Service
from mainstay.repository import advertisement, packed_refs
from mainstay.repository.holding import Waiting
from mainstay.repository.packets import NotedSink, RequestsV2, WantsV0, failures_told
from mainstay.repository.pipes import WidePipe
from mainstay.repository.settings import RepositorySettings
from mainstay.repository.streams import ByteSink, ByteSource
from mainstay.repository.threads import Threads, ended
from mainstay.repository.turns import Turns
from mainstay.repository.wants import NotOurRef, Reachable, TooLargeToSearch

_CHUNK_BYTES = 1 << 18
_REQUEST_BYTES_MAX = 64 << 20
_ATTEMPTS_MAX = 2
_SEARCHES_AT_ONCE = 4
_HOLD_S_MAX = 45.0
"""The longest a fetch waits for a database that is away: nothing can be said to its client meanwhile."""
_DOUBTED_BYTES_MAX = 1 << 30
"""Larger copies are not read whole before an answer: their client would wait too long for a first byte."""
_CONFIG = {
    "uploadpack.allowAnySHA1InWant": "true",  # the wants were checked before
    "uploadpack.allowFilter": "true",
    "uploadpack.keepAlive": "5",
}

_CUT = error_packet("upload-pack: git was ended in the middle of the answer: try again")

Asked = v2.Fetch | v0.WantRequest

log = structlog.get_logger()


class FetchEnded(Unavailable):
    """Git was ended before it had answered."""


class Fetcher:
    """Serves upload-pack, protocol v0 and v2, stateless (HTTP) and not (SSH)."""

    def __init__(
        self,
        *,
        listings: RefListings,
        copies: Copies,
        responses: Responses,
        threads: Threads,
        settings: RepositorySettings,
    ) -> None:
        self._waiting = Waiting(hold_s=min(settings.hold_s, _HOLD_S_MAX), waiting_max=settings.fetches_max)
        self._listings = listings
        self._copies = copies
        self._responses = responses
        self._threads = threads
        self._searching = Threads(_SEARCHES_AT_ONCE)
        self._turns = Turns("fetches", turns_max=settings.fetches_max, wait_s_max=settings.wait_s_max)
        self._limits = Limits(data_bytes_max=settings.fetch_memory_mib * MIB, wall_s_max=settings.fetch_s_max)
        self._reachable = Reachable(objects_max=settings.reachable_objects_max)

    async def serve(
        self,
        repository_id: int,
        *,
        version: int,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        seen: RefListing | None = None,
    ) -> None:
        """One request when stateless, for which `seen` will do; else a session, which looks for itself."""
        noted = NotedSink(sink)
        async with failures_told(noted, repository_id=repository_id):
            if version == 2:  # noqa: PLR2004 - the number of the protocol
                await self._serve_v2(repository_id, RequestsV2(source), noted, stateless=stateless, seen=seen)
            elif stateless:
                await self._serve_v0_once(repository_id, WantsV0(source), noted, seen)
            else:
                await self._serve_v0_session(repository_id, WantsV0(source), noted)

    async def _serve_v2(
        self,
        repository_id: int,
        requests: RequestsV2,
        sink: NotedSink,
        *,
        stateless: bool,
        seen: RefListing | None,
    ) -> None:
        if not stateless:
            await sink.write(advertisement.v2())
        while (request := await requests.next()) is not None:
            if isinstance(request, v2.Goodbye):
                return
            await self._answer_v2(repository_id, request, sink, seen if stateless else None)
            if stateless:
                return

    async def _answer_v2(
        self,
        repository_id: int,
        request: v2.LsRefs | v2.Fetch,
        sink: NotedSink,
        seen: RefListing | None,
    ) -> None:
        listing = seen if seen is not None else await self._look(repository_id)
        if isinstance(request, v2.LsRefs):
            await sink.write(advertisement.ls_refs(request, listing))
        else:
            await self._make_pack(listing, request, request.raw, sink, protocol="version=2")

    async def _serve_v0_once(
        self, repository_id: int, wants: WantsV0, sink: NotedSink, seen: RefListing | None
    ) -> None:
        request = await wants.wants()
        if request is None:
            return
        listing = seen if seen is not None else await self._look(repository_id)
        body = request.raw + await _all_of(wants)
        await self._make_pack(listing, request, body, sink, protocol=None)

    async def _look(self, repository_id: int) -> RefListing:
        return await self._waiting.through(lambda: self._threads.run(self._listings.latest, repository_id))

    async def _make_pack(
        self, listing: RefListing, asked: Asked, body: bytes, sink: NotedSink, *, protocol: str | None
    ) -> None:
        """One stateless round: from the kept answers if it is asked often, else made by native git.

        Made again if the copy vanished before the first byte.
        """
        make = partial(self._round, listing, asked, body, protocol)
        # Who asks the same again at once may have got what its git could not read.
        doubting = partial(self._round, listing, asked, body, protocol, doubted=True)
        before = sink.bytes_written  # over SSH, earlier rounds went the same way
        failed = await self._from_responses(listing, asked, body, sink, doubting)
        for _ in range(_ATTEMPTS_MAX):
            if failed and sink.bytes_written == before:
                failed = await make(sink.write)
        if failed and sink.bytes_written == before:
            raise Unavailable("the pack could not be made: try again")
        if failed:
            log.warning("fetch.cut_short", repository=listing.repository.uid, reason=failed)

    async def _from_responses(
        self, listing: RefListing, asked: Asked, body: bytes, sink: NotedSink, make: Make
    ) -> str | None:
        """Answer from what is kept. Returns why not, or None when the answer was given."""
        if _needs_refs(asked) or not listing.tips.issuperset(asked.wants):
            return "it depends on more than the request"
        tags = packed_refs.known_digest(listing, "tags")
        if tags is None:
            tags = await self._threads.run(packed_refs.digest_of, listing, "tags")
        uid = listing.repository.uid
        key = key_of(uid.encode(), str(self._copies.stamp(uid)).encode(), tags, body)
        if not self._responses.is_repeated(key):
            return "it is asked for the first time"
        return await self._responses.serve(key, make, sink.write)

    async def _round(
        self,
        listing: RefListing,
        asked: Asked,
        body: bytes,
        protocol: str | None,
        write: Write,
        *,
        doubted: bool = False,
    ) -> str | None:
        """One round with native upload-pack. Returns why it failed, or None.

        A copy in which git failed is looked through, so that the next round finds it mended.
        """
        async with (
            self._turns.turn(),
            self._ready_in_thread(listing, asked, doubted=doubted) as copy,
        ):
            failed = await self._upload_pack_once(copy, body, write, protocol)
            if failed:
                await self._threads.run(self._copies.was_damaged, copy)
        if failed:
            log.warning("fetch.failed", repository=listing.repository.uid, reason=failed)
        return failed

    @contextlib.contextmanager
    def _ready(self, listing: RefListing, asked: Asked, *, doubted: bool = False) -> Iterator[Copy]:
        """A pinned copy that native git may answer from: wants checked, refs written. Blocks."""
        with self._copies.pinned(listing.repository.id) as copy:
            if doubted and sum(pack.size_bytes for pack in copy.packs) <= _DOUBTED_BYTES_MAX:
                self._copies.was_damaged(copy)
            self._check_wants(listing, asked, copy)
            try:
                packed_refs.write(copy.place.git_dir, listing, every_ref=_needs_refs(asked))
            except FileNotFoundError:
                raise CopyVanished("the cache was deleted in the middle of a fetch: try again") from None
            yield copy

    def _check_wants(self, listing: RefListing, asked: Asked, copy: Copy) -> None:
        try:
            self._reachable.check(asked.wants, listing, copy.place)
        except (NotOurRef, TooLargeToSearch):
            if not self._copies.was_damaged(copy):
                raise
            self._reachable.check(asked.wants, listing, copy.place)

    def _ready_in_thread(
        self, listing: RefListing, asked: Asked, *, doubted: bool = False
    ) -> AbstractAsyncContextManager[Copy]:
        """A search has threads of its own: whoever wants nothing but tips does not queue behind it."""
        threads = self._threads if listing.tips.issuperset(asked.wants) else self._searching
        return self._waiting.entering(
            lambda: threads.holding(self._ready(listing, asked, doubted=doubted), of=listing.repository.id)
        )

    def close(self) -> None:
        self._searching.close()

    async def _serve_v0_session(self, repository_id: int, wants: WantsV0, sink: NotedSink) -> None:
        """Protocol v0 over SSH: we advertise and check the wants, native git negotiates and packs."""
        listing = await self._look(repository_id)
        await sink.write(advertisement.v0(Service.UPLOAD_PACK, listing, stateless=False))
        request = await wants.wants()
        if request is None:
            return
        async with (
            self._turns.turn(),
            self._ready_in_thread(listing, request) as copy,
        ):
            process = await self._start(copy, [], {})
            before = sink.bytes_written
            try:
                await _converse(process, request.raw, wants, sink)
                code = await process.wait()
            finally:
                await stop(process)
            if code:
                await self._threads.run(self._copies.was_damaged, copy)
        if code < 0 or (code > 0 and sink.bytes_written == before):
            log.warning(
                "fetch.failed", repository=listing.repository.uid, reason=f"upload-pack ended with {code}"
            )
            raise FetchEnded("upload-pack: git was ended before it had answered: try again")

    async def _start(
        self, copy: Copy, flags: Sequence[str], environment: dict[str, str], stdout: int = PIPE
    ) -> GitProcess:
        arguments = ["upload-pack", "--strict", *flags, str(copy.place.git_dir)]
        return await start(
            copy.place,
            arguments,
            config=_CONFIG,
            environment=environment,
            limits=self._limits,
            stdout=stdout,
        )

    async def _upload_pack_once(
        self, copy: Copy, request: bytes, write: Write, protocol: str | None
    ) -> str | None:
        """Run one stateless round; return why it failed, or None."""
        environment = {"GIT_PROTOCOL": protocol} if protocol else {}
        begun = False
        with WidePipe() as pipe:
            process = await self._start(copy, ["--stateless-rpc"], environment, pipe.write_end)
            pipe.close_write_end()
            assert process.stderr is not None
            feeding = asyncio.create_task(_feed(process, request))
            stderr = asyncio.create_task(_tail(process.stderr))
            try:
                while chunk := await pipe.read():
                    begun = True
                    await write(chunk)
                await feeding
                code = await process.wait()
                said = await stderr
            finally:
                # Before `stop`, which reads what the pipes still hold: a stream takes one reader.
                try:
                    await ended(feeding, stderr)
                finally:
                    await stop(process)
        if code < 0 and begun:
            # Git that ends by itself has said why; who gets bytes without an end must not have to guess.
            await write(_CUT)
        return f"upload-pack ended with {code}: {said}" if code != 0 else None


def _needs_refs(asked: Asked) -> bool:
    """Whether git works the depth out from the refs as they are now."""
    return asked.depth.relative or bool(asked.depth.deepen_not)


async def _all_of(wants: WantsV0) -> bytes:
    """The rest of a stateless request: haves, which are small."""
    chunks, size = [], 0
    while chunk := await wants.read():
        size += len(chunk)
        if size > _REQUEST_BYTES_MAX:
            raise Invalid(f"the request is larger than {_REQUEST_BYTES_MAX} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _feed(process: GitProcess, request: bytes) -> None:
    """Hand over the request. A git that has heard enough closes its end, which is its right."""
    assert process.stdin is not None
    await feed(process, request)
    process.stdin.close()


async def _tail(stderr: asyncio.StreamReader) -> str:
    """What git complained of last; bounded however much it complains."""
    kept = b""
    while chunk := await stderr.read(4096):
        kept = (kept + chunk)[-2000:]
    return kept.decode("utf-8", "replace").strip()


async def _converse(process: GitProcess, head: bytes, wants: WantsV0, sink: NotedSink) -> None:
    """Pass both directions through until git has said everything."""
    assert process.stdout is not None
    assert process.stderr is not None
    await _skip_advertisement(process.stdout)
    asking = asyncio.create_task(_pass_on(process, head, wants))
    complaints = asyncio.create_task(_tail(process.stderr))
    try:
        while chunk := await process.stdout.read(_CHUNK_BYTES):
            await sink.write(chunk)
        if asking.done():
            asking.result()
    finally:
        await ended(asking, complaints)


async def _pass_on(process: GitProcess, head: bytes, wants: WantsV0) -> None:
    """However it ends, git's input is closed: a client that fell silent leaves no git that waits for it."""
    assert process.stdin is not None
    try:
        chunk = head
        while chunk and await feed(process, chunk):
            chunk = await wants.read()
    finally:
        process.stdin.close()


async def _skip_advertisement(stdout: asyncio.StreamReader) -> None:
    """Outside stateless mode git advertises first; the client has had ours already.

    A git that is ended before that leaves nothing to read, and its exit code.
    """
    with contextlib.suppress(asyncio.IncompleteReadError):
        while length := pktline.pkt_length(await stdout.readexactly(4)):
            await stdout.readexactly(length - 4)
