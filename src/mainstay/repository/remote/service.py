"""The Git service of a node that has no repositories: the same face as `repository.service.GitService`.

What needs no objects (refs, advertisements, `ls-refs`) is answered here, from the ledger. The rest is
forwarded to a git node (`asking` says to which, and when to another). The commit there is what makes a push
true; no git node asks back.
"""

from functools import partial

from mainstay.access.policy import PushRules
from mainstay.cache.refs import RefListing, RefListings
from mainstay.foundation.errors import Invalid
from mainstay.git.protocol import v2
from mainstay.git.protocol.services import Service
from mainstay.repository import advertisement
from mainstay.repository.packets import NotedSink, RequestsV2, failures_told
from mainstay.repository.push import PushContext
from mainstay.repository.remote.asking import Asking, Replay, Source
from mainstay.repository.remote.calls import ReceivePack, UploadPack
from mainstay.repository.streams import ByteSink, ByteSource
from mainstay.repository.threads import Threads
from mainstay.storage.ledger import Ledger

_REQUEST_BYTES_MAX = 64 << 20
_THREADS = 8


class RemoteGitService:
    """Fetches and pushes of every repository, by the nodes that have the role `git`."""

    def __init__(self, *, ledger: Ledger, asking: Asking, refs_in_memory_max: int) -> None:
        self._listings = RefListings(ledger, refs_max=refs_in_memory_max)
        self._threads = Threads(_THREADS)
        self._asking = asking

    def look(self, repository_id: int) -> RefListing:
        """The refs as of now. Blocks."""
        return self._listings.latest(repository_id)

    def look_at_once(self, repository_id: int) -> RefListing | None:
        """Like `look`: one query at most, else None."""
        return self._listings.unmoved(repository_id)

    async def advertise(
        self,
        repository_id: int,
        service: Service,
        *,
        version: int,
        sink: ByteSink,
        seen: RefListing | None = None,
    ) -> None:
        """The body of an `info/refs` answer: v0 refs, or the v2 capabilities."""
        look = partial(self._look, repository_id)
        await advertisement.send(service, version=version, sink=sink, seen=seen, look=look)

    async def upload_pack(
        self,
        repository_id: int,
        *,
        version: int,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        seen: RefListing | None = None,
    ) -> None:
        """Serve fetches: one request when stateless, a whole session with advertisement otherwise."""
        noted = NotedSink(sink)
        call = UploadPack(repository_id=repository_id, version=version, stateless=stateless)
        async with failures_told(noted, repository_id=repository_id):
            if version == 2:  # noqa: PLR2004 - the number of the protocol
                await self._session_v2(repository_id, RequestsV2(source), noted, stateless, seen)
            elif stateless:
                await self._asking.make(call, Replay(await _all_of(source)), noted)
            else:
                await self._asking.make(call, Source(source), noted)

    async def receive_pack(
        self,
        repository_id: int,
        *,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        rules: PushRules,
        context: PushContext,
        seen: RefListing | None = None,  # noqa: ARG002 - the git node looks for itself, later and so better
    ) -> None:
        """Serve one push: see `repository.push`, which does it on the git node."""
        call = ReceivePack(repository_id=repository_id, stateless=stateless, rules=rules, context=context)
        await self._asking.make(call, Source(source), NotedSink(sink))

    async def finish(self) -> None:
        """Close the connections; before `close`, in the loop that used them."""
        await self._asking.finish()

    def close(self) -> None:
        self._threads.close()

    async def _session_v2(
        self,
        repository_id: int,
        requests: RequestsV2,
        sink: NotedSink,
        stateless: bool,
        seen: RefListing | None,
    ) -> None:
        """A session is a row of requests that know nothing of each other: each goes where it is best."""
        if not stateless:
            await sink.write(advertisement.v2())
        while (request := await requests.next()) is not None:
            if isinstance(request, v2.Goodbye):
                return
            if isinstance(request, v2.LsRefs):
                listing = seen if seen is not None and stateless else await self._look(repository_id)
                await sink.write(advertisement.ls_refs(request, listing))
            else:
                call = UploadPack(repository_id=repository_id, version=2, stateless=True)
                await self._asking.make(call, Replay(request.raw), NotedSink(sink))
            if stateless:
                return

    async def _look(self, repository_id: int) -> RefListing:
        return await self._threads.run(self.look, repository_id)


async def _all_of(source: ByteSource) -> bytes:
    chunks, size = [], 0
    while chunk := await source.read():
        size += len(chunk)
        if size > _REQUEST_BYTES_MAX:
            raise Invalid(f"the request is larger than {_REQUEST_BYTES_MAX} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
