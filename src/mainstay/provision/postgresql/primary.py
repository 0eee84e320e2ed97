"""What a server is to those that follow it: a TLS port, a slot for each site, who must answer each commit."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.provision.postgresql.server import Server
from mainstay.provision.postgresql.wishes import Credentials, Listen, check_site, slot_of

log = get_logger()

_POLL_S = 0.05
_GONE_S_MAX = 15.0

WalStatus = Literal["reserved", "extended", "unreserved", "lost"]


class PortRefused(Conflict):
    """The server cannot listen there."""


class StaysConnected(Conflict):
    """A replica that was shut out is still being sent to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """One site that has a slot here, connected or not."""

    site: str
    is_streaming: bool
    is_synchronous: bool
    sent_behind_bytes: int | None
    """What has not been sent yet. None while it is not connected."""
    flushed_behind_bytes: int | None
    """What a loss of this machine would lose."""
    replayed_behind_bytes: int | None
    replayed_behind_s: float | None
    """By its last answers; 0 when it has everything."""
    kept_bytes: int | None
    """How much is kept here for it."""
    wal_status: WalStatus | None
    """`lost`: it was away for too long, and needs a new copy."""
    flushed: int | None = None
    """Position in the log up to which it has everything on its disk. None while it is not connected."""

    @property
    def needs_a_copy(self) -> bool:
        return self.wal_status == "lost"


_FOLLOWERS = """
SELECT s.slot_name, coalesce(r.state = 'streaming', false),
       coalesce(r.sync_state IN ('sync', 'quorum'), false),
       (w.at - r.sent_lsn)::bigint, (w.at - r.flush_lsn)::bigint, (w.at - r.replay_lsn)::bigint,
       CASE WHEN r.replay_lsn >= w.at THEN 0.0 ELSE extract(epoch FROM r.replay_lag)::float8 END,
       (w.at - s.restart_lsn)::bigint, s.wal_status, (r.flush_lsn - '0/0')::bigint
FROM pg_replication_slots s
LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()
                        ELSE pg_current_wal_flush_lsn() END AS at) w
WHERE s.slot_type = 'physical'
ORDER BY s.slot_name
"""


class Primary:
    """Of a server that runs."""

    def __init__(self, server: Server, *, clock: Clock = SYSTEM) -> None:
        self.server = server
        self._clock = clock

    def open_for_replicas(self, listen: Listen, credentials: Credentials) -> None:
        """Listen by TLS for sites that are allowed in, whose certificates `authority` has signed.

        New certificates are taken up without anybody noticing; another address takes a restart of seconds.
        Raises `PortRefused` (taken by somebody else), after which it is as it was before.
        """
        server, before = self.server, self.server.wishes.listen
        server.keep(credentials)
        if before == listen:
            server.reload()
            return
        if before is None or before.port != listen.port:
            _refuse_taken(listen)
        try:
            with server.stopped():
                server.wish(listen=listen)
        except Unavailable as error:
            with server.stopped():
                server.wish(listen=before)
            raise PortRefused(f"PostgreSQL cannot listen on {listen.host}:{listen.port}: {error}") from error
        log.info("postgresql.opened", host=listen.host, port=listen.port)

    def create_slot(self, site: str) -> str:
        """Let a site in, and keep from now on what it has not got yet (within the bound). Its slot.

        Of several processes that do so at once, one makes the slot.
        """
        check_site(site)
        server, slot = self.server, slot_of(site)
        with server.held():
            sites = server.wishes.sites
            if site not in sites:
                server.wish(sites=(*sites, site))
                server.reload()
            self._have_slot(slot)
        return slot

    def _have_slot(self, slot: str) -> None:
        known = self.server.rows("SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", (slot,))
        if known and known[0][0] == "lost":
            self.server.ask("SELECT pg_drop_replication_slot(%s)::text", (slot,))
        if not known or known[0][0] == "lost":
            self.server.ask("SELECT pg_create_physical_replication_slot(%s, true)::text", (slot,))
            log.info("postgresql.slot_created", slot=slot)

    def drop_slot(self, site: str) -> None:
        """Shut a site out: its streams end, it cannot come back, nothing is kept for it. Idempotent."""
        server, slot = self.server, slot_of(site)
        with server.held():
            wishes = server.wishes
            server.wish(
                sites=tuple(each for each in wishes.sites if each != site),
                synchronous=tuple(each for each in wishes.synchronous if each != site),
            )
            server.reload()
        until_s = self._clock.monotonic_s() + _GONE_S_MAX
        while self._end_streams(site, slot):
            if self._clock.monotonic_s() > until_s:
                raise StaysConnected(f"the streams of {site} do not end")
            time.sleep(_POLL_S)
        gone = (
            "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots WHERE slot_name = %s"
        )
        with server.held():
            server.rows(gone, (slot,))
        log.info("postgresql.slot_dropped", site=site)

    def set_synchronous(self, sites: Sequence[str]) -> None:
        """From now on each commit waits until all of these have it on disk; none: it waits for nobody."""
        with self.server.held():
            self.server.wish(synchronous=tuple(sites))
            self.server.reload()
        log.info("postgresql.synchronous_set", sites=list(sites))

    def set_wal_kept(self, size_bytes: int) -> None:
        """The bound of what is kept for replicas that are away."""
        with self.server.held():
            self.server.wish(wal_kept_bytes=size_bytes)
            self.server.reload()

    def followers(self) -> list[Follower]:
        """Everybody who has a slot here."""
        by_slot = {slot_of(site): site for site in self.server.wishes.sites}
        return [
            Follower(
                site=by_slot.get(row[0], row[0]),
                is_streaming=row[1],
                is_synchronous=row[2],
                sent_behind_bytes=row[3],
                flushed_behind_bytes=row[4],
                replayed_behind_bytes=row[5],
                replayed_behind_s=row[6],
                kept_bytes=row[7],
                wal_status=row[8],
                flushed=row[9],
            )
            for row in self.server.rows(_FOLLOWERS)
        ]

    def lsn(self) -> int:
        """How much was ever written, in bytes."""
        return int(self.server.ask("SELECT (pg_current_wal_lsn() - '0/0')::bigint")[0])

    def timeline(self) -> int:
        """Rises with each promotion in the history of this database."""
        return int(self.server.ask("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")[0], 16)

    def settle(self) -> None:
        """Once after a promotion: write the new timeline into the control file, by a checkpoint.

        A former primary that is rewound compares timelines by that file. Until it names the new one,
        `pg_rewind` finds nothing to do, and says so as a success. PostgreSQL comes to it by itself, within
        `checkpoint_timeout`. Idempotent. Raises `ServerDown`.
        """
        if self.server.ask("SELECT timeline_id FROM pg_control_checkpoint()")[0] == self.timeline():
            return
        self.server.order("CHECKPOINT")
        log.info("postgresql.settled", timeline=self.timeline())

    def _end_streams(self, site: str, slot: str) -> int:
        """Ask all that runs for a site to end; how many there were."""
        return len(
            self.server.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = %s"
                " UNION ALL SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                " WHERE slot_name = %s AND active",
                (site, slot),
            )
        )


def _refuse_taken(listen: Listen) -> None:
    """PostgreSQL would not start, and it runs now."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        socket.create_server((listen.host, listen.port), family=family).close()
    except OSError as error:
        raise PortRefused(
            f"PostgreSQL cannot listen on {listen.host}:{listen.port}: {error.strerror}"
        ) from error
