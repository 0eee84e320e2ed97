"""Git over SSH on a replica: a conversation is held at the primary, or here when that is as good.

The client has proved here to have its key; this site vouches for that by its certificate, and the primary
decides whose key it is and what it may. A conversation that is sent on is sent on as a whole: its bytes, what
is said to the person, its exit code.
"""

import asyncio

from mainstay.doors.ssh.conversation import Asked, Here, Line
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.product.projects import vouching
from mainstay.product.projects.admission import SshKey
from mainstay.product.projects.vouching import Vouched
from mainstay.repository.forwarding.chooser import Choice, Chooser
from mainstay.repository.forwarding.decisions import Refuse, SendOn, ServeHere, ServeStale
from mainstay.repository.forwarding.whereabouts import PrimaryAway
from mainstay.repository.remote.calls import Session
from mainstay.repository.remote.wire import NotServed
from mainstay.repository.streams import ClientGone

PATIENCE_S = 4.0
_PAUSE_S = 0.3
_RETRY_AFTER_S = 10


class PrimaryNeeded(Unavailable):
    """Only the primary could do it, and it does not answer."""


class ReplicaSessions:
    """Implements `conversation.Elsewhere`."""

    def __init__(self, chooser: Chooser[Vouched], *, clock: Clock) -> None:
        self._chooser = chooser
        self._clock = clock

    @property
    def is_passive(self) -> bool:
        return self._chooser.sight().is_passive

    async def is_known(self, fingerprint: str, address: str) -> bool:
        """Whether the primary knows a key that has not come here yet."""
        if self._chooser.sight().role != "replica":
            return False
        asked = vouching.Asked(SshKey(fingerprint), "", address).facts()
        said = await self._chooser.ask(asked)
        return said is not None and vouching.is_somebody(said)

    async def settle(
        self, asked: Asked, *, path: str, is_push: bool, line: Line, request_id: str
    ) -> int | Here:
        """See `conversation.Elsewhere`. While there is no primary, a push waits a moment for one."""
        about = None if is_push else vouching.Asked(SshKey(asked.fingerprint), path, asked.address).facts()
        until_s = self._clock.monotonic_s() + PATIENCE_S
        away = ""
        while True:
            choice = await self._chooser.choose(asked=about, hops=asked.hops, away=away)
            away = ""
            step = choice.step
            if isinstance(step, SendOn):
                try:
                    return await self._send_on(
                        choice, asked, is_push=is_push, line=line, request_id=request_id
                    )
                except PrimaryAway as gone:
                    away = str(gone)
            elif isinstance(step, ServeHere):
                return Here(choice.answer.admission if choice.answer else None)
            elif isinstance(step, ServeStale):
                return Here(remark=step.remark)
            elif isinstance(step, Refuse) and self._clock.monotonic_s() > until_s:
                raise PrimaryNeeded(step.sentence, retry_after_s=_RETRY_AFTER_S)
            else:
                await asyncio.sleep(_PAUSE_S)

    async def _send_on(
        self, choice: Choice[Vouched], asked: Asked, *, is_push: bool, line: Line, request_id: str
    ) -> int:
        assert choice.primary is not None, "who sends on knows whereto"
        call = Session(
            fingerprint=asked.fingerprint,
            address=asked.address,
            command=asked.command,
            git_protocol=asked.git_protocol,
            hops=asked.hops + 1,
        )

        async def aside(text: bytes) -> None:
            await line.complain(text.decode("utf-8", "replace"))

        try:
            return await self._chooser.line.session(
                choice.primary, call, source=line, sink=line, aside=aside, request_id=request_id
            )
        except NotServed as cut:
            if is_push:
                raise OutcomeUnknown("the primary went away in the middle of this push") from cut
            raise ClientGone("the primary went away in the middle of its answer") from cut
