"""Sites: the first token makes a node the primary of its own, and whoever shows one gets a bundle."""

import socket
from collections.abc import Mapping
from typing import Final

from mainstay.boot.addresses import http_url
from mainstay.boot.inviting import CannotBeJoined, shared_settings
from mainstay.boot.membership import ensure_certificate, secrets_of
from mainstay.boot.parsing import MANAGED, Address
from mainstay.boot.replicating import (
    check_managed,
    database_address,
    let_follow,
    look_with,
    open_to_sites,
    wants_look,
)
from mainstay.boot.settings import NodeSettings
from mainstay.boot.stores import Stores
from mainstay.cluster.epochs.raising import found_site
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.joining import Bundle, MadeToken, make_token
from mainstay.cluster.sites.admission import admit, enlist, site_asked
from mainstay.cluster.sites.identity import SiteIdentity
from mainstay.cluster.sites.registry import NoSuchSite, Site, change, site_by
from mainstay.doors.joining.app import Admit
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.ops import settings_store
from mainstay.storage.database import Database
from mainstay.storage.database.opening import open_database
from mainstay.storage.objects.location import DirectoryLocation, parse_location

log = get_logger()

_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


def check_replicable(settings: NodeSettings) -> None:
    """Raises `CannotBeJoined` with the way out."""
    if settings.database_url.startswith("sqlite:"):
        raise CannotBeJoined(
            "the database is SQLite, which nothing follows: move to PostgreSQL first (`mainstay db move`),"
            " then replicas can be added"
        )
    if settings.sites is None:
        raise CannotBeJoined(
            "other sites do not reach this node: set `sites` to HOST:PORT, then replicas can be added"
        )


def new_replica_token(stores: Stores, *, by: str, ttl_ms: int) -> MadeToken:
    """A token that lets one site in. The first makes this one the primary. Raises `CannotBeJoined`."""
    check_replicable(stores.settings)
    check_managed(stores.settings)
    ensure_primary(stores)
    open_to_sites(stores.settings)
    return make_token(stores.database, secrets_of(stores), by=by, ttl_ms=ttl_ms, kind="replica")


def ensure_primary(stores: Stores) -> Site:
    """Give this site an identity, the first epoch, a place on the list, and certificates. Idempotent."""
    settings = stores.settings
    name, url = site_name(settings), http_url(settings)
    unfenced = open_database(settings.database_url)
    try:
        site = SiteFile(settings.data)
        found_site(site, unfenced, stores.objects, name=name, url=url, clock=SYSTEM)
        standing = site.ensure()
    finally:
        unfenced.close()
    me = Site(
        id=standing.site_id,
        name=name,
        sites_address=sites_address(settings),
        database_address=database_address(settings),
        url=url,
    )
    ensure_certificate(stores)  # which has the name of the site from now on
    return _ensure_listed(stores, me)


def _ensure_listed(stores: Stores, me: Site) -> Site:
    identity = SiteIdentity(stores.settings.data)
    listed = _listed(stores, me.id)
    same = listed is not None and _addresses(listed) == _addresses(me)
    if not same or identity.is_due(now_ms=SYSTEM.now_ms()):
        identity.keep(enlist(stores.database, secrets_of(stores), me, clock=SYSTEM))
    return site_by(stores.database, me.id)


def _addresses(site: Site) -> tuple[str, str, str]:
    return site.sites_address, site.database_address, site.url


def _listed(stores: Stores, site_id: str) -> Site | None:
    try:
        return site_by(stores.database, site_id)
    except NoSuchSite:
        return None


def admit_site(stores: Stores) -> Admit:
    """Lets a site in, for the door of joining."""

    def let_in(token_id: str, proof: str, address: str, said: object) -> str:
        check_replicable(stores.settings)
        if wants_look(said):
            return look_with(stores, token_id, proof)
        asked = site_asked(said)
        was_waited_for = is_waited_for(stores.database, asked.id)
        sealed = admit(
            stores.database,
            secrets_of(stores),
            _bundle(stores),
            asked,
            token_id=token_id,
            proof=proof,
            at=address,
            clock=SYSTEM,
        )
        if asked.mode == "sync" and not was_waited_for:
            change(stores.database, asked.id, state="joining")  # pushes do not wait for a copy
        let_follow(stores.settings, asked.id)
        return sealed

    return let_in


def is_waited_for(database: Database, site_id: str) -> bool:
    """Whether pushes wait for that site already."""
    try:
        return site_by(database, site_id).is_waited_for
    except NoSuchSite:
        return False


def replica_settings(settings: NodeSettings) -> Mapping[str, str]:
    """What a replica takes over. Its database and its directory of objects are its own."""
    shared = {**shared_settings(settings), "database_url": MANAGED}
    if isinstance(parse_location(settings.object_store), DirectoryLocation):
        del shared["object_store"]
    return shared


def site_name(settings: NodeSettings) -> str:
    """What people call this site."""
    return settings.node_name or socket.gethostname().partition(".")[0]


def sites_address(settings: NodeSettings) -> str:
    """Where other sites reach this one; empty: they do not."""
    if settings.sites is None:
        return ""
    listened = "" if settings.sites.host in _EVERYWHERE else settings.sites.host
    return str(Address(settings.node_address or listened or socket.gethostname(), settings.sites.port))


def _bundle(stores: Stores) -> Bundle:
    instance = settings_store.read(stores.database, settings_store.INSTANCE_ID)
    standing = SiteFile(stores.settings.data).read()
    if instance is None or standing is None:
        raise Unavailable("the first start of this node has not come to its end, or it belongs to no site")
    primary = site_by(stores.database, standing.site_id)
    facts = {
        "primary_id": primary.id,
        "primary_name": primary.name,
        "primary_sites_address": primary.sites_address,
        "primary_database_address": primary.database_address,
        "primary_url": primary.url,
    }
    keyring = secrets_of(stores).refresh()
    return Bundle(instance, keyring, replica_settings(stores.settings), facts)
