"""Find the server that takes writes, among several that a URL names, and connect to it.

libpq tries hosts one after the other and takes the first that says it takes writes. That is slow when the
first is cut off (its time limit is spent for every connection), and wrong when the first is an old primary
that does not know it was replaced. So all hosts are asked side by side, and of those that take writes the
one on the highest timeline is taken: a promotion always begins a new one. A server that could not commit is
distrusted for a while. The choice is kept until it fails, so in good times a connection costs one connection.

On a replica (`may_follow`) a server in recovery will do where none takes writes.

One thread at a time looks; others wait for it briefly and then say that the database is away, so that a
crowd without a database does not take every thread there is.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo

from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import DatabaseAway, DatabaseCutOff
from mainstay.storage.database.faults import Connection, run_plain
from mainstay.storage.database.watch import Watch

CONNECT_S_MAX = 3
_LOOK_S_MAX = 4.0
_LATECOMERS_S = 0.5
"""How long hosts that say nothing are waited for when one is there."""
_WAIT_S_MAX = 1.0
_FAILED_FOR_S = 0.2
_DISTRUST_S = 10.0
_HOSTS_MAX = 16

_DEFAULTS: Mapping[str, Any] = {
    "connect_timeout": CONNECT_S_MAX,
    "application_name": "mainstay",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_OURS = ("target_session_attrs", "load_balance_hosts")
"""What libpq would decide and is decided here."""
_TIMELINE = (
    b"SELECT pg_backend_pid(), CASE WHEN pg_is_in_recovery() THEN 0"
    b" ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END"
)
_ROLE = b"SELECT pg_backend_pid(), CASE WHEN pg_is_in_recovery() THEN 0 ELSE 1 END"
"""For a single host, and for services that have no timelines."""

_LIMITS_MS = (
    (b"lock_timeout", 30_000),
    (b"statement_timeout", 120_000),
)
READER_REST_MS = 120_000
WRITER_REST_MS = 3_000
"""Between two statements of a transaction that may hold locks. Whoever is frozen there, or has lost his line,
keeps others waiting no longer: the server ends his transaction. Ours rest a second at most, as the first on a
new primary does."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host said."""

    place: int
    timeline: int
    """0: it is a standby."""
    connection: Connection


@dataclass(slots=True)
class _Known:
    """What is remembered between connections."""

    chosen: int | None = None
    failed_until_s: float = 0.0
    failure: str = ""
    distrusted_until_s: dict[int, float] = field(default_factory=dict)


def best_of(
    answers: Sequence[Answer], distrusted: frozenset[int], *, may_follow: bool = False
) -> Answer | None:
    """The primary on the highest timeline; one that could not commit only if there is no other.

    With `may_follow` also a standby, if there is no primary.
    """
    usable = [answer for answer in answers if answer.timeline > 0 or may_follow]
    return max(
        usable,
        key=lambda each: (each.timeline > 0, each.place not in distrusted, each.timeline),
        default=None,
    )


def connection_arguments(url: str) -> dict[str, Any]:
    """All that libpq is told to reach `url`: what it says, several hosts included, and our defaults."""
    given = conninfo.conninfo_to_dict(url)
    return {**_DEFAULTS, **{name: value for name, value in given.items() if name not in _OURS}}


def places_of(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What to replace in the arguments for each host. Raises `Invalid`."""
    lists = {
        name: str(arguments[name]).split(",") for name in ("host", "hostaddr", "port") if arguments.get(name)
    }
    count = max((len(values) for values in lists.values()), default=1)
    if count > _HOSTS_MAX or any(len(values) not in (1, count) for values in lists.values()):
        raise Invalid(f"a database URL has at most {_HOSTS_MAX} hosts, and as many ports as hosts, or one")
    return [
        {name: values[place] if len(values) > 1 else values[0] for name, values in lists.items()}
        for place in range(count)
    ]


class Dialer:
    """Connects to the primary of one URL."""

    def __init__(self, url: str, watch: Watch, *, may_follow: Callable[[], bool] = lambda: False) -> None:
        self._may_follow = may_follow
        self.arguments = connection_arguments(url)
        self._places = places_of(self.arguments)
        self._watch = watch
        self._known = _Known()
        self._looking = threading.Lock()
        self.cut_off_because: str | None = None
        """Then nobody is let try: it would take seconds, and another node will do."""

    def dial(self) -> Connection:
        """A new connection to the primary, in autocommit. Raises `DatabaseAway`."""
        self.refuse_if_cut_off()
        chosen = self._known.chosen
        if chosen is not None:
            with suppress(DatabaseAway):
                return self._dial_known(chosen)
        if not self._looking.acquire(timeout=_WAIT_S_MAX):
            raise DatabaseAway("the database is being looked for")
        try:
            if self._known.chosen not in (None, chosen):
                return self._dial_known(self._known.chosen)
            self.refuse_if_cut_off()
            return self._look()
        finally:
            self._looking.release()

    def place(self) -> Mapping[str, Any]:
        """Where the primary is, for somebody who connects by himself. Raises `DatabaseAway`."""
        if self._known.chosen is None:
            self.dial().close()
        chosen = self._known.chosen
        return self._places[chosen] if chosen is not None else {}

    def forget(self) -> None:
        """The server that was chosen is not the primary any more, or not there: look again."""
        self._known.chosen = None

    def distrust(self) -> None:
        """The chosen server takes writes and cannot commit: prefer any other for a while."""
        chosen = self._known.chosen
        if chosen is not None and len(self._places) > 1:
            self._known.distrusted_until_s[chosen] = time.monotonic() + _DISTRUST_S
        self.forget()

    def refuse_if_cut_off(self) -> None:
        """Raises `DatabaseCutOff`."""
        if self.cut_off_because is not None:
            raise DatabaseCutOff(self.cut_off_because)

    def _dial_known(self, place: int | None) -> Connection:
        assert place is not None, "called with a place"
        try:
            answer = self._ask(place)
        except psycopg.Error as error:
            self.forget()
            raise DatabaseAway(f"the database is away: {_short(error)}") from error
        if not answer.timeline and not self._may_follow():
            answer.connection.close()
            self.forget()
            raise DatabaseAway("the database takes no writes any more")
        return answer.connection

    def _look(self) -> Connection:
        """Ask everybody. Called by one thread at a time."""
        known, now_s = self._known, time.monotonic()
        if now_s < known.failed_until_s:
            raise DatabaseAway(known.failure)
        distrusted = frozenset(
            place for place, until_s in known.distrusted_until_s.items() if until_s > now_s
        )
        answers, errors = self._answers()
        best = best_of(answers, distrusted, may_follow=self._may_follow())
        for answer in answers:
            if answer is not best:
                answer.connection.close()
        if best is None:
            known.failure = f"the database is away: {'; '.join(errors) or 'no host takes writes'}"
            known.failed_until_s = time.monotonic() + _FAILED_FOR_S
            raise DatabaseAway(known.failure)
        known.chosen = best.place
        if len(self._places) > 1:
            log.info("database.primary_found", host=self._places[best.place], timeline=best.timeline)
        return best.connection

    def _answers(self) -> tuple[list[Answer], list[str]]:
        """Those hosts that answer in time; the first primary does not wait long for the others."""
        if len(self._places) == 1:
            try:
                return [self._ask(0)], []
            except psycopg.Error as error:
                return [], [_short(error)]
        hearing = _Hearing()
        for place in range(len(self._places)):
            threading.Thread(
                target=self._ask_aloud, args=(place, hearing), name="database-dial", daemon=True
            ).start()
        hearing.listen(len(self._places), until_s=time.monotonic() + _LOOK_S_MAX)
        return hearing.end()

    def _ask_aloud(self, place: int, hearing: "_Hearing") -> None:
        try:
            hearing.tell(self._ask(place))
        except psycopg.Error as error:
            hearing.tell(error)

    def _ask(self, place: int) -> Answer:
        """Connect to one host and ask what it is. Raises `psycopg.Error`."""
        several = len(self._places) > 1
        connection: Connection = psycopg.connect(**{**self.arguments, **self._places[place]}, autocommit=True)
        try:
            with self._watch.limited(connection, CONNECT_S_MAX):
                timeline = _introduce(connection, _TIMELINE if several else _ROLE)
        except BaseException:
            connection.close()
            raise
        return Answer(place, timeline, connection)


class _Hearing:
    """What several hosts said; who comes too late finds the door closed and hangs up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._answers: list[Answer] = []
        self._errors: list[str] = []
        self._is_over = False

    def tell(self, said: Answer | psycopg.Error) -> None:
        with self._changed:
            if isinstance(said, psycopg.Error):
                self._errors.append(_short(said))
            elif self._is_over:
                said.connection.close()
            else:
                self._answers.append(said)
            self._changed.notify_all()

    def listen(self, count: int, *, until_s: float) -> None:
        """Until all have spoken; the first primary does not wait long for the others."""
        with self._changed:
            while len(self._answers) + len(self._errors) < count:
                if any(answer.timeline for answer in self._answers):
                    until_s = min(until_s, time.monotonic() + _LATECOMERS_S)
                if not self._changed.wait(until_s - time.monotonic()) and time.monotonic() >= until_s:
                    return

    def end(self) -> tuple[list[Answer], list[str]]:
        with self._changed:
            self._is_over = True
            return self._answers, self._errors


def limits(*, for_session: bool, rest_ms: int = READER_REST_MS) -> bytes:
    """Set how long statements, locks and rests may take: for a session, or for one transaction."""
    scope = b"false" if for_session else b"true"
    told = [b"set_config('%s', '%d', %s)" % (name, ms, scope) for name, ms in _LIMITS_MS]
    return b", ".join([*told, rest_limit(rest_ms, for_session=for_session)])


def rest_limit(rest_ms: int, *, for_session: bool = False) -> bytes:
    """Set how long a transaction may be open without a statement."""
    scope = b"false" if for_session else b"true"
    return b"set_config('idle_in_transaction_session_timeout', '%d', %s)" % (rest_ms, scope)


def is_pooled(connection: Connection) -> bool:
    """Whether a pooler in between gives each transaction another session, so that none can be relied on."""
    return connection.prepare_threshold is None


def _introduce(connection: Connection, question: bytes) -> int:
    """What the server is. Behind a pooler the process that answers is not the one that greeted us."""
    try:
        said = run_plain(connection, question)
    except psycopg.errors.FeatureNotSupported:
        said = run_plain(connection, _ROLE)
    pid, timeline = said.get_value(0, 0), said.get_value(0, 1)
    assert pid is not None, "a server process has a number"
    assert timeline is not None, "never NULL"
    if int(pid) != connection.pgconn.backend_pid:
        connection.prepare_threshold = None
    else:
        run_plain(connection, b"SELECT " + limits(for_session=True))
    return int(timeline)


def _short(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
