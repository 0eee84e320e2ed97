"""Bring the tables to what this program needs. Safe to run twice, and on many nodes at the same time.

One at a time does the work: a file lock for SQLite (which lives on one machine), an advisory lock of the
database for PostgreSQL, held by a transaction, so that a pooler in between does not lose it. Who comes
second finds nothing left to do.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import mainstay
from mainstay.cluster import nodes, schema
from mainstay.cluster.schema import Migrate, Refuse, RunOn, SchemaTooNew
from mainstay.foundation.errors import Conflict
from mainstay.foundation.file_locks import held
from mainstay.foundation.settings import data_directory
from mainstay.ops import settings_store
from mainstay.storage.database import Database

_LOCK_NUMBER = 0x6D61696E73746179
"""`mainstay` in ASCII: any number will do as long as nobody else takes it."""
_LOCK_S_MAX = 3600
"""After this a holder that is frozen loses the lock, and who waits for it gives up."""
_PREPARED_KEPT = 8
_LOCK_EVERY_S = 0.2
RELEASE_FACT = "schema_release"
"""Under this name each node tells the others what its program knows."""


class OlderNodesLive(Conflict):
    """A migration would pull the tables away under running nodes."""


class PrimaryIsOlder(Conflict):
    """The program of a replica needs tables that its primary does not make yet."""


def fingerprint() -> str:
    """Changes whenever there may be something to migrate. Cheap: Django is not imported for it."""
    from django import VERSION  # noqa: PLC0415 - only the number

    house = Path(mainstay.__file__).parent
    settings = (house / "boot" / "django_settings.py").read_bytes()
    names = sorted(str(file.relative_to(house)) for file in house.glob("**/migrations/*.py"))
    facts = "\n".join([mainstay.__version__, str(VERSION), *names]).encode()
    return sha256(facts + settings).hexdigest()


def is_prepared(database: Database) -> bool:
    """Whether this program can serve from the tables as they are. Raises `SchemaTooNew`.

    Tables of a later release that still carry this program are fine; programs of one release that differ
    in detail (Django's tables, say) have each been here once.
    """
    prepared = settings_store.read(database, settings_store.PREPARED_FOR)
    tables = schema.release_of(database)
    decision = schema.decide(tables)
    if isinstance(decision, Refuse):
        raise SchemaTooNew(decision.because)
    if prepared is None or isinstance(decision, Migrate):
        return False
    assert tables is not None, "without a release there is something to migrate"
    return tables.current > schema.CURRENT or fingerprint() in prepared.split()


def is_carried(database: Database) -> bool:
    """Whether this program can serve from tables that are not its own to change."""
    return isinstance(schema.decide(schema.release_of(database)), RunOn)


def check_carried(database: Database) -> None:
    """On a replica: refuse tables that this program cannot serve from. It changes nothing there."""
    decision = schema.decide(schema.release_of(database))
    if isinstance(decision, Refuse):
        raise SchemaTooNew(decision.because)
    if isinstance(decision, Migrate):
        raise PrimaryIsOlder(
            f"{decision.because}, and they are the primary's to change: upgrade the primary first, then its"
            " replicas"
        )


def note_prepared(database: Database) -> None:
    """Remember that this program has done its migrations and its first start."""
    before = (settings_store.read(database, settings_store.PREPARED_FOR) or "").split()
    ours = fingerprint()
    kept = [ours, *(each for each in before if each != ours)][:_PREPARED_KEPT]
    settings_store.write(database, settings_store.PREPARED_FOR, " ".join(kept))


@contextmanager
def migration_lock(database: Database) -> Iterator[None]:
    """Hold the lock of the database. Waits for whoever holds it, and for a long migration of theirs."""
    if database.dialect == "sqlite":
        with held(data_directory() / "run" / "migrate.lock"):
            yield
        return
    with database.write() as tx:
        for limit in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            tx.execute(f"SET LOCAL {limit} = '{_LOCK_S_MAX}s'")
        # Asked again and again, because nobody waits for ever for one answer of the database.
        while tx.row("SELECT pg_try_advisory_xact_lock(?)", (_LOCK_NUMBER,)) != (True,):
            time.sleep(_LOCK_EVERY_S)
        yield


def migrate(database: Database) -> None:
    """Apply what is missing, unless the tables are of a later release. Call within `migration_lock`."""
    from django.core.management import call_command  # noqa: PLC0415 - needs `setup_django` first

    tables = schema.release_of(database)
    decision = schema.decide(tables)
    if isinstance(decision, Refuse):
        raise SchemaTooNew(decision.because)
    if isinstance(decision, RunOn) and tables is not None and tables.current > schema.CURRENT:
        return
    if tables is not None and tables.floor < schema.FLOOR:
        _refuse_while_older_nodes_live(database)
    _let_it_take_its_time()
    call_command("migrate", interactive=False, verbosity=0)
    schema.record(database)


def _let_it_take_its_time() -> None:
    """Between two statements of a migration there may be long work."""
    from django.db import connection  # noqa: PLC0415 - needs `setup_django` first

    from mainstay.storage.database.orm.base import DatabaseWrapper  # noqa: PLC0415 - same

    if isinstance(connection, DatabaseWrapper):
        connection.rest_ms = _LOCK_S_MAX * 1000


def _refuse_while_older_nodes_live(database: Database) -> None:
    """What the new floor takes away, a node of an older release still uses."""
    older = [
        node.name for node in nodes.live_nodes(database) if node.facts.get(RELEASE_FACT, 1) < schema.FLOOR
    ]
    if older:
        raise OlderNodesLive(
            f"nodes {', '.join(older)} run a program of a schema release before {schema.FLOOR}, which the"
            " migration would break: bring all nodes to the release before this one first"
        )
