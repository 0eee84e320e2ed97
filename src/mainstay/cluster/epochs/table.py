"""The epoch in the database: one row, which the replicas of the database get with everything else.

Whoever writes here uses a database without a fence: it is the epoch that the fence asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mainstay.cluster.epochs import Superseded
from mainstay.storage.database import Database, Transaction
from mainstay.storage.database.fence import Claim

_ROW: Final = 1
_COLUMNS: Final = "epoch, site_id, site_name, site_url, since_ms"
_READ: Final = f"SELECT {_COLUMNS} FROM cluster_epoch WHERE id = ?"  # noqa: S608 - two constants


@dataclass(frozen=True, slots=True)
class Reign:
    """An epoch, whose it is, and since when."""

    claim: Claim
    since_ms: int = 0

    @property
    def epoch(self) -> int:
        return self.claim.epoch


NOBODYS: Final = Reign(Claim())
"""Before there are sites: epoch 0."""


def epoch_of(database: Database) -> Reign:
    """What the database says, in one query by its key. On a server that follows another, use `epoch_in`."""
    with database.read() as tx:
        return epoch_in(tx)


def epoch_in(tx: Transaction) -> Reign:
    """What the database of an open transaction says."""
    return reign_from(tx.row(_READ, (_ROW,)))


def reign_from(row: Sequence[Any] | None) -> Reign:
    """A row of `EPOCH_SQL`, however it was asked for; None: `NOBODYS`."""
    if row is None:
        return NOBODYS
    epoch, site_id, name, url, since_ms = row
    return Reign(Claim(int(epoch), str(site_id), str(name), str(url)), int(since_ms))


EPOCH_SQL: Final = _READ.replace("?", str(_ROW))
"""For whoever has a connection of his own, such as one to a server in recovery."""


def write_epoch(database: Database, claim: Claim, *, since_ms: int) -> Reign:
    """Give the database to `claim`. The same once more changes nothing. Raises `Superseded`.

    It never falls, and it never changes hands without rising.
    """
    with database.write() as tx:
        found = epoch_in(tx)
        if found.epoch > claim.epoch or (found.epoch == claim.epoch and found.claim.site_id != claim.site_id):
            raise Superseded(f"epoch {claim.epoch}: the database has epoch {found.epoch} of {_shown(found)}")
        if found.claim == claim:
            return found
        changed = _put(tx, claim, since_ms=since_ms, expected=found.epoch)
        if not changed:
            raise Superseded(f"epoch {claim.epoch}: somebody else changed the epoch at the same moment")
        return epoch_in(tx)


def _put(tx: Transaction, claim: Claim, *, since_ms: int, expected: int) -> bool:
    values = (claim.epoch, claim.site_id, claim.name, claim.url, since_ms)
    made = tx.execute(
        f"INSERT INTO cluster_epoch (id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",  # noqa: S608 - a constant
        (_ROW, *values),
    )
    return bool(made) or bool(
        tx.execute(
            "UPDATE cluster_epoch SET epoch = ?, site_id = ?, site_name = ?, site_url = ?, since_ms = ?"
            " WHERE id = ? AND epoch = ?",
            (*values, _ROW, expected),
        )
    )


def _shown(reign: Reign) -> str:
    return repr(reign.claim.name or reign.claim.site_id)
