"""As synchronous replica of sites that fail over by themselves: wait until the primary falls silent.

Belongs to the process of the site. What decides is `cluster.witness.candidacy`, driven by a thread
(`cluster.witness.watching`); here is how our database stops following and the site is promoted. A promotion
that broke off goes on by itself, as long as it is this site that the witness names.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mainstay.boot import promotion, witnessing
from mainstay.boot.layout import Layout
from mainstay.boot.replicating import credentials_of
from mainstay.boot.site_lines import Lines
from mainstay.boot.stores import Stores
from mainstay.boot.witnessing import TERMS, Whereabouts
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.registry import Site
from mainstay.cluster.witness import Witness
from mainstay.cluster.witness.arbiter import WitnessArbiter
from mainstay.cluster.witness.promising import WordServer
from mainstay.cluster.witness.watching import Granted, Watcher
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger
from mainstay.ops.sites.memory import Memory
from mainstay.provision.postgresql import Server, ServerDown, Standby, Upstream
from mainstay.storage.database.fence import Claim, Standing

log = get_logger()

_RESUME_EVERY: Final = 3
"""Turns between two attempts to go on with a promotion that failed."""


class WatchedDatabase:
    """`cluster.witness.watching.Follower`: our PostgreSQL, and the promotion of the site."""

    def __init__(self, stores: Stores, server: Server, promote: Callable[[Granted], None]) -> None:
        self._data = stores.settings.data
        self._server = server
        self._promote = promote
        self._upstream: Upstream | None = None

    def position(self) -> int | None:
        try:
            return Standby(self._server).lag().received if self._server.is_in_recovery() else None
        except ServerDown:
            return None

    def stop_following(self) -> None:
        self._upstream = self._server.wishes.upstream or self._upstream
        Standby(self._server).let_go()

    def follow_again(self) -> None:
        if self._upstream is not None:
            Standby(self._server).follow(self._upstream, credentials_of(self._data))

    def promote(self, granted: Granted) -> None:
        self._promote(granted)


class Watch:
    """Of one site; for its process. `turn` once a second while it is a replica."""

    def __init__(self, stores: Stores, server: Server, lines: Lines, *, rest: Callable[[], None]) -> None:
        """`rest` ends what a replica does besides, before the site is promoted."""
        self._stores = stores
        self._server = server
        self._lines = lines
        self._rest = rest
        self._site = SiteFile(stores.settings.data)
        self._memory = Memory(stores.settings.data)
        self._found: Whereabouts | None = None
        self._watcher: Watcher | None = None
        self._word: WordServer | None = None
        self._promoting = threading.Lock()
        self._turns = 0

    @property
    def is_deciding(self) -> bool:
        """Whether the database must be left as it is: it may have let go of the primary on purpose."""
        return self._promoting.locked() or (self._watcher is not None and self._watcher.is_asking)

    def turn(self, standing: Standing, me: Site | None) -> None:
        """Raises `MainstayError`."""
        found = witnessing.whereabouts(self._lines.reading, self._stores.settings.data)
        may = me is not None and me.mode == "sync" and me.kind == "replica" and not me.delay_s
        if found is None or found.is_ending or not may:
            if not self.is_deciding:
                self.rest()
            return
        if self._found != found:
            self.rest()
            self._begin(standing, found)

    def resume(self) -> None:
        """Go on with a promotion that broke off, if the witness still names this site."""
        self._turns += 1
        if self._turns % _RESUME_EVERY or self._promoting.locked():
            return
        standing, progress = self._site.read(), self._memory.progress()
        if standing is None or not standing.needs_lease or progress is None or not progress.is_under_way:
            return
        found = witnessing.whereabouts(self._lines.reading, self._stores.settings.data)
        witness = witnessing.open_witness(found) if found else None
        seen = witness.look() if witness else None
        if witness is not None and seen is not None and seen.record.primary == standing.site_id:
            self._carry_out(witness, because="a promotion that broke off goes on")

    def rest(self) -> None:
        """Watch no more. What was promised before ends by itself."""
        if self._word is not None:
            self._word.close()
        if self._watcher is not None:
            self._watcher.close()
        self._watcher = self._word = self._found = None

    def _begin(self, standing: Standing, found: Whereabouts) -> None:
        if not standing.needs_lease:
            self._site.need_lease(needed=True)  # before it could ever lead
        witness = witnessing.open_witness(found)
        self._watcher = Watcher(
            self._claim(standing),
            witness=witness,
            follower=WatchedDatabase(
                self._stores, self._server, lambda granted: self._take_over(witness, granted)
            ),
            terms=TERMS,
        )
        self._word = WordServer(Layout(self._stores.settings.data).run, self._watcher)
        self._word.start()
        self._watcher.start()
        self._found = found
        log.info("witness.watching", url=found.url)

    def _claim(self, standing: Standing) -> Claim:
        me = self._lines.me()
        claim = Claim(0, standing.site_id)
        return replace(claim, name=me.name, url=me.url) if me else claim

    def _silent(self) -> Site | None:
        standing = self._site.read()
        return self._lines.by_id(standing.own.site_id) if standing else None

    def _take_over(self, witness: Witness, granted: Granted) -> None:
        """In the thread of the watcher, which does not ask twice: `resume` goes on with what fails here."""
        self._carry_out(witness, because=f"the witness names this site at epoch {granted.record.epoch}")

    def _carry_out(self, witness: Witness, *, because: str) -> None:
        with self._promoting:
            self._rest()
            arbiter = WitnessArbiter(witness, TERMS)
            try:
                promotion.take_over_from_silent(self._stores, self._silent(), arbiter, because=because)
            except (MainstayError, OutcomeUnknown) as failed:
                log.error("witness.promotion_failed", because=str(failed))  # noqa: TRY400 - tried again soon
