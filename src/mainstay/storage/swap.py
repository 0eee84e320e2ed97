"""Put compacted packs in the place of their inputs: objects first, then one transaction, as a push does.

The new packs hold the same objects as the old ones, so a swap commutes with every push and needs no lock.
The old packs stay in the store until the restore window has passed; `storage.sweep` deletes them then.
"""

from collections.abc import Sequence

from mainstay.foundation.errors import MainstayError
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.storage.ledger import Ledger, Repository
from mainstay.storage.upload import PackFiles, Uploads

STORED = declare("swap.objects_stored", "the compacted pack is stored; the manifest still names its inputs")
COMMITTED = declare("swap.committed", "the manifest names the compacted pack; nobody has used it yet")

_ACTOR = "system:0"


def swap(
    repository: Repository, *, remove: Sequence[str], add: PackFiles, ledger: Ledger, uploads: Uploads
) -> int:
    """Store `add` and swap it in for `remove`; return the new version.

    Raises `PacksMoved` when somebody else compacted meanwhile: nothing changed, start over.
    """
    intent = uploads.begin(repository, [add])
    try:
        uploads.store([add])
        failpoint(STORED)
        version = ledger.swap_packs(
            repository.id, remove=remove, add=[add.pack], intents=[intent], actor=_ACTOR
        )
    except MainstayError:
        uploads.abandon(intent)
        raise
    failpoint(COMMITTED)
    return version
