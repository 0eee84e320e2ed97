"""Settings that belong to the instance, not to a node: they live in the database, so that nodes are equal."""

import secrets
from collections.abc import Callable

from mainstay.storage.database import Database, Transaction

SECRET_KEY = "secret_key"  # noqa: S105 - the name of the setting, not its value
INSTANCE_ID = "instance_id"
PREPARED_FOR = "prepared_for"
"""Fingerprint of the program version whose tables and first start are done."""

_TABLE_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'instance_setting'",
    "postgresql": "SELECT 1 WHERE to_regclass('instance_setting') IS NOT NULL",
}


def read(database: Database, key: str) -> str | None:
    """The value, or None when it was never set, or when there are no tables yet."""
    with database.read() as tx:
        if tx.row(_TABLE_EXISTS[tx.dialect]) is None:
            return None
        return _value_of(tx, key)


def write(database: Database, key: str, value: str) -> None:
    with database.write() as tx:
        tx.execute(
            "INSERT INTO instance_setting (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )


def ensure(database: Database, key: str, make: Callable[[], str]) -> str:
    """The value; made and kept when it is not there. Of two nodes at once both get the one that was first."""
    with database.write() as tx:
        tx.execute(
            "INSERT INTO instance_setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
            (key, make()),
        )
        value = _value_of(tx, key)
    assert value is not None
    return value


def secret_key(database: Database) -> str:
    """What signs sessions and links; made once per instance."""
    return ensure(database, SECRET_KEY, lambda: secrets.token_urlsafe(48))


def _value_of(tx: Transaction, key: str) -> str | None:
    row = tx.row("SELECT value FROM instance_setting WHERE key = ?", (key,))
    return None if row is None else str(row[0])


class InstanceSettings:
    """The same as an object, for rooms below that keep something for the whole installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> str | None:
        return read(self._database, name)

    def put_if_absent(self, name: str, value: str) -> str:
        return ensure(self._database, name, lambda: value)
