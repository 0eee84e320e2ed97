"""The door: `GET PATH/info/refs?service=…`, `POST PATH/git-upload-pack`, `POST PATH/git-receive-pack`.

A request is read (address, headers, the beginning of its body), passes the turnstile, is admitted by the
doorkeeper (who, which project, may they), and streams. Errors before the first byte of the answer are a
status and a sentence in text/plain, which git shows to its user; after it, the service speaks Git's own
error packets, and what has no packet is a connection cut short, which no client takes for success.

A push to a path that does not exist yet is advertised as an empty repository; only its POST makes the
project. The probe that git sends before a large push (four bytes, `0000`) makes nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mainstay.cache.outage import one_request
from mainstay.cache.refs import RefListing
from mainstay.doors.githttp.answer import Answer, Send
from mainstay.doors.githttp.body import Body, BodyRefused, BodyTooLarge, Receive
from mainstay.doors.githttp.doorkeeper import Doorkeeper
from mainstay.doors.githttp.settings import GitHttpSettings
from mainstay.doors.githttp.statuses import WrongContentType, WrongMethod, refusal_of
from mainstay.doors.githttp.target import Endpoint, Target, claims, parse_target
from mainstay.doors.githttp.turnstile import Turnstile
from mainstay.doors.githttp.visit import OPEN, RoleChanged, Scope, Visit, request_id_of
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Invalid, MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger
from mainstay.git.protocol import advertise
from mainstay.git.protocol.services import Service
from mainstay.product.projects.admission import Admission, GitGate
from mainstay.repository.face import GitFace
from mainstay.repository.holding import Waiting
from mainstay.repository.push import PushContext
from mainstay.repository.remark import RemarkedSink, from_memory
from mainstay.repository.streams import ByteSink, ByteSource, ClientGone

log = get_logger()

_PROBE = b"0000"
_SHORT_S = 0.2
_PROBE_LENGTH = b"4"
_ADVERTISEMENT_HELD_BYTES = 64 * 1024
_DRAIN_BYTES_MAX = 1024 * 1024
_DRAIN_S_MAX = 2.0


class GitHttp:
    """An ASGI application for those addresses that `claims` says are Git's."""

    def __init__(
        self,
        *,
        service: GitFace,
        gate: GitGate,
        settings: GitHttpSettings,
        clock: Clock,
        clone_url: Callable[[str], str],
    ) -> None:
        """`clone_url` makes the address of a project's path, to be shown to who has just made it."""
        self._service = service
        self._settings = settings
        self._clock = clock
        self._clone_url = clone_url
        self._turnstile = Turnstile(
            inside_max=settings.requests_max,
            per_address_max=settings.requests_per_address_max,
            waiting_max=settings.waiting_max,
            waiting_s_max=settings.waiting_s_max,
        )
        self._doorkeeper = Doorkeeper(
            gate=gate,
            service=service,
            clock=clock,
            threads=settings.gate_threads,
            waiting=Waiting(hold_s=settings.hold_s, waiting_max=settings.held_max),
        )

    claims = staticmethod(claims)

    def close(self) -> None:
        """Let the threads go; call when the requests have ended."""
        self._doorkeeper.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = self._arrive(scope, send)
        OPEN.inc()
        try:
            with one_request():
                await self._answer(visit, receive)
        finally:
            OPEN.dec()
            visit.report(ended_s=self._clock.monotonic_s())

    def _arrive(self, scope: Scope, send: Send) -> Visit:
        headers = dict(scope["headers"])
        request_id = request_id_of(headers.get(b"x-request-id", b""))
        answer = Answer(
            send,
            request_id=request_id,
            idle_s_max=self._settings.idle_s_max,
            with_body=scope["method"] != "HEAD",
        )
        return Visit(
            scope=scope,
            headers=headers,
            request_id=request_id,
            answer=answer,
            started_s=self._clock.monotonic_s(),
        )

    async def _answer(self, visit: Visit, receive: Receive) -> None:
        try:
            await self._serve_or_refuse(visit, receive)
        except ClientGone:
            visit.outcome = "gone"

    async def _serve_or_refuse(self, visit: Visit, receive: Receive) -> None:
        """Serve, and turn what goes wrong into an answer or the end of the connection."""
        try:
            await self._serve(visit, receive)
        except BodyRefused as error:
            await self._refuse(visit, error.because)
        except ClientGone:
            raise
        except RoleChanged:
            visit.outcome = "moved"
            raise
        except OutcomeUnknown as error:
            visit.outcome, visit.because = "unknown", str(error)
            await visit.answer.hang_up()
        except MainstayError as error:
            await self._refuse(visit, error)
        except Exception:
            visit.outcome = "failed"
            log.exception("githttp.failed", project=visit.target.path if visit.target else "")
            await self._fail(visit)

    async def _serve(self, visit: Visit, receive: Receive) -> None:
        target = visit.target = parse_target(visit.scope["raw_path"], visit.scope["query_string"])
        _check_method(visit.scope["method"], target.endpoint)
        visit.body = self._body(visit, receive, target)
        if target.endpoint is not Endpoint.ADVERTISEMENT and not _expects_a_word(visit):
            await visit.body.begin()
        async with self._turnstile.passed(visit.address):
            if target.endpoint is Endpoint.ADVERTISEMENT:
                await self._advertise(visit, target)
            else:
                await _unless_gone(self._converse(visit, target, visit.body), visit.body)
            await visit.answer.finish()

    async def _advertise(self, visit: Visit, target: Target) -> None:
        version = _version(visit, target.service)
        admission, seen = await self._doorkeeper.admit(visit, target, create=False, look=version == 0)
        visit.answer.expect(f"application/x-{target.service}-advertisement", hold=_ADVERTISEMENT_HELD_BYTES)
        visit.answer.hold(advertise.service_header(target.service))
        if admission.repository_id is None:
            await visit.answer.write(b"".join(advertise.receive_pack_refs([])))
            return
        await self._service.advertise(
            admission.repository_id,
            target.service,
            version=version,
            sink=visit.answer,
            seen=seen,
        )

    async def _converse(self, visit: Visit, target: Target, body: Body) -> None:
        is_probe = await _is_probe(visit, body)
        create = target.service is Service.RECEIVE_PACK and not is_probe
        admission, seen = await self._doorkeeper.admit(visit, target, create=create, look=not is_probe)
        visit.answer.expect(f"application/x-{target.service}-result")
        if is_probe:
            return
        if target.service is Service.UPLOAD_PACK:
            await self._upload_pack(visit, admission, body, seen)
        else:
            await self._receive_pack(visit, admission, body, seen)

    async def _upload_pack(
        self, visit: Visit, admission: Admission, body: ByteSource, seen: RefListing | None
    ) -> None:
        assert admission.repository_id is not None, "only a push may enter a project that is not there"
        version = _version(visit, Service.UPLOAD_PACK)
        sink: ByteSink = visit.answer
        remark = _remark(visit, admission)
        if remark and version:
            sink = RemarkedSink(sink, remark)
        await self._service.upload_pack(
            admission.repository_id,
            version=version,
            stateless=True,
            source=body,
            sink=sink,
            seen=seen,
        )

    async def _receive_pack(
        self, visit: Visit, admission: Admission, body: ByteSource, seen: RefListing | None
    ) -> None:
        assert admission.repository_id is not None, "the POST of a push makes the project"
        assert admission.rules is not None, "a push has rules"
        if visit.elsewhere is not None:
            visit.elsewhere.check()
        await self._service.receive_pack(
            admission.repository_id,
            stateless=True,
            source=body,
            sink=visit.answer,
            rules=admission.rules,
            context=PushContext(
                address=visit.address,
                transport="http",
                request_id=visit.request_id,
                messages=self._messages(admission),
            ),
            seen=seen,
        )

    def _messages(self, admission: Admission) -> list[str]:
        if not admission.created:
            return []
        return [
            f"The private project {admission.path} was created.",
            f"Clone it from {self._clone_url(admission.path)}",
        ]

    def _body(self, visit: Visit, receive: Receive, target: Target) -> Body:
        limit = self._settings.fetch_request_bytes_max
        if target.endpoint is Endpoint.RECEIVE_PACK:
            limit = self._settings.push_bytes_max
        body = Body(
            receive,
            encoding=visit.headers.get(b"content-encoding", b""),
            bytes_max=limit,
            idle_s_max=self._settings.idle_s_max,
            bytes_per_s_min=self._settings.body_bytes_per_s_min,
            clock=self._clock,
        )
        if target.endpoint is not Endpoint.ADVERTISEMENT:
            _check_content_type(visit.headers.get(b"content-type", b""), target.service)
            _check_length(visit.headers.get(b"content-length"), limit)
        return body

    async def _refuse(self, visit: Visit, error: MainstayError) -> None:
        refusal = refusal_of(error, realm=self._settings.realm)
        visit.outcome, visit.because = "refused", str(error)
        if visit.answer.started:
            await visit.answer.hang_up()
            return
        await self._quieten(visit)
        await visit.answer.refuse(refusal.status, refusal.sentence, refusal.headers)

    async def _fail(self, visit: Visit) -> None:
        if visit.answer.started:
            await visit.answer.hang_up()
            return
        await self._quieten(visit)
        await visit.answer.refuse(500, f"internal error, request id {visit.request_id}")

    async def _quieten(self, visit: Visit) -> None:
        """Before a refusal: read away the rest of a small body, and close after the rest of a large one."""
        expects = _expects_a_word(visit)
        if visit.body and not expects:
            await visit.body.drain(bytes_max=_DRAIN_BYTES_MAX, seconds_max=_DRAIN_S_MAX)
        if expects or (visit.body and not visit.body.ended):
            visit.answer.close_after()


def _remark(visit: Visit, admission: Admission) -> str:
    """What the person behind a fetch should know."""
    if admission.known_ago_s is not None:
        return from_memory(admission.known_ago_s)
    return visit.elsewhere.remark if visit.elsewhere else ""


async def _unless_gone(work: Coroutine[Any, Any, None], body: Body) -> None:
    """Do the work, but cancel it when the client hangs up, so that no git process works for nobody.

    Most answers are over before anybody could hang up; only for the others somebody listens.
    """
    listening: list[asyncio.Task[None]] = []
    # A limit without a time, until the client goes: it tells its own cancellation from everybody else's.
    limit = asyncio.timeout(None)
    waiting = asyncio.get_running_loop().call_later(
        _SHORT_S, lambda: listening.append(asyncio.create_task(_end_when_gone(limit, body)))
    )
    try:
        async with limit:
            await work
    except TimeoutError:
        if limit.expired():
            raise ClientGone from None
        raise
    finally:
        waiting.cancel()
        for task in listening:
            task.cancel()


async def _end_when_gone(limit: asyncio.Timeout, body: Body) -> None:
    await body.hang_up()
    limit.reschedule(asyncio.get_running_loop().time())


async def _is_probe(visit: Visit, body: Body) -> bool:
    """Whether the body is the four bytes that ask "may I?". Nothing is read from a body of another size."""
    if visit.headers.get(b"content-length") != _PROBE_LENGTH:
        return False
    read = b""
    while piece := await body.read():
        read += piece
    if read != _PROBE:
        raise Invalid("the body is too short for a request")
    return True


def _expects_a_word(visit: Visit) -> bool:
    """Whether the client sends its body only when it is asked to."""
    return visit.headers.get(b"expect", b"").lower() == b"100-continue"


def _check_method(method: str, endpoint: Endpoint) -> None:
    allowed = "GET, HEAD" if endpoint is Endpoint.ADVERTISEMENT else "POST"
    if method not in allowed.split(", "):
        raise WrongMethod(allowed)


def _check_content_type(value: bytes, service: Service) -> None:
    expected = f"application/x-{service}-request"
    if value.partition(b";")[0].strip().lower() != expected.encode():
        raise WrongContentType(f"the content type of this request must be {expected}")


def _check_length(value: bytes | None, limit: int) -> None:
    if value is None:
        return
    if not value.isdigit():
        raise Invalid("the content length is not a number")
    if limit and int(value) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes")


def _version(visit: Visit, service: Service) -> int:
    """`Git-Protocol: version=2` is for fetching; a push has no version 2, and version 1 is answered as 0."""
    asked = visit.headers.get(b"git-protocol", b"").split(b":")
    return 2 if service is Service.UPLOAD_PACK and b"version=2" in asked else 0
