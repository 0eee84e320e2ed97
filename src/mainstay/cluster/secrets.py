"""Secrets that all nodes share: in the database, each wrapped by the master key.

A copy of the database alone gives nobody the SSH host keys, and a machine that joins learns all of them by
one key. The row `master` says which master key the database has. A new one is handed on through the
database: it is kept there wrapped by the key before it, so that a node that holds any key of the line finds
the newest by itself.

Not here: which secrets there are. Each room names its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mainstay.cluster.keyring import KeyFile, KeyRing, KeyStore, key_id_in
from mainstay.cluster.shelf import Shelf
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database, Transaction

log = get_logger()

MASTER: Final = "master"
"""The row that says which master key the database has. What it wraps means nothing."""
SUCCESSOR: Final = "master/after/"
"""Before the id of a key: the next one, wrapped by it."""
AUTHORITY: Final = "tls/authority"
"""The CA of the cluster: certificate and key. Its age tells one CA from the next."""

_TABLE_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'cluster_secret'",
    "postgresql": "SELECT 1 WHERE to_regclass('cluster_secret') IS NOT NULL",
}
_HAND_OVERS_MAX = 64


class WrongMasterKey(Conflict):
    """The keys of this data directory are not those of the database."""


@dataclass(frozen=True, slots=True)
class SecretFact:
    """What may be shown of a secret."""

    name: str
    key_id: str
    """Of the master key that wraps it."""
    created_ms: int


class Secrets:
    """Texts that all nodes share, by name. Blocks. Safe for use from several threads."""

    def __init__(
        self, database: Database, keys: KeyStore, clock: Clock, *, shelf: Shelf | None = None
    ) -> None:
        """With a `shelf`, what was read once can be read while the database is away."""
        self._database = database
        self._keys = keys
        self._clock = clock
        self._shelf = shelf
        self._ring: KeyRing | None = None

    @property
    def ring(self) -> KeyRing:
        """The keys as last seen."""
        if self._ring is None:
            self._ring = self._keys.read()
        return self._ring

    def get(self, name: str) -> str | None:
        """None when there is none, or no tables yet."""
        wrapped = self._wrapped(name)
        return None if wrapped is None else self._opened(name, wrapped)

    def put_if_absent(self, name: str, value: str) -> str:
        """Keep `value` unless there is one; return the one that is kept. Two nodes get the same answer."""
        return self.ensure(name, lambda: value)

    def ensure(self, name: str, make: Callable[[], str]) -> str:
        """The secret; made and kept when it is not there yet."""
        kept = self.get(name)
        if kept is not None:
            return kept
        wrapped = self.ring.wrap(name, make().encode())
        with self._database.write() as tx:
            insert_wrapped(tx, name, wrapped, now_ms=self._clock.now_ms())
            found = wrapped_in(tx, name)
        assert found is not None, "inserted, or there before"
        self._remember(name, found)
        return self._opened(name, found)

    def put(self, name: str, value: str) -> None:
        """Keep `value` in the place of what there was."""
        wrapped = self.ring.wrap(name, value.encode())
        with self._database.write() as tx:
            replace_wrapped(tx, name, wrapped, now_ms=self._clock.now_ms())

    def names(self) -> list[SecretFact]:
        with self._database.read() as tx:
            rows = tx.rows("SELECT name, key_id, created_ms FROM cluster_secret ORDER BY name")
        return [SecretFact(str(name), str(key_id), int(at_ms)) for name, key_id, at_ms in rows]

    def created_ms(self, name: str) -> int | None:
        """When it was made; None when there is none. Needs no master key."""
        with self._database.read() as tx:
            row = tx.row("SELECT created_ms FROM cluster_secret WHERE name = ?", (name,))
        return None if row is None else int(row[0])

    def refresh(self) -> KeyRing:
        """Find the master key of the database by those we hold, and keep it. Raises `WrongMasterKey`."""
        self._ring = reach_master(self._database, self._keys.read(), self._keys)
        return self._ring

    def wrap(self, name: str, plain: bytes) -> str:
        """For rows of other tables that the key ring wraps, too."""
        return self.ring.wrap(name, plain)

    def unwrap(self, name: str, wrapped: str) -> bytes:
        """The inverse; a newer master key is picked up on the way."""
        if key_id_in(wrapped) not in self.ring.ids:
            self.refresh()
        return self.ring.unwrap(name, wrapped)

    def _wrapped(self, name: str) -> str | None:
        """As it is in the database, or was when it was last seen there."""
        try:
            with self._database.read() as tx:
                wrapped = wrapped_in(tx, name) if tx.row(_TABLE_EXISTS[tx.dialect]) else None
        except Unavailable:
            remembered = self._shelf.read(name) if self._shelf else None
            if remembered is None:
                raise
            log.warning("cluster.secret_remembered", name=name)
            return remembered
        if wrapped is not None:
            self._remember(name, wrapped)
        return wrapped

    def _remember(self, name: str, wrapped: str) -> None:
        if self._shelf is not None:
            self._shelf.keep(name, wrapped)

    def _opened(self, name: str, wrapped: str) -> str:
        return self.unwrap(name, wrapped).decode()


def master_key_id(database: Database) -> str | None:
    """Which master key the database has; None before the first start. Needs the tables."""
    with database.read() as tx:
        row = tx.row("SELECT key_id FROM cluster_secret WHERE name = ?", (MASTER,))
    return None if row is None else str(row[0])


def found(database: Database, keyring: KeyRing, *, now_ms: int) -> str:
    """Make `keyring`'s newest the master key of a database that has none; return the id of the one it has."""
    with database.write() as tx:
        insert_wrapped(tx, MASTER, keyring.wrap(MASTER, b"founded"), now_ms=now_ms)
        row = tx.row("SELECT key_id FROM cluster_secret WHERE name = ?", (MASTER,))
    assert row is not None, "inserted, or there before"
    return str(row[0])


def reach_master(database: Database, keyring: KeyRing, keys: KeyStore) -> KeyRing:
    """Our keys headed by the master key of the database, which may have been handed on since.

    Raises `WrongMasterKey` when no key of ours leads to it.
    """
    wanted = master_key_id(database)
    if wanted is None or wanted == keyring.newest_id:
        return keyring
    if wanted not in keyring.ids:
        keyring = _handed_on(database, keyring, wanted)
        log.info("cluster.master_key_picked_up", key_id=wanted)
    reached = keyring.headed_by_id(wanted)
    keys.write(reached)
    return reached


def _handed_on(database: Database, keyring: KeyRing, wanted: str) -> KeyRing:
    """Follow the line of keys from any that we hold to the one that is wanted."""
    with database.read() as tx:
        rows = tx.rows("SELECT name, wrapped FROM cluster_secret WHERE name LIKE ?", (f"{SUCCESSOR}%",))
    after = {str(name).removeprefix(SUCCESSOR): str(wrapped) for name, wrapped in rows}
    for _ in range(_HAND_OVERS_MAX):
        if wanted in keyring.ids:
            return keyring
        link = next((key_id for key_id in keyring.ids if key_id in after), None)
        if link is None:
            break
        keyring = keyring.headed_by(keyring.unwrap(f"{SUCCESSOR}{link}", after.pop(link)))
    raise WrongMasterKey(f"the database has master key {wanted}, this node has {', '.join(keyring.ids)}")


def secrets_in(database: Database, data: Path, clock: Clock) -> Secrets:
    """The shared secrets, readable with the master keys in this data directory."""
    return Secrets(database, KeyFile(data), clock, shelf=Shelf(data / "keys" / "remembered"))


def wrapped_in(tx: Transaction, name: str) -> str | None:
    row = tx.row("SELECT wrapped FROM cluster_secret WHERE name = ?", (name,))
    return None if row is None else str(row[0])


def insert_wrapped(tx: Transaction, name: str, wrapped: str, *, now_ms: int) -> None:
    """Nothing happens when the name is taken."""
    tx.execute(
        "INSERT INTO cluster_secret (name, wrapped, key_id, created_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO NOTHING",
        (name, wrapped, key_id_in(wrapped), now_ms),
    )


def replace_wrapped(tx: Transaction, name: str, wrapped: str, *, now_ms: int) -> None:
    tx.execute(
        "INSERT INTO cluster_secret (name, wrapped, key_id, created_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET wrapped = excluded.wrapped, key_id = excluded.key_id,"
        " created_ms = excluded.created_ms",
        (name, wrapped, key_id_in(wrapped), now_ms),
    )
