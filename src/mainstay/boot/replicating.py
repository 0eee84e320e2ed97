"""What a primary does so that other sites can follow its database: a port, slots, and whom commits wait for.

`let_follow` and `look_with` are for the process that redeems tokens, `keep_up` for the process of the site.
"""

import os
import socket
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from mainstay import __version__
from mainstay.boot.inviting import CannotBeJoined
from mainstay.boot.layout import Layout
from mainstay.boot.managed_database import server_of
from mainstay.boot.membership import secrets_of
from mainstay.boot.parsing import Address
from mainstay.boot.settings import NodeSettings
from mainstay.boot.stores import Stores
from mainstay.cluster import schema
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.joining import look_at, seal_facts, sealing_key
from mainstay.cluster.sites.identity import SiteIdentity, server_name_of
from mainstay.cluster.sites.positions import Positions
from mainstay.cluster.sites.registry import NoSuchSite, Site, change, sites
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.ops.sites import waiting
from mainstay.ops.sites.preflight import PrimaryFacts, texts_of
from mainstay.provision.postgresql import Credentials, Follower, Listen, Primary, Server
from mainstay.provision.socket_url import OWNER
from mainstay.storage.database import Database
from mainstay.storage.database.fence import fence_of
from mainstay.storage.feed.log import Feed, FeedGone

log = get_logger()

LOOK: Final = "look"
"""What a machine says instead of who it is, when it only wants to know whether it could be a replica."""
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
_PADDING_BYTES: Final = 512 * 1024
_INDEX_SHARE: Final = 1.1
_RECORD_BYTES: Final = 2048
_NEAR_BYTES: Final = 64 * 1024
"""Of lines in the feed: some hundred objects."""
_VERSION_UNIT: Final = 10_000
_TOLD_S_MAX: Final = 2.0
_POLL_S: Final = 0.05
_NAMED_S_MAX: Final = 20.0
_FOLLOWED_S_MAX: Final = 20.0
"""A replica that runs is back long before."""
_REST: Final = "UPDATE cluster_site SET state = 'paused' WHERE name = %s AND state <> 'removed' RETURNING id"
_SIZES: Final = (
    "SELECT current_setting('server_version_num')::int,"
    " (SELECT sum(pg_database_size(oid)) FROM pg_database WHERE datallowconn)::bigint,"
    " (SELECT coalesce(sum(size_bytes), 0) FROM ledger_pack)::bigint,"
    " (SELECT count(*) FROM ledger_pack)::bigint, (SELECT count(*) FROM ledger_change)::bigint"
)


def check_managed(settings: NodeSettings) -> None:
    """Raises `CannotBeJoined` with the way out."""
    if not settings.database_is_managed:
        raise CannotBeJoined(
            "replicas follow a PostgreSQL that this node runs itself: `mainstay db move --to managed` moves"
            " the database there"
        )


def database_listen(settings: NodeSettings) -> Address:
    """Where PostgreSQL listens for other sites."""
    if settings.database_listen is not None:
        return settings.database_listen
    assert settings.sites is not None, "asked only where there are sites"
    return Address(settings.sites.host, settings.sites.port + 1)


def database_address(settings: NodeSettings) -> str:
    """Where other sites reach it; empty: they do not."""
    if settings.sites is None or not settings.database_is_managed:
        return ""
    listen = database_listen(settings)
    host = "" if listen.host in _EVERYWHERE else listen.host
    return str(Address(settings.node_address or host or socket.gethostname(), listen.port))


def stream_of(site_id: str) -> str:
    """What a site is called towards PostgreSQL: the common name of its certificate."""
    return server_name_of(site_id)


def credentials_of(data: Path) -> Credentials:
    """The certificate of the site, which has its key in the same file."""
    identity = SiteIdentity(data)
    return Credentials(
        certificate=identity.certificate_file,
        key=identity.certificate_file,
        authority=identity.authority_file,
    )


def open_to_sites(settings: NodeSettings, server: Server | None = None) -> None:
    """Let sites that are allowed in reach our PostgreSQL. The first time it is restarted, for seconds."""
    check_managed(settings)
    listen = database_listen(settings)
    Primary(server or server_of(settings.data)).open_for_replicas(
        Listen(host=listen.host, port=listen.port), credentials_of(settings.data)
    )


def let_follow(settings: NodeSettings, site_id: str) -> None:
    """Keep from now on what that site has not got yet, and let it in."""
    Primary(server_of(settings.data)).create_slot(stream_of(site_id))


def rest(settings: NodeSettings, name: str) -> str:
    """Let pushes go on without a site, which may be dead: what waits for it would wait for ever. Its id.

    The list says so before anybody stops waiting, and a site that is there gets to know it first; unless a
    commit that waits already has the row locked. Works with PostgreSQL alone, because nodes cannot even read
    while the only answer to their commits is silence.
    Raises `NoSuchSite`, `SiteFenced`.
    """
    fence_of(settings.data).check()
    server = server_of(settings.data)
    standing = SiteFile(settings.data).read()
    if standing is not None and standing.needs_lease:
        return _rest_by_lease(server, name)
    with nullcontext() if server.is_running() else server:
        primary = Primary(server)
        site_id = _rested(server, name)
        if site_id is None:
            stuck = stream_of(_id_of(server, name))
            primary.set_synchronous([each for each in server.wishes.synchronous if each != stuck])
            site_id = _rested(server, name)
        if site_id is None:
            raise ListLocked("the list of sites is locked by something else: try again")
        stream = stream_of(site_id)
        if stream in server.wishes.synchronous:
            until_s = SYSTEM.monotonic_s() + _TOLD_S_MAX
            while not _has_all(primary, stream) and SYSTEM.monotonic_s() < until_s:
                time.sleep(_POLL_S)
            primary.set_synchronous([each for each in server.wishes.synchronous if each != stream])
    log.info("replication.rested", site=name)
    return site_id


def _rest_by_lease(server: Server, name: str) -> str:
    """The process of the site first lets the witness name it no more; then commits stop waiting for it."""
    site_id = _rested(server, name)
    if site_id is None:
        raise ListLocked("the list of sites is locked by something else: try again")
    until_s = SYSTEM.monotonic_s() + _NAMED_S_MAX
    while stream_of(site_id) in server.wishes.synchronous:
        if SYSTEM.monotonic_s() > until_s:
            raise ListLocked(
                f"{name} is paused on the list, but commits still wait for it: the witness has not confirmed"
                " that it names it no more (`mainstay witness status`)"
            )
        time.sleep(_POLL_S)
    log.info("replication.rested", site=name)
    return site_id


def _rested(server: Server, name: str) -> str | None:
    """Its id; None: somebody has the row locked."""
    from psycopg import errors  # noqa: PLC0415 - a driver that only its users pay for

    with server.connected(OWNER) as connection:  # its commits wait for nobody
        connection.execute("SET lock_timeout = '2s'")
        try:
            row = connection.execute(_REST, (name,)).fetchone()
        except errors.LockNotAvailable:
            return None
    if row is None:
        raise _unknown(name)
    return str(row[0])


def _id_of(server: Server, name: str) -> str:
    found = "SELECT id FROM cluster_site WHERE name = %s AND state <> 'removed'"
    rows = server.rows(found, (name,), database=OWNER)
    if not rows:
        raise _unknown(name)
    return str(rows[0][0])


def _unknown(name: str) -> NoSuchSite:
    return NoSuchSite(f"there is no site {name!r}: `mainstay replica status` lists them")


def wait_for_confirmation(server: Server, *, within_s: float = _FOLLOWED_S_MAX) -> None:
    """Until all for whom commits wait follow us: before that nothing can be written, nor even read.

    Works with PostgreSQL alone, as `rest` does. Raises `NobodyConfirms` with the way out.
    """
    wanted = set(server.wishes.synchronous)
    until_s = SYSTEM.monotonic_s() + within_s
    while missing := wanted - {each.site for each in Primary(server).followers() if each.is_streaming}:
        if SYSTEM.monotonic_s() > until_s:
            rows = server.rows("SELECT id, name FROM cluster_site", database=OWNER)
            names = sorted(name for site_id, name in rows if stream_of(site_id) in missing)
            raise NobodyConfirms(
                f"commits wait for {', '.join(names)}, which does not follow {within_s:.0f} s after the start"
                " of the database: start that site, or let pushes go on without it by `mainstay replica pause"
                " NAME`"
            )
        time.sleep(_POLL_S)


class NobodyConfirms(Unavailable):
    """The synchronous replicas are away."""


class ListLocked(Unavailable):
    """Nobody could be told to rest."""


def _has_all(primary: Primary, stream: str) -> bool:
    return any(each.site == stream and each.flushed_behind_bytes == 0 for each in primary.followers())


def shut_out(settings: NodeSettings, site_id: str) -> None:
    Primary(server_of(settings.data)).drop_slot(stream_of(site_id))


# Before a machine is let in
def wants_look(said: object) -> bool:
    """Whether a machine only asks what it would need."""
    return isinstance(said, Mapping) and said.get(LOOK) is True


def look_with(stores: Stores, token_id: str, proof: str) -> str:
    """What we are, sealed by the token, which stays good; with bytes by which the line is measured."""
    secrets = secrets_of(stores)
    with stores.database.read() as tx:
        wrapping = look_at(tx, kind="replica", token_id=token_id, proof=proof)
    facts = {
        "facts": texts_of(primary_facts(stores)),
        "padding": b64encode(os.urandom(_PADDING_BYTES)).decode(),
    }
    return seal_facts(sealing_key(secrets, token_id, wrapping), token_id, facts)


def primary_facts(stores: Stores) -> PrimaryFacts:
    check_managed(stores.settings)
    release = schema.release_of(stores.database)
    assert release is not None, "a node that serves has tables"
    with stores.database.read() as tx:
        row = tx.row(_SIZES)
    assert row is not None, "a query without FROM has one row"
    version, database_bytes, pack_bytes, packs, changes = map(int, row)
    return PrimaryFacts(
        name=stores.settings.node_name or socket.gethostname().partition(".")[0],
        version=__version__,
        postgresql_major=version // _VERSION_UNIT,
        database_bytes=database_bytes,
        objects_bytes=round(pack_bytes * _INDEX_SHARE) + changes * _RECORD_BYTES,
        objects_items=3 * packs + changes,
        now_ms=SYSTEM.now_ms(),
        schema_current=release.current,
        schema_floor=release.floor,
        sites_address=str(stores.settings.sites),
        database_address=database_address(stores.settings),
    )


# While it is the primary
def keep_up(stores: Stores, server: Server) -> Sequence[Follower]:
    """Make what PostgreSQL does what the list of sites says. Idempotent; returns who follows."""
    me = SiteFile(stores.settings.data).ensure().site_id
    others = [site for site in sites(stores.database) if site.id != me]
    primary, wishes = Primary(server), server.wishes
    if others and wishes.listen is None:
        open_to_sites(stores.settings, server)
    wanted = {stream_of(site.id) for site in others}
    for stream in _droppable(stores.settings, set(wishes.sites) - wanted, wishes.synchronous):
        primary.drop_slot(stream)
    followers = {follower.site: follower for follower in primary.followers()}
    for stream in wanted - (followers.keys() & set(wishes.sites)):
        primary.create_slot(stream)
    _set_waiting(stores, primary, others, followers)
    return list(followers.values())


def _droppable(settings: NodeSettings, gone: set[str], waited_for: Sequence[str]) -> set[str]:
    """With a witness, what commits wait for is dropped only after the witness names it no more."""
    standing = SiteFile(settings.data).read()
    return gone - set(waited_for) if standing is not None and standing.needs_lease else gone


def _set_waiting(
    stores: Stores, primary: Primary, others: Sequence[Site], followers: Mapping[str, Follower]
) -> None:
    """With a witness it is the keeper of the lease that decides whom commits wait for."""
    standing = SiteFile(stores.settings.data).read()
    if standing is None or standing.needs_lease:
        return
    now = primary.server.wishes.synchronous
    with_objects = sites_with_objects(stores.settings)
    found = waiting.decide(
        [candidate(site, followers.get(stream_of(site.id)), with_objects) for site in others], now
    )
    if set(found.names) != set(now):
        primary.set_synchronous(found.names)
        log.info("replication.waiting_changed", names=list(found.names), because=found.because)
    for site in others:
        if site.state == "joining" and stream_of(site.id) in found.names:
            change(stores.database, site.id, state="active")  # from now on pushes wait for its objects, too


def candidate(site: Site, follower: Follower | None, with_objects: Mapping[str, bool]) -> waiting.Candidate:
    return waiting.Candidate(
        stream=stream_of(site.id),
        is_wanted=site.mode == "sync" and site.kind == "replica" and site.state in ("active", "joining"),
        is_streaming=follower is not None and follower.is_streaming,
        behind_bytes=follower.flushed_behind_bytes if follower else None,
        has_objects=with_objects.get(site.id, False),
    )


def sites_with_objects(settings: NodeSettings) -> Mapping[str, bool]:
    """Which sites have (nearly) all objects that our feed names."""
    layout = Layout(settings.data)
    feed = Feed(layout.feed)
    try:
        identity, end = feed.identity, feed.end
    except FeedGone:
        return {}
    return {
        site_id: found.identity == identity and end - found.position <= _NEAR_BYTES
        for site_id, found in Positions(layout.sites).all().items()
    }


def let_others_catch_up(database: Database, me: str, *, old_primary: str) -> None:
    """After a promotion nobody is waited for who has to compare everything with us first.

    A pair stays one: when the old primary comes back as a replica, it is to us what we were to it.
    """
    known = sites(database)
    was_synchronous = any(site.id == me and site.mode == "sync" for site in known)
    for site in known:
        if site.id != me and site.is_waited_for:
            change(database, site.id, state="joining")
        if site.name == old_primary and was_synchronous and site.mode != "sync":
            change(database, site.id, mode="sync", state="joining")


# What a replica is told every second
class Saying:
    """The last words that a replica would remember of us, kept up by the process of the site."""

    def __init__(self, stores: Stores, server: Server) -> None:
        self._stores = stores
        self._server = server
        self._last_push: dict[str, Any] | None = None
        self._history_of: tuple[int, int, Mapping[int, int]] | None = None

    def now(self) -> dict[str, Any]:
        """Raises `Unavailable`."""
        timeline, left_at = self._history()
        return {
            "wal": self._written(),
            "timeline": timeline,
            "forks": {str(each): at for each, at in left_at.items()},
            "waits_for": list(self._server.wishes.synchronous),
            "last_push": self._newest_push(),
            "at_ms": SYSTEM.now_ms(),
        }

    def _history(self) -> tuple[int, Mapping[int, int]]:
        """Asked once per epoch: only a promotion changes it."""
        standing = SiteFile(self._stores.settings.data).read()
        epoch = standing.own.epoch if standing else 0
        if self._history_of is None or self._history_of[0] != epoch:
            self._history_of = (epoch, Primary(self._server).timeline(), forks(self._server))
        return self._history_of[1:]

    def _written(self) -> int:
        with self._stores.database.read() as tx:
            row = tx.row("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
        assert row is not None, "a query without FROM has one row"
        return int(row[0])

    def _newest_push(self) -> dict[str, Any] | None:
        """By an index that has only what is not known to be in the journal; the newest ever seen counts."""
        with self._stores.database.read() as tx:
            row = tx.row(
                "SELECT repository_id, version, at_ms, push_id FROM ledger_change"
                " WHERE NOT journaled AND kind = 'push' ORDER BY at_ms DESC LIMIT 1"
            )
        if row is not None and (self._last_push is None or row[2] >= self._last_push["at_ms"]):
            names = ("repository_id", "version", "at_ms", "push_id")
            self._last_push = dict(zip(names, row, strict=True))
        return self._last_push


def forks(server: Server) -> dict[int, int]:
    """Timeline → where its history was left for the next one, for all before ours."""
    file = f"pg_wal/{Primary(server).timeline():08X}.history"
    row = server.ask("SELECT pg_read_file(%s, 0, 100000, true)", (file,))
    return forks_in(row[0] or "")


def forks_in(text: str) -> dict[int, int]:
    """From the text of PostgreSQL's history file: lines of timeline, position, reason."""
    found = {}
    for line in text.splitlines():
        parts = line.split("\t")
        if len(parts) >= 2 and parts[0].strip().isdigit():  # noqa: PLR2004 - a timeline and a position
            found[int(parts[0])] = position(parts[1])
    return found


def position(lsn: str) -> int:
    """`0/3000148` as a number of bytes."""
    high, _, low = lsn.strip().partition("/")
    return (int(high, 16) << 32) + int(low, 16)
