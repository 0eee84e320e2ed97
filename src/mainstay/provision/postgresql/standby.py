"""What a server is while it follows another: a copy, how far it is, and how it becomes the primary."""

import time
from dataclasses import dataclass

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.provision.postgresql.configuration import conninfo
from mainstay.provision.postgresql.places import STANDBY_SIGNAL
from mainstay.provision.postgresql.programs import postgresql_programs
from mainstay.provision.postgresql.server import Server
from mainstay.provision.postgresql.tools import ToolFailed, Tools
from mainstay.provision.postgresql.wishes import Credentials, Upstream, slot_of, write_whole

log = get_logger()

_POLL_S = 0.05
_COPY_SILENT_S_MAX = 180.0
_REWIND_SILENT_S_MAX = 300.0
_PROMOTE_S_MAX = 60.0
_LET_GO_S_MAX = 10.0
_SETTLED_S_MAX = 300.0
_ASK_EVERY_S = 0.5
_VERSION_UNIT = 10_000
_END_OF_LOG_S = 8.0
"""Longer than a receiver takes that can connect."""


class PrimaryAway(Unavailable):
    """The primary does not answer, or does not let us in."""


class OtherVersion(Conflict):
    """The primary has another major version of PostgreSQL than this machine."""


class HasData(Conflict):
    """A copy would replace a database, and that was not asked for."""


class CannotRewind(Conflict):
    """The data cannot be brought onto the primary's history: a new copy is needed."""


class NotPromoted(Unavailable):
    """It did not become the primary in time."""


class NotSettled(Unavailable):
    """The new primary has not written its first checkpoint in time."""


class NotLetGo(Unavailable):
    """It did not stop following in time."""


class NotReached(Unavailable):
    """A delayed replica did not come to the wished moment in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a standby is behind, by what it knows itself."""

    is_streaming: bool
    """Whether it is connected to its primary now."""
    received: int
    """Position in the log, in bytes, up to which everything is on disk here."""
    replayed: int
    """… up to which readers see it."""
    primary: int | None
    """… up to which the primary had written when it last said so; None while not connected."""
    bytes: int
    """Not replayed of what is known to be there."""
    seconds: float
    """Since the last commit that was replayed was made; 0 when connected and nothing is missing."""
    last_commit_ms: int | None
    """When the last replayed commit was made, by the clock of the primary."""
    silent_s: float | None
    """Since the primary was last heard; None while not connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Where a delayed replica stopped."""

    is_exact: bool
    """False: the log ends before the wished time, so everything there is was replayed."""
    last_commit_ms: int | None


_LAG = """
SELECT coalesce(r.status = 'streaming', false),
       greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0',
       pg_last_wal_replay_lsn() - '0/0',
       r.latest_end_lsn - '0/0',
       (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()))::float8,
       (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000)::bigint,
       (extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time))::float8
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver r ON true
"""


_IS_SETTLED = """
SELECT (timeline_id = ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int)::text
FROM pg_control_checkpoint()
"""


class _EndOfLog:
    """Whether there is nothing more to replay: nobody sends, and for a while nothing was replayed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._replayed = -1
        self._since_s = 0.0

    def is_reached(self, lag: Lag) -> bool:
        now_s = self._clock.monotonic_s()
        if lag.is_streaming or lag.bytes or lag.replayed != self._replayed:
            self._replayed, self._since_s = lag.replayed, now_s
        return now_s - self._since_s > _END_OF_LOG_S


class Standby:
    """Of a server that follows, or shall."""

    def __init__(self, server: Server, *, clock: Clock = SYSTEM) -> None:
        self.server = server
        self._clock = clock

    # Coming to have the data of the primary
    def base_backup_from(
        self, upstream: Upstream, credentials: Credentials, *, replace_data: bool = False
    ) -> None:
        """Copy everything from a primary where `create_slot(upstream.site)` was done, and stand by for it.

        What is here stays until the copy is whole. A copy that was killed is made again from its beginning;
        one that is in place is left alone unless `replace_data`. `tell` of the server hears the progress.
        Not started afterwards, unless somebody runs it. Raises `PrimaryAway`, `OtherVersion`, `HasData`.
        """
        server, places = self.server, self.server.places
        server.prepare()
        server.keep(credentials)
        if places.data.exists() and not replace_data:
            if places.is_standby and server.system_identifier() == self._identifier_of(upstream):
                self.follow(upstream, credentials)
                return
            raise HasData(f"{places.directory} has a database already")
        tools = Tools(postgresql_programs(self._major_version_of(upstream)), server.account)
        self._copy(tools, upstream)
        with server.stopped():
            server.wish(upstream=upstream, synchronous=(), replay_until_ms=None)
            places.making.rename(places.fresh)
            places.put_in_place()
        log.info("postgresql.copied", host=upstream.host, site=upstream.site)

    def _copy(self, tools: Tools, upstream: Upstream) -> None:
        places = self.server.places
        places.clear_making()
        tools.run(
            "pg_basebackup",
            f"--pgdata={places.making}",
            f"--dbname={conninfo(places, upstream)}",
            f"--slot={slot_of(upstream.site)}",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-password",
            "--progress",
            "--verbose",
            log=places.tool_log,
            silent_s_max=_COPY_SILENT_S_MAX,
            tell=self.server.tell,
        )
        write_whole(places.making / STANDBY_SIGNAL, b"", self.server.account)

    def follow(self, upstream: Upstream, credentials: Credentials, *, delay_s: int = 0) -> None:
        """Stand by for this primary from now on. One that stands by already does so without a restart; a
        former primary must have been stopped before the new one was promoted, or be rewound.
        """
        server = self.server
        server.keep(credentials)
        with server.held():
            server.wish(upstream=upstream, delay_s=delay_s, synchronous=(), replay_until_ms=None)
            if server.places.is_standby:
                if server.is_running():
                    server.reload()
                return
        with server.stopped():
            server.places.require_data()
            self._mark()

    def let_go(self, *, within_s: float = _LET_GO_S_MAX) -> None:
        """Follow nobody, but stay a standby: from when this returns nothing is confirmed to the primary.

        `follow` takes it up again. Raises `NotLetGo`, `ServerDown`.
        """
        server = self.server
        with server.held():
            server.wish(upstream=None)
            server.reload()
            until_s = self._clock.monotonic_s() + within_s
            while server.ask("SELECT count(*) FROM pg_stat_get_wal_receiver() WHERE pid IS NOT NULL")[0]:
                if self._clock.monotonic_s() > until_s:
                    raise NotLetGo(f"the standby still receives after {within_s:.0f} s")
                time.sleep(_POLL_S)

    def rewind_from(self, upstream: Upstream, credentials: Credentials) -> None:
        """Bring a former primary onto the history of the new one and stand by for it, without a full copy.

        What only it had is gone afterwards: look at it before. May be broken off and repeated. Raises
        `CannotRewind` when only `base_backup_from(…, replace_data=True)` helps, `NotSettled`, `PrimaryAway`.
        """
        server, places = self.server, self.server.places
        server.prepare()
        server.keep(credentials)
        self._refuse_stranger(upstream)
        self._wait_until_settled(upstream)
        with server.stopped():
            write_whole(places.rewinding, b"", server.account)
            self._rewind(upstream)
            server.wish(upstream=upstream, synchronous=(), replay_until_ms=None, delay_s=0)
            self._mark()
            places.rewinding.unlink(missing_ok=True)
        log.info("postgresql.rewound", host=upstream.host, site=upstream.site)

    def _rewind(self, upstream: Upstream) -> None:
        server, places = self.server, self.server.places
        server.configure()  # a server that was killed is recovered first, with our configuration
        try:
            server.tools().run(
                "pg_rewind",
                f"--target-pgdata={places.data}",
                f"--source-server={conninfo(places, upstream, dbname='postgres')}",
                f"--config-file={places.configuration}",
                "--progress",
                log=places.tool_log,
                silent_s_max=_REWIND_SILENT_S_MAX,
                tell=server.tell,
            )
        except ToolFailed as error:
            raise CannotRewind(
                f"the database in {places.directory} cannot be rewound; take a new copy instead: {error}"
            ) from error

    def _wait_until_settled(self, upstream: Upstream) -> None:
        """See `Primary.settle`."""
        until_s = self._clock.monotonic_s() + _SETTLED_S_MAX
        while self._asked(upstream, _IS_SETTLED) != "true":
            if self._clock.monotonic_s() > until_s:
                raise NotSettled(
                    f"the new primary made no checkpoint within {_SETTLED_S_MAX:.0f} s: try again"
                )
            time.sleep(_ASK_EVERY_S)

    def _mark(self) -> None:
        write_whole(self.server.places.data / STANDBY_SIGNAL, b"", self.server.account)

    # How it is
    def lag(self) -> Lag:
        """Raises `ServerDown`."""
        row = self.server.ask(_LAG)
        streaming, received, replayed, primary = row[0], int(row[1] or 0), int(row[2] or 0), row[3]
        known = max(received, int(primary or 0))
        behind = max(0, known - replayed)
        return Lag(
            is_streaming=streaming,
            received=received,
            replayed=replayed,
            primary=int(primary) if primary is not None else None,
            bytes=behind,
            seconds=float(row[4] or 0.0) if behind or not streaming else 0.0,
            last_commit_ms=row[5],
            silent_s=row[6],
        )

    def timeline(self) -> int:
        """Of the history that it follows now."""
        question = (
            "SELECT coalesce((SELECT received_tli FROM pg_stat_wal_receiver WHERE received_tli > 0),"
            " (SELECT timeline_id FROM pg_control_checkpoint()))"
        )
        return int(self.server.ask(question)[0])

    def set_delay(self, delay_s: int) -> None:
        """How far it shall stay behind, on purpose."""
        with self.server.held():
            self.server.wish(delay_s=delay_s)
            self.server.reload()

    # Becoming the primary
    def promote(self, *, within_s: float = _PROMOTE_S_MAX) -> None:
        """Become the primary; returns when it takes writes. Nothing happens to one that is. `NotPromoted`."""
        server = self.server
        with server.held():
            self._drop_delay()
            if server.is_in_recovery():
                server.ask("SELECT pg_promote(false)")
            self._wait_until_writable(within_s)
            server.wish(upstream=None, delay_s=0, replay_until_ms=None, synchronous=())
            server.reload()
        log.info("postgresql.promoted", directory=str(server.places.directory))

    def _drop_delay(self) -> None:
        """What a delayed one has not replayed yet is replayed by a promotion, which must not wait."""
        wishes = self.server.wishes
        if wishes.delay_s and wishes.replay_until_ms is None:
            self.set_delay(0)

    def _wait_until_writable(self, within_s: float) -> None:
        until_s = self._clock.monotonic_s() + within_s
        while self.server.is_in_recovery():
            if self._clock.monotonic_s() > until_s:
                raise NotPromoted(f"the standby did not become the primary within {within_s:.0f} s")
            time.sleep(_POLL_S)

    def replay_until(self, time_ms: int, *, within_s: float) -> Reached:
        """Replay everything committed before `time_ms` and nothing after it; then `promote`.

        For a delayed standby that has not come that far. It takes a restart. When the log ends before that
        time and the primary is not there, everything is replayed. Raises `NotReached`.
        """
        server = self.server
        before = server.wishes
        if (self.lag().last_commit_ms or 0) > time_ms:
            raise NotReached("the standby has replayed commits after that time already")
        with server.stopped():
            server.wish(replay_until_ms=time_ms)
        end = _EndOfLog(self._clock)
        until_s = self._clock.monotonic_s() + within_s
        while not self._is_paused():
            if end.is_reached(self.lag()):
                self._restart_with(delay_s=0)
                return Reached(is_exact=False, last_commit_ms=self.lag().last_commit_ms)
            if self._clock.monotonic_s() > until_s:
                self._restart_with(delay_s=before.delay_s)
                raise NotReached(f"not everything up to that time was replayed within {within_s:.0f} s")
            time.sleep(_POLL_S)
        return Reached(is_exact=True, last_commit_ms=self.lag().last_commit_ms)

    def _restart_with(self, *, delay_s: int) -> None:
        with self.server.stopped():
            self.server.wish(replay_until_ms=None, delay_s=delay_s)

    def _is_paused(self) -> bool:
        return bool(self.server.ask("SELECT pg_get_wal_replay_pause_state()")[0] == "paused")

    # The primary, asked
    def _major_version_of(self, upstream: Upstream) -> int:
        said = self._asked(upstream, "SHOW server_version_num")
        return int(said) // _VERSION_UNIT

    def _identifier_of(self, upstream: Upstream) -> str:
        return self._asked(upstream, "SELECT system_identifier::text FROM pg_control_system()")

    def _refuse_stranger(self, upstream: Upstream) -> None:
        version, ours = self._major_version_of(upstream), self.server.places.major_version()
        if version != ours:
            raise OtherVersion(
                f"the primary has PostgreSQL {version}, the database here is of version {ours}"
            )
        if self._identifier_of(upstream) != self.server.system_identifier():
            raise CannotRewind("the primary is not of the same origin as this database: take a copy of it")

    def _asked(self, upstream: Upstream, question: str) -> str:
        """Raises `PrimaryAway`."""
        import psycopg  # noqa: PLC0415 - a driver that only its users pay for

        try:
            line = conninfo(self.server.places, upstream, dbname="postgres")
            with psycopg.connect(line, autocommit=True) as connection:
                row = connection.execute(question.encode()).fetchone()
        except psycopg.Error as error:
            raise PrimaryAway(
                f"the primary's database on {upstream.host}:{upstream.port} does not answer:"
                f" {' '.join(str(error).split())}"
            ) from error
        assert row is not None, "the question has an answer"
        return str(row[0])
