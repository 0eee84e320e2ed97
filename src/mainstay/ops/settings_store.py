"""Settings that belong to the instance, not to a node: they live in the database, so that nodes are equal."""

from collections.abc import Callable

from mainstay.storage.database import Database, Transaction

INSTANCE_ID = "instance_id"
PREPARED_FOR = "prepared_for"
"""Fingerprints of the programs whose tables and first start are done, the latest first."""

_TABLE_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'instance_setting'",
    "postgresql": "SELECT 1 WHERE to_regclass('instance_setting') IS NOT NULL",
}


def read(database: Database, key: str) -> str | None:
    """The value, or None when it was never set, or when there are no tables yet."""
    with database.read() as tx:
        if tx.row(_TABLE_EXISTS[tx.dialect]) is None:
            return None
        return value_of(tx, key)


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
        value = value_of(tx, key)
    assert value is not None
    return value


def update(database: Database, key: str, change: Callable[[str | None, Transaction], str]) -> str:
    """Put `change(value)` in the place of the value, and return it. Of two at once, one sees the other's."""
    with database.write() as tx:
        # Whoever changes the row has it to the end of the transaction; an empty one is nobody's value yet.
        (before,) = tx.rows(
            "INSERT INTO instance_setting (key, value) VALUES (?, '')"
            " ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING value",
            (key,),
        )[0]
        value = change(str(before) or None, tx)
        tx.execute("UPDATE instance_setting SET value = ? WHERE key = ?", (value, key))
    return value


def take_out(tx: Transaction, key: str) -> str | None:
    """The value, which is not kept any longer; None when there was none."""
    value = value_of(tx, key)
    tx.execute("DELETE FROM instance_setting WHERE key = ?", (key,))
    return value


def value_of(tx: Transaction, key: str) -> str | None:
    """The value, read in a transaction of the caller's."""
    row = tx.row("SELECT value FROM instance_setting WHERE key = ?", (key,))
    return None if row is None else str(row[0])
