"""Git over HTTP on a site that is, or may become, a replica: before the ordinary door, which serves what is
to be served here.

Which of both is asked for every request, and again while it waits: a push that finds no primary waits a
moment, because one may be promoted; a request that waited at the ordinary door for a database that became a
replica's goes on to the primary.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from mainstay.doors.githttp.answer import Answer
from mainstay.doors.githttp.credentials import credentials_of
from mainstay.doors.githttp.passing import Passage, pass_on
from mainstay.doors.githttp.target import Endpoint, claims, parse_target
from mainstay.doors.githttp.visit import ELSEWHERE, Elsewhere, RoleChanged, request_id_of
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError
from mainstay.git.protocol.services import Service
from mainstay.product.projects.vouching import Asked, Vouched
from mainstay.repository.forwarding.chooser import Choice, Chooser
from mainstay.repository.forwarding.decisions import Refuse, SendOn, ServeHere, ServeStale
from mainstay.repository.forwarding.whereabouts import PrimaryAway

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADER = b"x-mainstay-replica"
PATIENCE_S = 4.0
"""How long a request waits for a primary: less than anybody calls hanging."""
_PAUSE_S = 0.3
_HELD_BYTES_MAX = 1024 * 1024
_RETRY_AFTER_S = 10


def is_under_a_repository(raw_path: bytes) -> bool:
    """Is this an address below `GROUP/PROJECT.git`? All of these belong to Git, LFS included."""
    return claims(raw_path) or (
        b".git/" in raw_path and b"/-/" not in raw_path and not raw_path.startswith(b"/api/")
    )


class ReplicaGit:
    """An ASGI application. `local` is the ordinary door."""

    def __init__(
        self, local: App, chooser: Chooser[Vouched], *, clock: Clock, sent_on_max: int = 256
    ) -> None:
        self._local = local
        self._chooser = chooser
        self._clock = clock
        self._places = asyncio.Semaphore(sent_on_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sight = self._chooser.sight()
        if not sight.primary.epoch:
            await self._local(scope, receive, send)
            return
        if not sight.is_passive:
            held = _Held(receive)
            try:
                await self._serve(scope, held.receive, send, has_moved=self._is_passive)
            except RoleChanged:
                receive = held.again()
            else:
                return
        await self._elsewhere(scope, receive, send)

    def _is_passive(self) -> bool:
        return self._chooser.sight().is_passive

    async def _elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide and do, again while there is no primary, for a little while."""
        passage = Passage(scope, receive, send)
        until_s = self._clock.monotonic_s() + PATIENCE_S
        away = ""
        while True:
            choice = await self._chooser.choose(asked=_asked(scope), hops=passage.hops, away=away)
            away = ""
            try:
                if await self._done(choice, passage, is_last=self._clock.monotonic_s() > until_s):
                    return
            except PrimaryAway as gone:
                away = str(gone)

    async def _done(self, choice: Choice[Vouched], passage: Passage, *, is_last: bool) -> bool:
        """Do what was chosen; False when it is to be chosen again. Raises `PrimaryAway`."""
        step = choice.step
        if isinstance(step, SendOn):
            await self._send_on(choice, passage)
        elif isinstance(step, ServeHere | ServeStale):
            await self._serve_here(choice, passage)
        elif is_last:
            assert isinstance(step, Refuse), "the primary was asked by who chose"
            await self._refuse(step.sentence, passage)
        else:
            await asyncio.sleep(_PAUSE_S)
            return False
        return True

    async def _send_on(self, choice: Choice[Vouched], passage: Passage) -> None:
        assert choice.primary is not None, "who sends on knows whereto"
        refusal = choice.answer.refusal if choice.answer else None
        if refusal is not None:  # it was counted there, and once is enough
            await self._serve(passage.scope, passage.receive, passage.send, refusal=refusal)
        elif self._places.locked():
            await self._refuse("too many requests are on their way to the primary", passage)
        else:
            async with self._places:
                await pass_on(self._chooser.line, choice.primary, passage)

    async def _serve_here(self, choice: Choice[Vouched], passage: Passage) -> None:
        step, scope = choice.step, passage.scope
        if isinstance(step, ServeStale):
            send = _with_header(passage.send, f"behind={step.behind}".encode())
            await self._serve(scope, passage.receive, send, remark=step.remark)
            return
        admission = choice.answer.admission if choice.answer else None
        await self._serve(scope, passage.receive, passage.send, admission=admission)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        has_moved: Callable[[], bool] = lambda: False,
        **known: Any,
    ) -> None:
        """By the ordinary door. Raises `RoleChanged`, when asked for."""
        scope[ELSEWHERE] = Elsewhere(has_moved=has_moved, **known)
        await self._local(scope, receive, send)

    async def _refuse(self, sentence: str, passage: Passage) -> None:
        request_id = request_id_of(dict(passage.scope["headers"]).get(b"x-request-id", b""))
        answer = Answer(passage.send, request_id=request_id, idle_s_max=PATIENCE_S)
        answer.close_after()
        await answer.refuse(503, sentence, [(b"retry-after", b"%d" % _RETRY_AFTER_S)])


def _asked(scope: Scope) -> dict[str, Any] | None:
    """What to ask the primary about a fetch; None for anything else, and what cannot be read as one."""
    if not claims(scope["raw_path"]):
        return None
    try:
        target = parse_target(scope["raw_path"], scope["query_string"])
        if target.service is not Service.UPLOAD_PACK or target.endpoint is Endpoint.RECEIVE_PACK:
            return None
        credentials = credentials_of(scope["headers"])
    except MainstayError:
        return None
    return Asked(credentials, target.path, scope["client"][0]).facts()


def _with_header(send: Send, value: bytes) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (HEADER, value)]
        await send(message)

    return sending


@dataclass(slots=True)
class _Replay:
    messages: list[Message]
    receive: Receive

    async def __call__(self) -> Message:
        return self.messages.pop(0) if self.messages else await self.receive()


class _Held:
    """What was read of a body, kept while it is little: the beginning, before anything is done."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self._bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if self._bytes <= _HELD_BYTES_MAX:
            self._bytes += len(message.get("body", b""))
            self._messages.append(message)
        if self._bytes > _HELD_BYTES_MAX:
            self._messages.clear()
        return message

    def again(self) -> Receive:
        """From the beginning. Only before more than a beginning was read."""
        assert self._bytes <= _HELD_BYTES_MAX, "the role is looked at before the body is"
        return _Replay(self._messages, self._receive)
