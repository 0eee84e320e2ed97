"""Open what a node stands on: database, ledger, object store; and refuse a pair that does not belong together.

A database and an object store carry the same instance id. Mixing the database of one instance with the
objects of another would let the sweeper delete packs that the other database still names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mainstay.boot.settings import NodeSettings, as_text
from mainstay.foundation.settings import export_to_children
from mainstay.storage.database import Database, open_database
from mainstay.storage.ledger import Ledger
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects import ObjectStore, open_object_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The truth, opened."""

    settings: NodeSettings
    database: Database
    ledger: Ledger
    objects: ObjectStore


@contextmanager
def opened_stores(settings: NodeSettings) -> Iterator[Stores]:
    """Open the stores and close them at the end. Also exports the settings, so that Django sees the same."""
    export(settings)
    database = open_database(settings.database_url)
    try:
        yield Stores(
            settings=settings,
            database=database,
            ledger=SqlLedger(database),
            objects=open_object_store(settings.object_store),
        )
    finally:
        database.close()


def export(settings: NodeSettings) -> None:
    """Put the settings into the environment, where Django's settings and child processes look."""
    export_to_children("DATA", str(settings.data))
    for name, value in as_text(settings).items():
        export_to_children(name.upper(), value)
