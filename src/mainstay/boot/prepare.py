"""Everything about the truth that must hold before a node serves, done in a process of its own.

1. the tables carry this program (`cluster.schema`), the instance has an id, `root` exists;
2. this machine is a member: it holds the master key of the database;
3. database, object store and data directory belong together.

On a replica the tables are the primary's, who alone changes them; what is looked at is the same. So it is on
a primary of which the other sites say that it is one no more.

Its own process, so that the parent of all servers stays small and never holds a database connection.
A later start finds step 1 done by one look at the database, without importing Django.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mainstay.boot import child, first_start, setup_django
from mainstay.boot.exits import exit_code_of
from mainstay.boot.managed_database import server_of
from mainstay.boot.migrate import check_carried, is_prepared, migrate, migration_lock, note_prepared
from mainstay.boot.settings import NodeSettings
from mainstay.boot.station import settle_role
from mainstay.boot.stores import Stores, opened_stores
from mainstay.cluster import schema
from mainstay.cluster.epochs.site import SiteFile
from mainstay.foundation.errors import MainstayError
from mainstay.git.native.version import require_git
from mainstay.storage.database.fence import refusal_for

if TYPE_CHECKING:
    from mainstay.cluster.witness.keeping import Keeper


def main() -> None:
    """Prepare, or say in one sentence why not. The sentence goes to the terminal: somebody waits for it."""
    try:
        settings = child.begin("prepare")
        require_git()
        with opened_stores(settings) as stores:
            prepare(stores)
    except MainstayError as error:
        click.echo(f"mainstay: {error}", err=True)
        sys.exit(exit_code_of(error))


def prepare(stores: Stores) -> None:
    """Idempotent; of several processes of one machine at once, each finds the work of the others done."""
    if settle_role(stores.settings) or _has_heard_of_a_promotion(stores):
        _check_only(stores)
        return
    with _leased(stores) as keeper:
        if _is_superseded(stores):  # which the witness knew
            _check_only(stores)
        else:
            _wait_for_replicas(stores, keeper)
            _prepare_truth(stores)


def _check_only(stores: Stores) -> None:
    """What is not the primary changes nothing."""
    check_carried(stores.database)
    first_start.check_replica(stores)


def _prepare_truth(stores: Stores) -> None:
    if not is_prepared(stores.database):
        setup_django()
        with migration_lock(stores.database):
            _refuse_strangers(stores)
            migrate(stores.database)
            first_start.first_start(stores)
            note_prepared(stores.database)
    first_start.check_every_start(stores)


def _wait_for_replicas(stores: Stores, keeper: "Keeper | None") -> None:
    """A synchronous one has to follow before anything is written; with a witness we may go on without it."""
    if not stores.settings.database_is_managed or SiteFile(stores.settings.data).read() is None:
        return
    from mainstay.boot import leading, replicating  # noqa: PLC0415 - only who has sites pays

    try:
        replicating.wait_for_confirmation(server_of(stores.settings.data))
    except replicating.NobodyConfirms as away:
        if keeper is None or not leading.go_on_alone(stores, keeper, because=str(away)):
            raise


@contextmanager
def _leased(stores: Stores) -> Iterator["Keeper | None"]:
    """With automatic failover even the first write needs the witness, or the replica's word."""
    site = SiteFile(stores.settings.data).read()
    if site is None or not site.needs_lease:
        yield None
        return
    from mainstay.boot.leading import leased  # noqa: PLC0415 - only who has sites pays

    with leased(stores, site) as keeper:
        yield keeper


def _has_heard_of_a_promotion(stores: Stores) -> bool:
    """Whether another site was promoted meanwhile: an old primary that comes back asks before it writes."""
    if SiteFile(stores.settings.data).read() is None or stores.settings.sites is None:
        return False
    from mainstay.boot.site_process import ask_others  # noqa: PLC0415 - only who has sites pays

    ask_others(stores)
    return _is_superseded(stores)


def _is_superseded(stores: Stores) -> bool:
    """By what was heard; then nobody is waited for any more."""
    refused = refusal_for(SiteFile(stores.settings.data).read(), None, boot="", now_s=0.0)
    if refused is None or not refused.is_final:
        return False
    if stores.settings.database_is_managed:
        from mainstay.boot.site_process import stand_down  # noqa: PLC0415 - same

        stand_down(server_of(stores.settings.data))
    return True


def _refuse_strangers(stores: Stores) -> None:
    """Before anything is migrated: a machine that is no member changes nothing."""
    if schema.release_of(stores.database) is not None:
        first_start.check_member(stores)
        first_start.check_database(stores)


def prepare_for(settings: NodeSettings) -> None:
    """The same for a command that needs tables without a node, such as `rebuild-db`."""
    with opened_stores(settings) as stores:
        prepare(stores)


if __name__ == "__main__":
    main()
