"""Whom to ask: one git node after another, until one has answered.

`roster` says in which order, `wire` does the talking. Another node is asked when the first could not be
reached, was silent before its first byte, or said that it is busy, as long as nothing the client said was
taken and nothing was answered: `may_ask_another`. What is asked and kept may be asked again until its answer
began. A change that broke off after its first byte was taken is not repeated: `OutcomeUnknown`.
"""

import ssl
from typing import Protocol

import structlog

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import Secret, get_logger
from mainstay.foundation.metrics import counter, histogram
from mainstay.repository.remote.calls import Browse, Call, UploadPack
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.roster import NoGitNode, Roster
from mainstay.repository.remote.wire import NotServed, Patience, Wire
from mainstay.repository.streams import ByteSource, ClientGone

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
_SLICE_BYTES = 1 << 18


class AnswerCut(ClientGone):
    """The answer of another node broke off in the middle: whoever reads it must see that it was cut."""


class CountedSink(Protocol):
    """A sink that knows whether anything went out."""

    @property
    def bytes_written(self) -> int: ...

    async def write(self, chunk: bytes) -> None: ...


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


class Asking:
    """Makes calls. Belongs to one event loop from its first call until it is finished."""

    def __init__(
        self,
        *,
        roster: Roster,
        context: ssl.SSLContext,
        token: Kept[Secret],
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        self._roster = roster
        self._context = context
        self._token = token
        self._clock = clock
        self._patience = patience
        self._wire: Wire | None = None

    async def finish(self) -> None:
        """Close the connections."""
        if self._wire is not None:
            await self._wire.close()
            self._wire = None

    async def make(self, call: Call, source: Source, sink: CountedSink) -> None:
        """Make a call. Returns when its answer was whole."""
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

    async def _ask_around(self, call: Call, source: Source, sink: CountedSink, *, until_s: float) -> None:
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


def _verdict(call: Call, failed: NotServed, sink: CountedSink) -> Exception:
    """What to make of a call that broke off and cannot be made again."""
    is_read = isinstance(call, UploadPack | Browse)
    if is_read and sink.bytes_written:
        return AnswerCut("the node that made this answer went away")
    if failed.said or is_read:
        return failed.error
    return OutcomeUnknown("the node that took this change went away in the middle of it")


def _request_id() -> str:
    """The id under which the door logs this request."""
    return str(structlog.contextvars.get_contextvars().get("request_id") or new_ulid())
