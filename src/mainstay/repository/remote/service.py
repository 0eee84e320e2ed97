"""The Git service of a node that has no repositories: the same face as `repository.service.GitService`.

What needs no objects (refs, advertisements, `ls-refs`) is answered here, from the ledger. The rest is
forwarded to a git node (`roster` says which, `wire` how). The commit there is what makes a push true; no git
node asks back.

Another node is asked when the first could not be reached, was silent before its first byte, or said that it
is busy, as long as nothing the client said was taken and nothing was answered: `may_ask_another`. What a
fetch asks is small and kept, so it may be asked again until its answer began. A push that broke off after its
first byte was taken is not repeated, and nobody says what became of it: `OutcomeUnknown`.
"""

import ssl
from functools import partial

import structlog

from mainstay.access.policy import PushRules
from mainstay.cache.refs import RefListing, RefListings
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid, MainstayError, OutcomeUnknown
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import Secret, get_logger
from mainstay.foundation.metrics import counter, histogram
from mainstay.git.protocol import v2
from mainstay.git.protocol.services import Service
from mainstay.repository import advertisement
from mainstay.repository.packets import NotedSink, RequestsV2, failures_told
from mainstay.repository.push import PushContext
from mainstay.repository.remote.calls import Call, ReceivePack, UploadPack
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.roster import NoGitNode, Roster
from mainstay.repository.remote.wire import NotServed, Patience, Wire
from mainstay.repository.streams import ByteSink, ByteSource, ClientGone
from mainstay.repository.threads import Threads
from mainstay.storage.ledger import Ledger

log = get_logger()

_REQUESTS = counter(
    "rpc_client_requests_total", "Calls to other nodes, by how they ended.", ["call", "outcome"]
)
_SECONDS = histogram("rpc_client_seconds", "From the call to the end of its answer.", ["call"])
_RETRIES = counter(
    "rpc_client_retries_total", "Calls that another node was asked for, by reason.", ["reason"]
)

_ATTEMPTS_MAX = 4
_ATTEMPTS_S_MAX = 15.0
"""After that long nobody else is asked."""
_REQUEST_BYTES_MAX = 64 << 20
_SLICE_BYTES = 1 << 18
_THREADS = 8


class AnswerCut(ClientGone):
    """The answer of another node broke off in the middle: whoever reads it must see that it was cut."""


class Source(ByteSource):
    """Something a client says, and whether any of it is lost when it has to be said again."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._taken = False

    @property
    def can_start_again(self) -> bool:
        return not self._taken

    def start_again(self) -> None:
        assert not self._taken, "what was read from a client is gone"

    async def read(self) -> bytes:
        self._taken = True
        return await self._source.read()


class Replay(Source):
    """What a client said, kept in memory."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self._at = 0

    @property
    def can_start_again(self) -> bool:
        return True

    def start_again(self) -> None:
        self._at = 0

    async def read(self) -> bytes:
        piece = self._said[self._at : self._at + _SLICE_BYTES]
        self._at += len(piece)
        return piece


class RemoteGitService:
    """Fetches and pushes of every repository, by the nodes that have the role `git`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        roster: Roster,
        context: ssl.SSLContext,
        token: Kept[Secret],
        clock: Clock,
        refs_in_memory_max: int,
        patience: Patience | None = None,
    ) -> None:
        self._listings = RefListings(ledger, refs_max=refs_in_memory_max)
        self._threads = Threads(_THREADS)
        self._roster = roster
        self._context = context
        self._token = token
        self._clock = clock
        self._patience = patience
        self._wire: Wire | None = None

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
                await self._forward(call, Replay(await _all_of(source)), noted)
            else:
                await self._forward(call, Source(source), noted)

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
        await self._forward(call, Source(source), NotedSink(sink))

    async def finish(self) -> None:
        """Close the connections; before `close`, in the loop that used them."""
        if self._wire is not None:
            await self._wire.close()
            self._wire = None

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
                await self._forward(call, Replay(request.raw), NotedSink(sink))
            if stateless:
                return

    async def _look(self, repository_id: int) -> RefListing:
        return await self._threads.run(self.look, repository_id)

    async def _forward(self, call: Call, source: Source, sink: NotedSink) -> None:
        started_s = self._clock.monotonic_s()
        outcome = "cut"
        try:
            await self._ask_around(call, source, sink, until_s=started_s + _ATTEMPTS_S_MAX)
            outcome = "answered"
        except (MainstayError, NotServed):
            outcome = "refused"
            raise
        except OutcomeUnknown:
            outcome = "unknown"
            raise
        finally:
            _REQUESTS.labels(call.name, outcome).inc()
            _SECONDS.labels(call.name).observe(self._clock.monotonic_s() - started_s)

    async def _ask_around(self, call: Call, source: Source, sink: NotedSink, *, until_s: float) -> None:
        """Ask one node after another until one has answered."""
        last: MainstayError = NoGitNode("no git node was asked")
        request_id, parameters = _request_id(), call.encode()
        nodes = (await self._roster.order_for(call.repository_id))[:_ATTEMPTS_MAX]
        for node in nodes:
            try:
                source.start_again()
                with self._roster.busy(node):
                    await self._connected().ask(
                        node,
                        call.name,
                        parameters,
                        source=source,
                        sink=sink,
                        request_id=request_id,
                        is_last=node is nodes[-1],
                    )
            except NotServed as failed:
                self._roster.failed(node)
                last = failed.error
                if not may_ask_another(
                    can_start_again=source.can_start_again,
                    answered_bytes=sink.bytes_written,
                    time_left_s=until_s - self._clock.monotonic_s(),
                ):
                    raise _verdict(call, failed, sink) from failed
                _RETRIES.labels(failed.reason).inc()
                log.info("rpc.asked_another", call=call.name, node=node.id, reason=failed.reason)
            else:
                return
        raise last

    def _connected(self) -> Wire:
        if self._wire is None:
            self._wire = Wire(context=self._context, token=self._token, patience=self._patience)
        return self._wire


def may_ask_another(*, can_start_again: bool, answered_bytes: int, time_left_s: float) -> bool:
    """Whether a call that one node did not serve may be made to another."""
    return can_start_again and answered_bytes == 0 and time_left_s > 0


def _verdict(call: Call, failed: NotServed, sink: NotedSink) -> Exception:
    """What to make of a call that broke off and cannot be made again."""
    if isinstance(call, UploadPack) and sink.bytes_written:
        return AnswerCut("the node that made this answer went away")
    if failed.said or isinstance(call, UploadPack):
        return failed.error
    return OutcomeUnknown("the node that took this push went away in the middle of it")


async def _all_of(source: ByteSource) -> bytes:
    chunks, size = [], 0
    while chunk := await source.read():
        size += len(chunk)
        if size > _REQUEST_BYTES_MAX:
            raise Invalid(f"the request is larger than {_REQUEST_BYTES_MAX} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _request_id() -> str:
    """The id under which the door logs this request."""
    return str(structlog.contextvars.get_contextvars().get("request_id") or new_ulid())
