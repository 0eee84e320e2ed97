"""What the site of this node is, kept ready in each process; and what a node finds out before it starts."""

from collections.abc import Iterator
from contextlib import contextmanager

from mainstay.boot.settings import NodeSettings
from mainstay.cluster.epochs.own import look_at
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.replay import measure_of
from mainstay.cluster.station import Station
from mainstay.foundation.clock import SYSTEM


def station_of(settings: NodeSettings) -> Station:
    """Not started yet."""
    url = settings.database_url
    return Station(
        SiteFile(settings.data), own=lambda: look_at(url), measure=lambda: measure_of(url), clock=SYSTEM
    )


@contextmanager
def stationed(settings: NodeSettings) -> Iterator[Station]:
    """For the length of the block."""
    station = station_of(settings)
    station.start()
    try:
        yield station
    finally:
        station.stop()


def settle_role(settings: NodeSettings) -> bool:
    """Note what the site's own database is at the start of a node; whether the site is a replica.

    Whatever was noted when the node last ran, somebody may have made a replica of it, or a primary, since.
    """
    site = SiteFile(settings.data)
    standing = site.read()
    if standing is None:
        return False
    look = look_at(settings.database_url)
    try:
        found = look()
    finally:
        look.close()
    if found is not None:
        standing = site.record(found.reign.claim, is_replica=found.in_recovery)
    return standing.follows
