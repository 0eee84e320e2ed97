"""The door for other nodes: `POST /rpc/v1/<call>`, for the calls of `repository.remote.calls`; `GET /rpc`.

A caller without a good token learns nothing, not even which addresses there are. Then, in this order: a node
that drains takes nothing new (503); a version or a call that this release does not know is refused (404)
before anything of it is read; the parameters are read strictly (400); the line is full (503). Until here
nothing was begun, and the caller may ask another node. After BEGUN, errors come as frames.
"""

import asyncio
import json
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from mainstay.cache.outage import one_request
from mainstay.cluster.rpc_tokens import TokenPair
from mainstay.doors.nodes.content import ContentForNodes
from mainstay.doors.nodes.line import Line
from mainstay.doors.nodes.settings import NodesSettings
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid, MainstayError, OutcomeUnknown, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import bound, get_logger
from mainstay.foundation.metrics import counter, gauge, histogram
from mainstay.repository.face import GitFace
from mainstay.repository.remote.calls import ROOT, VERSION, Browse, Call, ReceivePack, UploadPack, Write
from mainstay.repository.remote.faults import FailedThere
from mainstay.repository.remote.incoming import Incoming, Receive, unless_gone
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.outgoing import Outgoing, Send
from mainstay.repository.remote.questions import NotUnderstood
from mainstay.repository.streams import ClientGone

log = get_logger()

OPEN = gauge("rpc_open_requests", "Requests of other nodes under way.")
_REQUESTS = counter("rpc_requests_total", "Requests of other nodes.", ["call", "outcome"])
_SECONDS = histogram("rpc_seconds", "From the request to the end of the answer.", ["call"])
_BYTES = counter("rpc_bytes_total", "Git data from and to other nodes.", ["direction"])

_KINDS: tuple[type[Call], ...] = (UploadPack, ReceivePack, Browse, Write)
_CALLS: dict[str, type[Call]] = {kind.name: kind for kind in _KINDS}
_ADDRESS = re.compile(rf"{ROOT}/v(?P<version>[0-9]{{1,6}})/(?P<call>[a-z-]{{1,40}})\Z")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_LOOKS_APART_S = 0.5
"""So often a stranger can make us ask the database."""

Scope = MutableMapping[str, Any]


@dataclass(slots=True, kw_only=True)
class _Visit:
    """One request, and what became known of it."""

    scope: Scope
    headers: dict[bytes, bytes]
    incoming: Incoming
    outgoing: Outgoing
    started_s: float
    call: Call | None = None
    outcome: str = "answered"
    """Or `refused`, `gone`, `unknown`, `failed`, `stranger`."""
    because: str = ""

    def report(self, *, ended_s: float) -> None:
        name = self.call.name if self.call else "none"
        elapsed_s = ended_s - self.started_s
        _REQUESTS.labels(name, self.outcome).inc()
        _SECONDS.labels(name).observe(elapsed_s)
        _BYTES.labels("received").inc(self.incoming.received_bytes)
        _BYTES.labels("sent").inc(self.outgoing.sent_bytes)
        peer = self.scope.get("client")
        log.info(
            "nodes.answered",
            call=name,
            repository_id=self.call.repository_id if self.call else 0,
            peer=str(peer[0]) if peer else "",
            status=self.outgoing.status,
            outcome=self.outcome,
            because=self.because,
            received_bytes=self.incoming.received_bytes,
            sent_bytes=self.outgoing.sent_bytes,
            duration_ms=round(elapsed_s * 1000, 1),
        )


class NodeDoor:
    """An ASGI application. TLS is the server's business, see `boot.rpc`."""

    def __init__(
        self,
        *,
        service: GitFace,
        content: ContentForNodes,
        tokens: Kept[TokenPair],
        settings: NodesSettings,
        clock: Clock,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._service = service
        self._content = content
        self._tokens = tokens
        self._settings = settings
        self._clock = clock
        self._is_draining = is_draining
        self._line = Line(
            inside_max=settings.requests_max,
            waiting_max=settings.waiting_max,
            waiting_s_max=settings.waiting_s_max,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = _Visit(
            scope=scope,
            headers=dict(scope["headers"]),
            incoming=Incoming(receive, silence_s_max=self._settings.silence_s_max),
            outgoing=Outgoing(send, alive_s=self._settings.alive_s, stuck_s_max=self._settings.stuck_s_max),
            started_s=self._clock.monotonic_s(),
        )
        OPEN.inc()
        with bound(request_id=_request_id(visit.headers)), one_request():
            try:
                await self._answer(visit)
            finally:
                OPEN.dec()
                visit.report(ended_s=self._clock.monotonic_s())

    async def _answer(self, visit: _Visit) -> None:
        if not await self._is_node(visit.headers.get(b"authorization", b"")):
            visit.outcome = "stranger"
            await visit.outgoing.refuse(401)
            return
        try:
            await self._admit(visit)
        except ClientGone:
            visit.outcome = "gone"
        except Unavailable as error:
            visit.outcome, visit.because = "refused", str(error)
            await visit.outgoing.refuse(503, error)
        except MainstayError as error:
            visit.outcome, visit.because = "refused", str(error)
            unknown = isinstance(error, _NoSuchCall | NotUnderstood)
            await visit.outgoing.refuse(404 if unknown else 400, error)

    async def _is_node(self, header: bytes) -> bool:
        """Whether the caller has a token of the cluster. One that we do not know may be newer than ours."""
        kind, _, token = header.decode("latin-1").partition(" ")
        if kind.lower() != "bearer" or not token:
            return False
        try:
            if (await self._tokens.get()).accepts(token):
                return True
            return (await self._tokens.renewed(apart_s=_LOOKS_APART_S)).accepts(token)
        except MainstayError as error:
            log.warning("nodes.tokens_not_read", because=str(error))
            return False

    async def _admit(self, visit: _Visit) -> None:
        """Everything before BEGUN."""
        if self._is_draining():
            raise NodeDrains("this node is about to stop: ask another", retry_after_s=1)
        if visit.scope["method"] == "GET" and visit.scope["raw_path"] == ROOT.encode():
            await visit.outgoing.tell(json.dumps({"versions": [VERSION], "calls": sorted(_CALLS)}).encode())
            return
        kind = _call_at(visit.scope)
        visit.call = kind.decode(await self._parameters(visit))
        async with self._line.passed():
            await self._serve(visit, visit.call)

    async def _parameters(self, visit: _Visit) -> bytes:
        try:
            async with asyncio.timeout(self._settings.parameters_s_max):
                return await visit.incoming.parameters()
        except TimeoutError:
            raise ClientGone("no parameters came") from None

    async def _serve(self, visit: _Visit, call: Call) -> None:
        visit.incoming.listen()
        try:
            await visit.outgoing.begin()
            async with visit.outgoing.alive():
                failed = await self._outcome(visit, call)
            if failed is None:
                await visit.outgoing.finish()
            else:
                await visit.outgoing.fail(failed)
        except ClientGone:
            visit.outcome = "gone"
        finally:
            await visit.incoming.close()

    async def _outcome(self, visit: _Visit, call: Call) -> MainstayError | OutcomeUnknown | None:
        """Do the work; return what is to be said instead of the end. Raises `ClientGone`."""
        try:
            await unless_gone(self._work(visit, call), visit.incoming)
        except OutcomeUnknown as error:
            visit.outcome, visit.because = "unknown", str(error)
            return error
        except MainstayError as error:
            visit.outcome, visit.because = "refused", str(error)
            return error
        except ClientGone:
            raise
        except Exception as error:
            visit.outcome, visit.because = "failed", type(error).__name__
            log.exception("nodes.failed", call=call.name, repository_id=call.repository_id)
            if isinstance(call, Write):
                return OutcomeUnknown("something went wrong on the node that took this change")
            return FailedThere("something went wrong on the node that holds this repository")
        return None

    async def _work(self, visit: _Visit, call: Call) -> None:
        if isinstance(call, UploadPack):
            await self._service.upload_pack(
                call.repository_id,
                version=call.version,
                stateless=call.stateless,
                source=visit.incoming,
                sink=visit.outgoing,
            )
        elif isinstance(call, Browse):
            await self._content.ask(call.repository_id, call.question, visit.outgoing)
        elif isinstance(call, Write):
            await self._content.add(call.addition, visit.incoming, visit.outgoing)
        else:
            await self._service.receive_pack(
                call.repository_id,
                stateless=call.stateless,
                source=visit.incoming,
                sink=visit.outgoing,
                rules=call.rules,
                context=call.context,
            )


class NodeDrains(Unavailable):
    """A request came while the node waits for its end."""


class _NoSuchCall(Invalid):
    """A version or call that this release does not know."""


def _call_at(scope: Scope) -> type[Call]:
    found = _ADDRESS.match(scope["raw_path"].decode("latin-1"))
    if found is None or scope["method"] != "POST":
        raise _NoSuchCall("there is no such call")
    if int(found["version"]) != VERSION or found["call"] not in _CALLS:
        raise _NoSuchCall(f"this release takes version {VERSION} and the calls {', '.join(sorted(_CALLS))}")
    return _CALLS[found["call"]]


def _request_id(headers: dict[bytes, bytes]) -> str:
    text = headers.get(b"x-request-id", b"").decode("latin-1")
    return text if _REQUEST_ID.match(text) else new_ulid()
