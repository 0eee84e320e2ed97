"""`mainstay failover --to NAME`, on the primary: hand over to a replica; writes wait for seconds.

1. writes wait at the doors, as long as `HOLD_S`;
2. the replica must have everything within that time, or all goes back to where it was;
3. our PostgreSQL becomes one that follows the replica's: from now on nothing can be written here. It sends
   all that it has before it stops; the replica is asked whether that has come;
4. we learn that the next epoch is the replica's. Its site process sees that we say so, and promotes itself
   (`boot.site_process`); the writes that wait go on there.

Until the end of 3 it can be undone, and is when anything fails. From 4 on it only goes forward: if the
replica dies in that moment, a person decides, on either side.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from mainstay.boot.layout import Layout
from mainstay.boot.managed_database import server_of
from mainstay.boot.replicating import check_managed, credentials_of, position, stream_of
from mainstay.boot.settings import NodeSettings, traffic_of
from mainstay.boot.site_lines import Lines
from mainstay.boot.stores import Stores
from mainstay.boot.witnessing import answering_arbiter
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.positions import Positions
from mainstay.cluster.sites.registry import NoSuchSite, Site, change
from mainstay.cluster.witness.arbiter import WitnessArbiter
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Conflict, MainstayError, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.ops.maintenance import switch
from mainstay.ops.traffic.announcing import Facts, announce
from mainstay.ops.traffic.checking import seen_ttls
from mainstay.provision.postgresql import Primary, Server, Standby, Upstream
from mainstay.storage.database.fence import Claim
from mainstay.storage.feed.log import Feed

log = get_logger()

HOLD_S: Final = 28.0
LAG_S_MAX: Final = 10.0
"""How long the replica may take to have everything, while writes wait."""
_NEAR_BYTES: Final = 16 * 1024**2
_LAST_BYTES: Final = 64 * 1024
"""What is sent while our PostgreSQL stops."""
_COME_S_MAX: Final = 15.0
_TAKEN_S_MAX: Final = 120.0
_POLL_S: Final = 0.1

Tell = Callable[[str], None]


class NotReadyToHandOver(Conflict):
    """Nothing was changed, or all is as it was before."""


class NotTaken(Unavailable):
    """We have handed over, and the replica does not say that it has taken over."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    to: str
    epoch: int
    paused_s: float
    """How long writes waited."""


def warnings(settings: NodeSettings) -> list[str]:
    """What a person should know before: names that resolvers keep for long, or that cannot be looked at."""
    try:
        found = seen_ttls(traffic_of(settings))
    except MainstayError as error:
        return [f"dns_records: {error}"]
    return [f"{each.name}: {each.says}" for each in found if each.verdict == "warning"]


def hand_over(stores: Stores, name: str, *, tell: Tell) -> HandedOver:
    """Raises `NotReadyToHandOver`, `NotTaken`, `NoSuchSite`."""
    check_managed(stores.settings)
    lines, server = Lines(stores.settings), server_of(stores.settings.data)
    with closing(lines):
        lines.refresh()
        target = next((site for site in lines.others() if site.name == name), None)
        if target is None:
            raise NoSuchSite(f"there is no site {name!r}: `mainstay replica status` lists them")
        refuse_unready(stores, lines, server, target)
        witness = answering_arbiter(stores)  # one that does not answer is said before anything is changed
        return _hand_over(stores, lines, server, target, witness=witness, tell=tell)


def refuse_unready(stores: Stores, lines: Lines, server: Server, target: Site) -> None:
    """Everything that can be wrong before anything is changed."""
    standing = SiteFile(stores.settings.data).read()
    if standing is None or not standing.leads:
        raise NotReadyToHandOver("this site is not the primary: give the command there")
    if target.kind != "replica" or target.delay_s or target.state == "paused":
        raise NotReadyToHandOver(f"{target.name} is a cache, delayed or paused: choose a full replica")
    follower = next((each for each in Primary(server).followers() if each.site == stream_of(target.id)), None)
    if follower is None or not follower.is_streaming:
        raise NotReadyToHandOver(f"the database of {target.name} does not follow this one now")
    if (follower.flushed_behind_bytes or 0) > _NEAR_BYTES:
        raise NotReadyToHandOver(
            f"{target.name} is {follower.flushed_behind_bytes} bytes behind: wait until it has caught up"
        )
    if lines.to(target).facts().get("role") != "replica":
        raise NotReadyToHandOver(f"{target.name} does not say that it is a replica")


def _hand_over(
    stores: Stores,
    lines: Lines,
    server: Server,
    target: Site,
    *,
    witness: WitnessArbiter | None,
    tell: Tell,
) -> HandedOver:
    site, me = SiteFile(stores.settings.data), lines.me()
    standing = site.ensure()
    change(stores.database, standing.site_id, mode=target.mode)  # for the time after
    began_s = SYSTEM.monotonic_s()
    with _undone_if_it_fails(stores, server):
        switch.hold(stores.database, for_s=HOLD_S)
        tell("writes wait")
        time.sleep(switch.IN_FORCE_S)
        _wait_for_lag(stores, server, target)
        Standby(server).follow(
            _upstream_of(target, me=standing.site_id), credentials_of(stores.settings.data)
        )
        end = Standby(server).lag().replayed
        tell(f"the database follows that of {target.name}")
        _wait_until_come(lines, target, end)
        _wait_for_objects(stores, target)
        claim = Claim(standing.own.epoch + 1, target.id, target.name, target.url)
        # The last moment at which all can be undone: from now on the witness gives us no lease.
        if witness is not None:
            witness.hand_over(claim)
    site.learn(claim)
    tell(f"{target.name} has everything, and takes over")
    _wait_until_taken(lines, target, claim)
    paused_s = SYSTEM.monotonic_s() - began_s
    log.info("failover.handed_over", to=target.name, epoch=claim.epoch, paused_s=round(paused_s, 1))
    facts = Facts(epoch=claim.epoch, site=me.name if me else "", new_primary=target.name, is_planned=True)
    announce("demote", facts, traffic=traffic_of(stores.settings))
    return HandedOver(target.name, claim.epoch, paused_s)


@contextmanager
def _undone_if_it_fails(stores: Stores, server: Server) -> Iterator[None]:
    """Back to a primary that takes writes, whatever happened in the block."""
    try:
        yield
    except BaseException:
        log.warning("failover.undone")
        if server.is_in_recovery():
            Standby(server).promote()
        switch.release(stores.database)
        raise


def _wait_for_lag(stores: Stores, server: Server, target: Site) -> None:
    """Until the replica has nearly all that there is now, and every object."""
    until_s, stream = SYSTEM.monotonic_s() + LAG_S_MAX, stream_of(target.id)
    while True:
        follower = next((each for each in Primary(server).followers() if each.site == stream), None)
        behind = follower.replayed_behind_bytes if follower and follower.is_streaming else None
        if behind is not None and behind <= _LAST_BYTES and has_all_objects(stores, target.id):
            return
        if SYSTEM.monotonic_s() > until_s:
            raise NotReadyToHandOver(
                f"{target.name} did not catch up within {LAG_S_MAX:.0f} s, so all is as before"
            )
        time.sleep(_POLL_S)


def _wait_for_objects(stores: Stores, target: Site) -> None:
    """Nothing can commit any more: what is in the feed by now is all."""
    until_s = SYSTEM.monotonic_s() + LAG_S_MAX
    while not has_all_objects(stores, target.id):
        if SYSTEM.monotonic_s() > until_s:
            raise NotReadyToHandOver(f"{target.name} lacks objects: all is as before")
        time.sleep(_POLL_S)


def has_all_objects(stores: Stores, site_id: str) -> bool:
    """Whether the site has acknowledged our whole feed."""
    layout = Layout(stores.settings.data)
    feed = Feed(layout.feed)
    found = Positions(layout.sites).all().get(site_id)
    return found is not None and found.identity == feed.identity and found.position >= feed.end


def _upstream_of(target: Site, *, me: str) -> Upstream:
    host, _, port = target.database_address.rpartition(":")
    if not host:
        raise NotReadyToHandOver(f"{target.name} has no address for its database: add it again with --sites")
    return Upstream(host=host.strip("[]"), port=int(port), site=stream_of(me), name=stream_of(target.id))


def _wait_until_come(lines: Lines, target: Site, end: int) -> None:
    """Until the replica says that the last byte of our log is there."""
    until_s, there = SYSTEM.monotonic_s() + _COME_S_MAX, 0
    while there < end:
        if SYSTEM.monotonic_s() > until_s:
            raise NotReadyToHandOver(f"{target.name} lacks {end - there} bytes of the log: all is as before")
        time.sleep(_POLL_S)
        try:
            said = lines.to(target).facts().get("database")
        except MainstayError as away:
            log.debug("failover.target_silent", because=str(away))
            continue
        there = position(said) if isinstance(said, str) else there


def _wait_until_taken(lines: Lines, target: Site, claim: Claim) -> None:
    until_s = SYSTEM.monotonic_s() + _TAKEN_S_MAX
    while SYSTEM.monotonic_s() < until_s:
        try:
            facts = lines.to(target).facts()
            own = facts.get("epoch")
            if facts.get("role") == "primary" and isinstance(own, dict) and own.get("epoch") == claim.epoch:
                return
        except MainstayError as away:
            log.debug("failover.target_silent", because=str(away))
        time.sleep(_POLL_S)
    raise NotTaken(
        f"{target.name} does not say within {_TAKEN_S_MAX:.0f} s that it has taken over: look there, and give"
        " `mainstay promote` on one of the two"
    )
