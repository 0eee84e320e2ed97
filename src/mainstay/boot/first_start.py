"""What the first start of an instance makes, and what every start checks."""

from mainstay.boot.stores import Stores
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.ids import new_ulid
from mainstay.ops import settings_store
from mainstay.storage.identity import check_owner, read_marker, write_marker


def first_start(stores: Stores) -> None:
    """Give the instance its id, its secret key and its first user. Needs the tables; does nothing twice."""
    from mainstay.product.accounts.first_start import (  # noqa: PLC0415 - needs `setup_django` first
        first_start as create_root,
    )

    settings_store.ensure(stores.database, settings_store.INSTANCE_ID, new_ulid)
    check_identity(stores)
    settings_store.secret_key(stores.database)
    create_root(stores.settings.data)


def check_identity(stores: Stores) -> None:
    """Refuse a database and an object store that belong to different instances.

    Mixing them would let the sweeper of one delete packs that the other still names. Until a first start
    has come to its end the database counts as new and may take an unmarked store.
    """
    instance = settings_store.read(stores.database, settings_store.INSTANCE_ID)
    assert instance is not None, "first_start has run"
    is_new = settings_store.read(stores.database, settings_store.PREPARED_FOR) is None
    found = read_marker(stores.objects)
    check_owner(found, instance, is_new_database=is_new)
    if found is None:
        ours = write_marker(stores.objects, instance, clock=SYSTEM)
        check_owner(ours, instance, is_new_database=is_new)
