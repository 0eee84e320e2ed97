"""Open what a node stands on: database, ledger, object store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mainstay.boot.credentials import borrow
from mainstay.boot.hinting import hints_of
from mainstay.boot.layout import Layout
from mainstay.boot.settings import NodeSettings, as_text
from mainstay.cluster.hints import Hints
from mainstay.cluster.sites.followers import SiteFollowers
from mainstay.cluster.sites.identity import site_id_in
from mainstay.cluster.sites.positions import Positions
from mainstay.cluster.sites.registry import site_by
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import NotFound, Unavailable
from mainstay.foundation.settings import export_to_children
from mainstay.provision.postgresql.places import Places
from mainstay.provision.postgresql.wishes import read_wishes
from mainstay.storage.database import Database
from mainstay.storage.database.fence import fence_of
from mainstay.storage.database.opening import open_database
from mainstay.storage.feed.log import Feed
from mainstay.storage.feed.store import FedStore
from mainstay.storage.followers import NO_FOLLOWERS, Followers
from mainstay.storage.ledger import Ledger
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects import ObjectStore
from mainstay.storage.objects.opening import open_object_store

_BEGIN_HOLD_S_MAX = 45.0
"""Under the minute after which proxies give an answer up that does not begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The truth, opened."""

    settings: NodeSettings
    database: Database
    ledger: Ledger
    objects: ObjectStore
    followers: Followers = NO_FOLLOWERS
    """Who must have an object before it counts."""
    hints: Hints
    """For who commits something that workers should hear of."""


@contextmanager
def opened_stores(settings: NodeSettings) -> Iterator[Stores]:
    """Open the stores and close them at the end. Also exports the settings, so that Django sees the same."""
    export(settings)
    database = open_database(settings.database_url, fence=fence_of(settings.data))
    hints = hints_of(settings)
    feed = feed_of(settings)
    followers: Followers = NO_FOLLOWERS
    try:
        borrow(settings, database)
        objects = FedStore(open_object_store(settings.object_store), feed, clock=SYSTEM)
        if feed is not None:
            followers = followers_of(settings, database, objects, feed)
        yield Stores(
            settings=settings,
            database=database,
            ledger=SqlLedger(database, SYSTEM, tell=hints.tell),
            objects=objects,
            followers=followers,
            hints=hints,
        )
    finally:
        hints.close()
        database.close()


def feed_of(settings: NodeSettings) -> Feed | None:
    """The feed of this node; None where nobody would read it."""
    feed = Feed(Layout(settings.data).feed)
    return feed if settings.sites and feed.has_begun else None


def followers_of(settings: NodeSettings, database: Database, objects: FedStore, feed: Feed) -> Followers:
    """The sites that a push waits for: those that the commits of the database wait for, too."""
    layout = Layout(settings.data)
    wishes = Places(layout.database).wishes

    def waited_for() -> list[str]:
        found = [site_id_in(stream) for stream in read_wishes(wishes).synchronous]
        return [site_id for site_id in found if site_id is not None]

    def name_of(site_id: str) -> str:
        try:
            return site_by(database, site_id).name
        except (NotFound, Unavailable):
            return site_id

    return SiteFollowers(
        objects, feed, Positions(layout.sites), waited_for=waited_for, name_of=name_of, clock=SYSTEM
    )


def hold_s(settings: NodeSettings) -> float:
    """How long a push waits for its database. A file on this machine does not come back by waiting."""
    return 0.0 if settings.database_url.startswith("sqlite:") else float(settings.push_hold_seconds)


def begin_hold_s(settings: NodeSettings) -> float:
    """How long a request waits at its beginning, where nothing can be said to the client meanwhile."""
    return min(hold_s(settings), _BEGIN_HOLD_S_MAX)


def export(settings: NodeSettings) -> None:
    """Put the settings into the environment, where Django's settings and child processes look."""
    export_to_children("DATA", str(settings.data))
    for name, value in as_text(settings).items():
        export_to_children(name.upper(), value)
