"""A new master key for the cluster, while all nodes run.

1. The new key goes into this node's key file, beside the old one.
2. One transaction wraps everything with it, and leaves it, wrapped by the old one, for the other nodes.
3. A node that meets a secret of a key it does not know follows that trail (`secrets.reach_master`).

The trail is as good as the new key for who has the old one and a copy of the database. `forget_trail` ends
that: afterwards a node that has not picked the new key up must join again.
"""

from dataclasses import dataclass

from mainstay.cluster.keyring import KEYS_MAX, KeyRing, KeyStore, new_key
from mainstay.cluster.secrets import MASTER, SUCCESSOR, Secrets, WrongMasterKey, insert_wrapped
from mainstay.foundation.logs import get_logger
from mainstay.storage.database import Database, Transaction

log = get_logger()


@dataclass(frozen=True, slots=True)
class Rotated:
    """What came of it."""

    before: str
    after: str
    """Ids of the master keys."""
    wrapped: int
    """Secrets and join tokens that are wrapped anew."""


def rotate_master(database: Database, secrets: Secrets, keys: KeyStore, *, now_ms: int) -> Rotated:
    """Give the cluster a new master key. Raises `WrongMasterKey` when another node did so meanwhile."""
    before = secrets.refresh()
    key = new_key()
    after = before.headed_by(key)
    keys.write(
        KeyRing([*before.keys[: KEYS_MAX - 1], key])
    )  # last, so that nothing is wrapped by it before the commit
    with database.write() as tx:
        _still_master(tx, before.newest_id)
        insert_wrapped(
            tx,
            f"{SUCCESSOR}{before.newest_id}",
            before.wrap(f"{SUCCESSOR}{before.newest_id}", key),
            now_ms=now_ms,
        )
        wrapped = _rewrap(tx, after)
    secrets.refresh()
    log.info("cluster.master_key_rotated", before=before.newest_id, after=after.newest_id, wrapped=wrapped)
    return Rotated(before.newest_id, after.newest_id, wrapped)


def forget_trail(database: Database, secrets: Secrets) -> int:
    """End the validity of older keys; return of how many. What is still wrapped by one is wrapped anew."""
    ring = secrets.refresh()
    with database.write() as tx:
        _still_master(tx, ring.newest_id)
        _rewrap(tx, ring)
        return tx.execute("DELETE FROM cluster_secret WHERE name LIKE ?", (f"{SUCCESSOR}%",))


def start_over(database: Database, keys: KeyStore, *, now_ms: int) -> int:
    """Forget every secret and found the cluster's key anew, when the old one is lost; return how many went.

    What this machine held as keys is replaced. Other nodes must join again.
    """
    ring = KeyRing([new_key()])
    keys.write(ring)
    with database.write() as tx:
        forgotten = tx.execute("DELETE FROM cluster_secret")
        tx.execute("DELETE FROM cluster_join_token")
        insert_wrapped(tx, MASTER, ring.wrap(MASTER, b"founded"), now_ms=now_ms)
    log.warning("cluster.secrets_forgotten", count=forgotten, key_id=ring.newest_id)
    return forgotten


def _still_master(tx: Transaction, key_id: str) -> None:
    """Lock the row that says so: of two rotations at once the second finds another key there."""
    held = tx.execute(
        "UPDATE cluster_secret SET key_id = key_id WHERE name = ? AND key_id = ?", (MASTER, key_id)
    )
    if not held:
        raise WrongMasterKey("the master key was rotated by somebody else at this moment: look again")


def _rewrap(tx: Transaction, ring: KeyRing) -> int:
    """Everything that is not under the newest key yet, but the trail of the keys."""
    count = 0
    for name, wrapped in tx.rows(
        "SELECT name, wrapped FROM cluster_secret WHERE key_id <> ?", (ring.newest_id,)
    ):
        if str(name).startswith(SUCCESSOR):
            continue
        fresh = ring.wrap(str(name), ring.unwrap(str(name), str(wrapped)))
        tx.execute(
            "UPDATE cluster_secret SET wrapped = ?, key_id = ? WHERE name = ?", (fresh, ring.newest_id, name)
        )
        count += 1
    for token_id, wrapped in tx.rows("SELECT id, wrapping FROM cluster_join_token WHERE used_ms = 0"):
        name = f"join/{token_id}"
        fresh = ring.wrap(name, ring.unwrap(name, str(wrapped)))
        tx.execute("UPDATE cluster_join_token SET wrapping = ? WHERE id = ?", (fresh, token_id))
        count += 1
    return count
