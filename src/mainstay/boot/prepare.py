"""Everything about the truth that must hold before a node serves, done in a process of its own.

1. the tables fit this program, the instance has an id, `root` exists;
2. database and object store belong together.

Its own process, so that the parent of all servers stays small and never holds a database connection.
A later start finds step 1 done by one look at the database, without importing Django.
"""

import sys

import click

from mainstay.boot import child, first_start, setup_django
from mainstay.boot.exits import exit_code_of
from mainstay.boot.migrate import fingerprint, migrate, migration_lock
from mainstay.boot.settings import NodeSettings
from mainstay.boot.stores import Stores, opened_stores
from mainstay.foundation.errors import MainstayError
from mainstay.git.native.version import require_git
from mainstay.ops import settings_store


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
    """Idempotent; of several nodes that start at once, each finds the work of the others done."""
    wanted = fingerprint()
    if settings_store.read(stores.database, settings_store.PREPARED_FOR) != wanted:
        setup_django()
        with migration_lock():
            migrate()
            first_start.first_start(stores)
            settings_store.write(stores.database, settings_store.PREPARED_FOR, wanted)
    first_start.check_identity(stores)


def prepare_for(settings: NodeSettings) -> None:
    """The same for a command that needs tables without a node, such as `rebuild-db`."""
    with opened_stores(settings) as stores:
        prepare(stores)


if __name__ == "__main__":
    main()
