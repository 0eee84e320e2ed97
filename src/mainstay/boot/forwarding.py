"""Sending requests of Git on to the primary, and taking those that replicas send: the parts of a process."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mainstay.boot.addresses import ssh_clone_url
from mainstay.boot.stores import Stores, begin_hold_s
from mainstay.cluster.sites.identity import SiteIdentity
from mainstay.cluster.station import Station
from mainstay.doors.forwarded.app import Ends, ForwardedDoor
from mainstay.doors.ssh.conversation import Asked, Conversations
from mainstay.doors.ssh.replica import ReplicaSessions
from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.ops.maintenance.lookout import Lookout
from mainstay.product.projects.admission import GitGate
from mainstay.product.projects.vouching import Vouched, Vouching, vouched_from
from mainstay.repository.face import GitFace
from mainstay.repository.forwarding.chooser import Chooser
from mainstay.repository.forwarding.holdings import Holdings
from mainstay.repository.forwarding.line import Line
from mainstay.repository.forwarding.whereabouts import Whereabouts, in_registry
from mainstay.repository.holding import Waiting
from mainstay.repository.remote.calls import Session

_GATE_THREADS = 8


class Forwarding:
    """For the event loop of one process: `finish` in it, then `close`."""

    def __init__(self, stores: Stores, station: Station) -> None:
        self._line = Line(SiteTls(SiteIdentity(stores.settings.data)))
        self.chooser: Chooser[Vouched] = Chooser(
            sight=lambda: station.now,
            line=self._line,
            whereabouts=Whereabouts(partial(in_registry, stores.database), clock=SYSTEM),
            holdings=Holdings(stores.ledger, stores.objects),
            read=vouched_from,
        )
        self.sessions = ReplicaSessions(self.chooser, clock=SYSTEM)

    async def finish(self) -> None:
        await self._line.close()

    def close(self) -> None:
        self.chooser.close()


class SiteTls:
    """What this site shows to others: made when it is first needed, and again when its file has changed."""

    def __init__(self, identity: SiteIdentity) -> None:
        self._identity = identity
        self._seen: tuple[int, int] | None = None
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        """Raises `SiteIdentityUnusable` when there never was one that can be used."""
        seen = self._look()
        if self._context is None or (seen is not None and seen != self._seen):
            self._context, self._seen = self._identity.client_context(), seen
        return self._context

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._identity.certificate_file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


class Taking:
    """The door for what replicas send on to this process."""

    def __init__(
        self,
        stores: Stores,
        *,
        gate: GitGate,
        service: GitFace,
        maintenance: Lookout,
        forwarding: Forwarding,
    ) -> None:
        settings = SshSettings(hold_s=begin_hold_s(stores.settings))
        self._threads = ThreadPoolExecutor(_GATE_THREADS, thread_name_prefix="forwarded-gate")
        self._conversations = Conversations(
            service=service,
            gate=gate,
            threads=self._threads,
            clock=SYSTEM,
            clone_url=lambda path: ssh_clone_url(stores.settings, path),
            waiting=Waiting(hold_s=settings.hold_s, waiting_max=settings.held_max),
            maintenance=maintenance,
            held_max=settings.held_max,
            elsewhere=forwarding.sessions,
        )
        self.door = ForwardedDoor(
            vouching=Vouching(gate, lambda repository_id: stores.ledger.repository(repository_id).version),
            host=self._hold,
            is_primary=lambda: not forwarding.chooser.sight().is_passive,
            clock=SYSTEM,
        )

    def close(self) -> None:
        self.door.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _hold(self, session: Session, ends: Ends) -> int:
        asked = Asked(
            fingerprint=session.fingerprint,
            address=session.address,
            command=session.command,
            git_protocol=session.git_protocol,
            hops=session.hops,
        )
        return await self._conversations.hold(asked, ends)
