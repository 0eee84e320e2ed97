"""What the first start of an instance makes, and what every start checks.

A database has one master key. Of several machines that start on an empty one, the first makes the key and
is the cluster; the others lack it and are told to join. A machine that has it may start any time.
"""

from mainstay.boot.credentials import lend
from mainstay.boot.membership import SECRET_KEY, ensure_certificate, secrets_of
from mainstay.boot.stores import Stores
from mainstay.cluster.belonging import remember_instance, remembered_instance
from mainstay.cluster.keyring import KeyFile, KeyRing, MasterKeyMissing, key_file, new_key, write_keys
from mainstay.cluster.nodes import node_id
from mainstay.cluster.secrets import WrongMasterKey, found, insert_wrapped, master_key_id, reach_master
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Conflict
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.ops import settings_store
from mainstay.storage.identity import check_owner, read_marker, write_marker

log = get_logger()

_MOVED = {
    "secret_key": SECRET_KEY,
    "ssh_host_key/ssh-ed25519": "ssh_host_key/ssh-ed25519",
    "ssh_host_key/ssh-rsa": "ssh_host_key/ssh-rsa",
}
"""What version 0.1 kept in plain text among the settings, and where it is now."""


class NotAMember(Conflict):
    """The database has a master key, and this machine has none."""


class WrongDatabase(Conflict):
    """Data directory and database belong to different instances."""


def first_start(stores: Stores) -> None:
    """Give the instance its id, its master key and its first user. Needs the tables; does nothing twice."""
    from mainstay.product.accounts.first_start import (  # noqa: PLC0415 - needs `setup_django` first
        first_start as create_root,
    )

    check_database(stores)
    found_cluster(stores)
    settings_store.ensure(stores.database, settings_store.INSTANCE_ID, new_ulid)
    check_store(stores)
    _move_plain_secrets(stores)
    create_root(stores.settings.data)


def check_every_start(stores: Stores) -> None:
    """Refuse to run with the wrong key, the wrong database or the wrong store; renew what has run out."""
    check_member(stores)
    check_database(stores)
    check_store(stores)
    _remember_instance(stores)
    lend(stores.settings, secrets_of(stores))
    node_id(stores.settings.data)
    ensure_certificate(stores)


def check_replica(stores: Stores) -> None:
    """The same on a replica, which writes to no database. What is missing there comes from its primary."""
    check_member(stores)
    check_database(stores)
    marker = read_marker(stores.objects)
    if marker is not None:  # else it is on its way here with the other objects
        instance = settings_store.read(stores.database, settings_store.INSTANCE_ID)
        check_owner(marker, instance or "", is_new_database=False)
    _remember_instance(stores)
    node_id(stores.settings.data)
    ensure_certificate(stores)


def found_cluster(stores: Stores) -> None:
    """Give a database without a master key ours, made now unless there is one. Call under the lock."""
    data = stores.settings.data
    if master_key_id(stores.database) is None:
        try:
            keyring = KeyFile(data).read()
        except MasterKeyMissing:
            # File before database: a crash in between leaves a key that nothing needs yet.
            keyring = KeyRing([new_key()])
            write_keys(data, keyring)
        found(stores.database, keyring, now_ms=SYSTEM.now_ms())
        log.info("boot.cluster_founded", key_id=keyring.newest_id)
    check_member(stores)


def check_member(stores: Stores) -> None:
    """Refuse a machine that does not hold the master key of the database, once there is one."""
    data = stores.settings.data
    wanted = master_key_id(stores.database)
    if wanted is None:
        return
    try:
        reach_master(stores.database, KeyFile(data).read(), KeyFile(data))
    except MasterKeyMissing:
        raise NotAMember(
            f"the database belongs to a cluster whose master key is not in {key_file(data)}: let this"
            " machine in with `mainstay join URL --token TOKEN`; `mainstay node token` on a node of that"
            " cluster makes the token"
        ) from None
    except WrongMasterKey as error:
        raise WrongMasterKey(
            f"{error}: put the cluster's key back into {key_file(data)}, or let this machine in anew with"
            " `mainstay join URL --token TOKEN --force`"
        ) from error


def check_database(stores: Stores) -> None:
    """Refuse a database that is not the one this data directory was used with."""
    ours = remembered_instance(stores.settings.data)
    theirs = settings_store.read(stores.database, settings_store.INSTANCE_ID)
    if ours is None or ours == theirs:
        return
    if theirs is None:
        raise WrongDatabase(
            f"the database is empty, but this data directory belongs to instance {ours}: correct"
            " `database_url`, or, if the database was lost, run `mainstay rebuild-db`"
        )
    raise WrongDatabase(
        f"the database belongs to instance {theirs}, this data directory to {ours}: correct `database_url`,"
        " or choose another --data"
    )


def check_store(stores: Stores) -> None:
    """Refuse a database and an object store that belong to different instances.

    Mixing them would let the sweeper of one delete packs that the other still names. Until a first start
    has come to its end the database counts as new and may take an unmarked store.
    """
    instance = settings_store.read(stores.database, settings_store.INSTANCE_ID)
    assert instance is not None, "first_start has run"
    is_new = settings_store.read(stores.database, settings_store.PREPARED_FOR) is None
    marker = read_marker(stores.objects)
    check_owner(marker, instance, is_new_database=is_new)
    if marker is None:
        ours = write_marker(stores.objects, instance, clock=SYSTEM)
        check_owner(ours, instance, is_new_database=is_new)


def _move_plain_secrets(stores: Stores) -> None:
    """What an older version kept in plain text is wrapped, and the plain copy goes with the same commit."""
    ring = secrets_of(stores).ring
    with stores.database.write() as tx:
        for before, name in _MOVED.items():
            plain = settings_store.take_out(tx, before)
            if plain is not None:
                insert_wrapped(tx, name, ring.wrap(name, plain.encode()), now_ms=SYSTEM.now_ms())
                log.info("boot.secret_wrapped", name=name)


def _remember_instance(stores: Stores) -> None:
    data = stores.settings.data
    instance = settings_store.read(stores.database, settings_store.INSTANCE_ID)
    if instance is not None and remembered_instance(data) != instance:
        remember_instance(data, instance)
