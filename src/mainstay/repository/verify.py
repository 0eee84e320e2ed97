"""Let git itself look at a repository: every object of every pack, and that the refs lead nowhere missing.

Reads the packs from the object store through the cache; changes nothing.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from mainstay.cache.copies import Copies
from mainstay.foundation.ids import new_ulid
from mainstay.git.native.place import Limits
from mainstay.git.native.run import run
from mainstay.repository.scratch import repository_of
from mainstay.storage.ledger import Ledger

_LIMITS = Limits(data_bytes_max=None, wall_s_max=4 * 3600)
_PROBLEMS_MAX = 1000
_ERRORS = ("error", "fatal", "missing", "broken", "dangling ref", "bad ")
_TOLERATED = {
    "fsck.badTimezone": "ignore",
    "fsck.missingSpaceBeforeDate": "ignore",
    "fsck.zeroPaddedFilemode": "ignore",
}
"""As at a push: see `repository.quarantine`."""


def problems(repository_id: int, *, ledger: Ledger, copies: Copies, scratch: Path) -> Iterator[str]:
    """Yield what is wrong with the objects of a repository, in git's words. Blocks; takes minutes if large.

    The refs are read before the copy is pinned, so that the copy has all they need.
    """
    _, refs = ledger.refs(repository_id)
    directory = scratch / new_ulid()
    with copies.pinned(repository_id) as copy:
        try:
            place = repository_of(copy, refs, directory)
            arguments = ["fsck", "--full", "--no-dangling", "--no-progress"]
            finished = run(place, arguments, limits=_LIMITS, config=_TOLERATED, check=False)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    if finished.exit_code == 0:
        return
    said = (finished.stdout + finished.stderr).decode("utf-8", "replace").splitlines()
    wrong = [line for line in said if line.startswith(_ERRORS)]
    yield from wrong[:_PROBLEMS_MAX] or [f"git fsck ended with {finished.exit_code}"]
