"""The process `sites` of a node that has other sites: it learns of promotions, and does what a role asks for.

Always: `cluster.epochs.sentinel` asks the other sites, the object store and the own database for epochs.
As primary: PostgreSQL has a slot for each site on the list, commits wait for the synchronous ones that have
caught up, and what a replica would want to know of us in its last hour is kept for the line (`said.json`).
As replica: it remembers what the primary said, and when another site was promoted it follows that one, by
itself, without a restart of anything.

A turn that fails is logged and tried again a second later. Which role it is, is asked at each turn.
"""

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from mainstay.boot import adopting, child, promotion
from mainstay.boot.cache_sync import cache_sync_of
from mainstay.boot.leading import Lease
from mainstay.boot.managed_database import server_of
from mainstay.boot.membership import secrets_of
from mainstay.boot.pulling import Kept, Pulling
from mainstay.boot.replicating import Saying, credentials_of, keep_up, stream_of
from mainstay.boot.site_lines import Lines, claim_in
from mainstay.boot.standing_by import Watch
from mainstay.boot.state import SITES
from mainstay.boot.station import station_of
from mainstay.boot.stores import Stores
from mainstay.boot.witnessing import WitnessSource
from mainstay.cluster.enduring import bugs_as_outages
from mainstay.cluster.epochs.own import look_at
from mainstay.cluster.epochs.sentinel import MarkerSource, Sentinel, Source
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.admission import enlist
from mainstay.cluster.sites.identity import SiteIdentity, site_id_in
from mainstay.cluster.sites.puller import KEEP_DELETED_S, everything, unheard
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import MainstayError, NotFound, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.ops.sites import following, incomplete
from mainstay.ops.sites.following import Follow, Following
from mainstay.ops.sites.losses import Heard, LastPush
from mainstay.ops.sites.memory import Memory
from mainstay.provision.postgresql import Primary, Server, Standby, Upstream
from mainstay.storage.database.fence import Standing

if TYPE_CHECKING:
    from mainstay.ops.sites.cache_sync import CacheSync

log = get_logger()

EVERY_S: Final = 1.0
_MENDED_EVERY: Final = 10
"""Turns between two looks at repositories that lack packs."""


def main() -> None:
    with child.begun(SITES, orm=False) as stores:
        process = SiteProcess(stores)
        signal.signal(signal.SIGTERM, process.stop_soon)
        process.run(say_ready=child.say_ready)


def ask_others(stores: Stores) -> Standing | None:
    """Ask all that can be asked for epochs, for some seconds: before a node takes its first write."""
    site, lines = SiteFile(stores.settings.data), Lines(stores.settings)
    try:
        lines.refresh()
        sentinel = Sentinel(
            site,
            own=look_at(stores.settings.database_url),
            peers=lines.peers,
            sources=sources_of(stores, site, lines),
        )
        try:
            return sentinel.ask_once()
        finally:
            sentinel.close()
    finally:
        lines.close()


def sources_of(stores: Stores, site: SiteFile, lines: Lines) -> Mapping[str, Source]:
    """Who knows of promotions, beside the other sites."""
    return {
        "objects": MarkerSource(stores.objects, site),
        "witness": WitnessSource(lines.reading, stores.settings.data),
    }


def stand_down(server: Server | None) -> None:
    """A site that another has superseded waits for nobody: its fence lets nothing be acknowledged, and as
    long as it waited for who does not follow it any more, it could not even be read.
    """
    if server is not None and server.wishes.synchronous:
        Primary(server).set_synchronous([])


class SiteProcess:
    """One per node."""

    def __init__(self, stores: Stores) -> None:
        settings = stores.settings
        self._stores = stores
        self._site = SiteFile(settings.data)
        self._memory = Memory(settings.data)
        self._lines = Lines(settings)
        self._station = station_of(settings)
        self._server = server_of(settings.data) if settings.database_is_managed else None
        self._saying = Saying(stores, self._server) if self._server else None
        self._sentinel = Sentinel(
            self._site,
            own=look_at(settings.database_url),
            peers=self._lines.peers,
            sources=sources_of(stores, self._site, self._lines),
        )
        self._pulling = Pulling(stores)
        self._lease = Lease(stores, self._server, self._lines) if self._server else None
        self._watch = (
            Watch(stores, self._server, self._lines, rest=self._pulling.rest) if self._server else None
        )
        self._stopping = threading.Event()
        self._turns = self._superseded_turns = 0
        self._settled_epoch = 0
        self._cache_sync: CacheSync | None = None
        self._last_said = ""

    def stop_soon(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()

    def run(self, *, say_ready: Callable[[], None]) -> None:
        """Until SIGTERM."""
        self._station.start()
        self._sentinel.start()
        say_ready()
        try:
            while not self._stopping.wait(EVERY_S):
                self.turn()
        finally:
            self._pulling.rest()
            self._rest_from_leading()
            self._rest_from_watching()
            if self._cache_sync is not None:
                self._cache_sync.close()
            self._sentinel.close()
            self._station.stop()
            self._lines.close()

    def turn(self) -> None:
        """Once. What fails is said once, and tried again at the next turn."""
        self._turns += 1
        try:
            with bugs_as_outages("sites.turn_crashed"):
                self._turn()
                self._last_said = ""
        except (MainstayError, OutcomeUnknown) as failed:
            if str(failed) != self._last_said:
                log.warning("sites.turn_failed", because=str(failed))
            self._last_said = str(failed)

    def _turn(self) -> None:
        standing = self._site.read()
        if standing is None:
            return
        role = self._station.now.role
        try:
            self._lines.refresh()
        except MainstayError as away:
            log.debug("sites.list_remembered", because=str(away))
        if self._watch is not None:
            self._watch.resume()
        if role != "replica":
            self._pulling.rest()
            self._rest_from_watching()
        if role != "primary":
            self._rest_from_leading()
        self._superseded_turns = self._superseded_turns + 1 if role == "superseded" else 0
        if self._superseded_turns > 1:  # by now no process here writes any more
            stand_down(self._server)
        elif role == "primary" and standing.own.epoch:
            self._lead(standing)
        elif role == "replica":
            self._follow(standing)

    # As primary
    def _rest_from_leading(self) -> None:
        if self._lease is not None:
            self._lease.rest()

    def _rest_from_watching(self) -> None:
        if self._watch is not None and not self._watch.is_deciding:
            self._watch.rest()

    def _lead(self, standing: Standing) -> None:
        if self._lease is not None:
            self._lease.turn(standing)  # before all else: nothing is written without it
        self._renew_own()
        if self._server is not None and self._saying is not None:
            keep_up(self._stores, self._server)
            self._memory.note_said(self._saying.now())
            self._settle(self._server, standing.own.epoch)
        if self._turns % _MENDED_EVERY == 0:
            self._mend()
            self._adopt()

    def _settle(self, server: Server, epoch: int) -> None:
        """So that a former primary can be rewound soon after a promotion."""
        if self._settled_epoch != epoch:
            Primary(server).settle()
            self._settled_epoch = epoch

    def _renew_own(self) -> None:
        identity, me = SiteIdentity(self._stores.settings.data), self._lines.me()
        if me is not None and identity.is_due(now_ms=SYSTEM.now_ms()):
            identity.keep(enlist(self._stores.database, secrets_of(self._stores), me, clock=SYSTEM))
            self._show_new_certificate()

    def _show_new_certificate(self) -> None:
        """PostgreSQL has a copy of its own."""
        if self._server is not None:
            self._server.keep(credentials_of(self._stores.settings.data))
            self._server.reload()

    def _mend(self) -> None:
        """Repositories that a promotion closed come back when their packs have come, from whatever site."""
        left = self._memory.incomplete()
        if not left:
            return
        missing = incomplete.missing_objects(self._stores.database, self._stores.objects)
        for keys in (missing[each] for each in left if each in missing):
            for key in keys:
                self._fetch_somewhere(key)
        missing = incomplete.missing_objects(self._stores.database, self._stores.objects)
        behind = incomplete.behind_journal(self._stores.ledger, self._stores.objects)
        back = [each for each in left if each not in missing and each not in behind]
        incomplete.reopen(self._stores.ledger, back)
        self._memory.note_incomplete([each for each in left if each not in back])

    def _adopt(self) -> None:
        """What other sites had alone when they rejoined."""
        for site in self._lines.others():
            line = self._lines.to(site)
            try:
                adopting.adopt(self._stores, site, line, line.facts().get("diverged"))
            except (MainstayError, OutcomeUnknown) as failed:
                log.debug("sites.not_adopted", site=site.name, because=str(failed))

    def _fetch_somewhere(self, key: str) -> None:
        target = self._stores.settings.data / "run" / "mend"
        for site in self._lines.others():
            target.unlink(missing_ok=True)
            try:
                self._lines.to(site).download(key, target)
                self._stores.objects.put(key, target)
            except (NotFound, Unavailable) as failed:
                log.debug("sites.object_not_there", key=key, site=site.name, because=str(failed))
            else:
                log.info("sites.object_mended", key=key, site=site.name)
                return
            finally:
                target.unlink(missing_ok=True)

    # As replica
    def _follow(self, standing: Standing) -> None:
        if standing.highest.site_id == standing.site_id:
            self._take_over(standing)
            return
        primary = self._lines.by_id(standing.highest.site_id)
        if primary is None:
            return
        me = self._lines.me()
        if self._watch is not None:
            self._watch.turn(standing, me)
        wants = everything if me is None or me.kind == "replica" else Kept(self._stores, me.patterns)
        # What a database that is behind on purpose still names must be there.
        keep_s = KEEP_DELETED_S + (me.delay_s if me else 0)
        self._pulling.towards(
            primary,
            self._lines.to(primary),
            wants=wants,
            landed=self._who_hears(me, wants),
            keep_deleted_s=keep_s,
        )
        facts = self._lines.to(primary).facts()
        said = facts.get("said")
        self._remember(primary, said if isinstance(said, dict) else {})
        if self._turns % _MENDED_EVERY == 0:
            adopting.settle(self._stores)
        if SiteIdentity(self._stores.settings.data).is_due(now_ms=SYSTEM.now_ms()):
            self._lines.to(primary).renew()
            self._show_new_certificate()
        is_deciding = self._watch is not None and self._watch.is_deciding
        if self._server is not None and facts.get("role") == "primary" and not is_deciding:
            self._turn_to(standing, primary, said if isinstance(said, dict) else {})

    def _who_hears(self, me: Site | None, wants: Callable[[str], bool]) -> Callable[[str], None]:
        """Of each object that has come: the webhook of a cache, if it has one."""
        if me is None or me.kind != "cache" or not self._stores.settings.cache_sync_url:
            return unheard
        if self._cache_sync is None:
            self._cache_sync = cache_sync_of(self._stores, me, wants)
            self._cache_sync.start()
        return self._cache_sync.landed

    def _take_over(self, standing: Standing) -> None:
        """A planned failover: the primary has let its database follow, seen that everything is here, and says
        that the next epoch is ours. Nobody but the site that our database is of may say that.
        """
        giver = self._lines.by_id(standing.own.site_id)
        if giver is None or standing.own.epoch >= standing.highest.epoch:
            return
        facts = self._lines.to(giver).facts()
        if facts.get("role") == "replica" and claim_in(facts.get("highest")) == standing.highest:
            log.info("sites.taking_over", giver=giver.name, epoch=standing.highest.epoch)
            self._pulling.rest()
            promotion.take_over(self._stores, giver)

    def _remember(self, primary: Site, said: Mapping[str, Any]) -> None:
        me, push = self._lines.me(), said.get("last_push")
        self._memory.note_heard(
            Heard(
                at_ms=SYSTEM.now_ms(),
                site_id=primary.id,
                name=primary.name,
                url=primary.url,
                wal=int(said["wal"]) if "wal" in said else None,
                last_push=LastPush(**push) if isinstance(push, dict) else None,
                waits_for_us=me is not None and stream_of(me.id) in said.get("waits_for", []),
            )
        )

    def _turn_to(self, standing: Standing, primary: Site, said: Mapping[str, Any]) -> None:
        assert self._server is not None, "asked only where there is one"
        standby, me = Standby(self._server), self._lines.me()
        upstream = self._server.wishes.upstream
        if upstream is not None and upstream.name == stream_of(primary.id):
            return
        view = Following(
            me=standing.site_id,
            follows=site_id_in(upstream.name) or "" if upstream else "",
            newest=standing.highest,
            is_paused=me is not None and me.state == "paused",
            database_address=primary.database_address,
            timeline=standby.timeline(),
            received=standby.lag().received,
            forks={int(each): int(at) for each, at in dict(said.get("forks", {})).items()},
        )
        decision = following.decide(view)
        if isinstance(decision, Follow):
            self._turn_database_to(standby, primary, me)
            log.info("sites.followed", site=primary.name, because=decision.because)
        elif decision.is_stuck and self._turns % _MENDED_EVERY == 0:
            log.warning("sites.not_followed", because=decision.because)

    def _turn_database_to(self, standby: Standby, primary: Site, me: Site | None) -> None:
        host, _, port = primary.database_address.rpartition(":")
        standing = self._site.ensure()
        upstream = Upstream(
            host=host.strip("[]"),
            port=int(port),
            site=stream_of(standing.site_id),
            name=stream_of(primary.id),
        )
        credentials = credentials_of(self._stores.settings.data)
        standby.follow(upstream, credentials, delay_s=me.delay_s if me else 0)


if __name__ == "__main__":
    main()
