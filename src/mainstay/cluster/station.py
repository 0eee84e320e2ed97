"""What this site is at the moment, kept ready for whoever asks at each request: primary, replica, superseded.

One `Station` per process. A thread looks twice a second: at `site.json`, and where there is one at the
site's own database, so that a promotion or a demotion changes what the doors do without a restart. Where
there are no sites (no `site.json`) it is the primary of its own, and a look costs one attempt to open a file.

When the database does not answer, what was known goes on: a replica without its database is still a replica.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from mainstay.cluster.enduring import bugs_as_outages
from mainstay.cluster.epochs.own import Look
from mainstay.cluster.epochs.role import Role, decide_role
from mainstay.cluster.epochs.site import SiteFile
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import gauge
from mainstay.storage.database.fence import Claim, Standing

log = get_logger()

LOOK_EVERY_S: Final = 0.4
LOOK_LIMIT_S: Final = 2.0
_NOBODYS: Final = Claim()
_ROLES: Final[tuple[Role, ...]] = ("primary", "replica", "superseded")

ROLE = gauge("site_role", "1 for what this site is.", ["role"], across="livemostrecent")
LAG_S = gauge(
    "replica_database_lag_seconds",
    "How far the database of this replica is behind its primary's, as far as it knows.",
    across="livemostrecent",
)
LAG_BYTES = gauge(
    "replica_database_lag_bytes", "What has arrived here and is not replayed yet.", across="livemostrecent"
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a server in recovery says of itself."""

    is_connected: bool
    """Whether somebody sends to it now."""
    pending_bytes: int
    """Here, and not replayed."""
    commit_age_s: float | None
    """Since the last replayed commit was made, by two clocks; None when there was none since its start."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a replica's database is behind. `seconds` is None when nothing is known."""

    seconds: float | None
    pending_bytes: int
    is_connected: bool


@dataclass(frozen=True, slots=True)
class Sight:
    """What the site is, and why."""

    role: Role
    reason: str
    primary: Claim = _NOBODYS
    """Whose word counts; of no epoch when there are no sites."""
    lag: Lag | None = None
    """Of a replica."""

    @property
    def is_passive(self) -> bool:
        """Whether application services rest here: there is another primary."""
        return self.role != "primary"


ALONE: Final = Sight("primary", "there are no other sites")


class Measure(Protocol):
    """Asks the site's own database how far it has come. For one thread."""

    def __call__(self) -> Progress | None:
        """None: it follows nobody. Raises `MainstayError`."""
        ...

    def close(self) -> None: ...


class Station:
    """One per process: `start`, ask `now` as often as wanted, `stop`."""

    def __init__(
        self,
        site: SiteFile,
        *,
        own: Callable[[], Look],
        measure: Callable[[], Measure],
        clock: Clock,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`own` and `measure` are opened when there are sites, and not before."""
        self._site = site
        self._open_own = own
        self._open_measure = measure
        self._clock = clock
        self._look_every_s = look_every_s
        self._own: Look | None = None
        self._measure: Measure | None = None
        self._in_recovery: bool | None = None
        self._caught_up_s: float | None = None
        self._sight = ALONE
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="station", daemon=True)

    @property
    def now(self) -> Sight:
        return self._sight

    def start(self) -> None:
        """Look once before anybody is served, then again and again."""
        self.turn()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_LIMIT_S * 2)
        for opened in (self._own, self._measure):
            if opened is not None:
                opened.close()

    def turn(self) -> Sight:
        """Look once. What cannot be seen stays as it was."""
        try:
            with bugs_as_outages("station.look_crashed"):
                self._note(self._look())
        except MainstayError as error:
            log.warning("station.look_failed", because=str(error))
        return self._sight

    def _run(self) -> None:
        while not self._stopping.wait(self._look_every_s):
            self.turn()

    def _look(self) -> Sight:
        standing = self._site.read()
        if standing is None:
            return ALONE
        own, in_recovery = self._ask_own(standing)
        found = decide_role(
            site_id=standing.site_id, in_recovery=in_recovery, own=own, highest=standing.highest
        )
        newest = max(own, standing.highest, key=lambda claim: claim.epoch)
        return Sight(found.role, found.reason, newest, self._lag() if in_recovery else None)

    def _ask_own(self, standing: Standing) -> tuple[Claim, bool]:
        self._own = self._own or self._open_own()
        found = self._own()
        if found is not None:
            self._in_recovery = found.in_recovery
            return found.reign.claim, found.in_recovery
        known = self._in_recovery
        return standing.own, standing.is_replica if known is None else known

    def _lag(self) -> Lag:
        self._measure = self._measure or self._open_measure()
        try:
            progress = self._measure()
        except MainstayError as error:
            log.debug("station.lag_not_measured", because=str(error))
            progress = None
        now_s = self._clock.monotonic_s()
        if progress is None:
            return Lag(None if self._caught_up_s is None else now_s - self._caught_up_s, 0, False)
        if progress.is_connected and not progress.pending_bytes:
            self._caught_up_s = now_s
        return lag_of(
            progress, caught_up_ago_s=None if self._caught_up_s is None else now_s - self._caught_up_s
        )

    def _note(self, sight: Sight) -> None:
        before = self._sight
        self._sight = sight
        for role in _ROLES:
            ROLE.labels(role).set(role == sight.role)
        if sight.lag is not None:
            LAG_S.set(-1 if sight.lag.seconds is None else sight.lag.seconds)
            LAG_BYTES.set(sight.lag.pending_bytes)
        if (before.role, before.primary.epoch) != (sight.role, sight.primary.epoch):
            log.info("station.changed", role=sight.role, reason=sight.reason, epoch=sight.primary.epoch)


def lag_of(progress: Progress, *, caught_up_ago_s: float | None) -> Lag:
    """How far behind that is, at most. `caught_up_ago_s`: since it was last seen to miss nothing."""
    if progress.is_connected and not progress.pending_bytes:
        return Lag(0.0, 0, is_connected=True)
    if progress.is_connected:
        return Lag(progress.commit_age_s, progress.pending_bytes, is_connected=True)
    known = [age_s for age_s in (progress.commit_age_s, caught_up_ago_s) if age_s is not None]
    return Lag(min(known, default=None), progress.pending_bytes, is_connected=False)
