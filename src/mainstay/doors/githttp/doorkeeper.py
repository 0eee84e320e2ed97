"""Admission: who is it, may they, and what are the refs, all asked afresh for each request.

Where nothing has to be waited for (a token or nobody, a database on this machine, no lock in the way) the
answer is found on the spot: to hand three look-ups to a thread and back costs more than they do. All else
(the hash of a password, a database over the network, a write) is asked in a thread, from the beginning.

While a database over the network is away the visit waits a while and the threads are left to others; who
made a project in an attempt whose outcome was lost finds it in the next.

On the spot, a slow disk would keep everybody waiting; so after a slow answer threads ask for a while.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mainstay.access.policy import GitAction
from mainstay.cache.refs import RefListing
from mainstay.doors.githttp.credentials import credentials_of
from mainstay.doors.githttp.target import Target
from mainstay.doors.githttp.visit import Visit
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import OutcomeUnknown
from mainstay.git.protocol.services import Service
from mainstay.product.projects.admission import Admission, Credentials, GitGate
from mainstay.repository.face import GitFace
from mainstay.repository.holding import Waiting
from mainstay.storage.database import DatabaseAway, WouldWait
from mainstay.storage.database.fence import SiteFenced

_SLOW_S = 0.05
_THREADS_AFTER_SLOW_S = 10.0

Admitted = tuple[Admission, RefListing | None]
Look = Callable[[int], RefListing | None]


class Doorkeeper:
    """Asks the gate, and for the refs while at it."""

    def __init__(
        self,
        *,
        gate: GitGate,
        service: GitFace,
        clock: Clock,
        threads: int,
        waiting: Waiting | None = None,
    ) -> None:
        self._waiting = waiting or Waiting(hold_s=0, waiting_max=0)
        self._gate = gate
        self._service = service
        self._clock = clock
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="git-gate")
        self._threads_until_s = clock.monotonic_s()

    def close(self) -> None:
        """Let the threads go; call when the requests have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def admit(self, visit: Visit, target: Target, *, create: bool, look: bool) -> Admitted:
        """Let the visit in, and with `look` say what the refs are, or None when that takes longer.

        Raises what the gate raises. With `create` a push makes the project that is not there. On a replica
        the primary may have said already who it is and whether they may.
        """
        elsewhere = visit.elsewhere
        if elsewhere is not None and elsewhere.refusal is not None:
            raise elsewhere.refusal
        credentials = credentials_of(visit.scope["headers"])
        ask = partial(self._ask, visit, target, credentials, create)
        if not create and not (elsewhere and elsewhere.admission):
            try:
                return self._on_the_spot(
                    credentials, partial(ask, self._service.look_at_once if look else None)
                )
            except WouldWait:
                pass
        return await self._waiting.through(
            partial(self._in_thread, ask, self._service.look if look else None),
            # On a site with others a fence is a reason to wait, too: it falls, or the request is sent on.
            on=(DatabaseAway, OutcomeUnknown, *([SiteFenced] if elsewhere else [])),
        )

    async def _in_thread(self, ask: Callable[[Look | None], Admitted], look: Look | None) -> Admitted:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, ask, look)

    def _on_the_spot(self, credentials: Credentials, ask: Callable[[], Admitted]) -> Admitted:
        started_s = self._clock.monotonic_s()
        if started_s < self._threads_until_s:
            raise WouldWait("the disk was slow a moment ago")
        try:
            with self._gate.without_waiting(credentials):
                return ask()
        finally:
            ended_s = self._clock.monotonic_s()
            if ended_s - started_s > _SLOW_S:
                self._threads_until_s = ended_s + _THREADS_AFTER_SLOW_S

    def _ask(
        self, visit: Visit, target: Target, credentials: Credentials, create: bool, look: Look | None
    ) -> Admitted:
        admission = self._admission(visit, target, credentials, create)
        if look is None or admission.repository_id is None:
            return admission, None
        return admission, look(admission.repository_id)

    def _admission(self, visit: Visit, target: Target, credentials: Credentials, create: bool) -> Admission:
        elsewhere = visit.elsewhere
        if elsewhere is not None:
            elsewhere.check()
            if elsewhere.admission is not None:
                visit.actor = elsewhere.admission.actor
                return elsewhere.admission
        action = GitAction.PULL if target.service is Service.UPLOAD_PACK else GitAction.PUSH
        visit.actor = self._gate.identify(credentials, address=visit.address)
        return self._gate.enter(visit.actor, target.path, action, create=create)
