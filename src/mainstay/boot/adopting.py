"""What only an old primary had comes to the new one, under `refs/diverged/SITE/VERSION/…`.

The old one keeps the records of its pushes when it rejoins (`boot.rejoin`), and offers them on the line. The
new one takes each as a push of its own kind: packs first, checked, then one transaction. Refs there are never
advertised, and nobody pushes to them; they keep the objects until somebody has looked. What is no push is
only kept as a record.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from mainstay.boot.stores import Stores
from mainstay.cluster.sites.line import Line
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import Conflict, NotFound
from mainstay.foundation.logs import get_logger
from mainstay.git.objectnames import ZERO_OID, RefName
from mainstay.ops.sites.memory import Memory
from mainstay.storage.ledger import Change, Pack, Push, RefChange, Repository
from mainstay.storage.push import PushStore
from mainstay.storage.records import BrokenRecord, decode_change
from mainstay.storage.upload import PackFiles, Uploads, finished_pack

log = get_logger()

PREFIX: Final = b"refs/diverged/"
_ID: Final = "diverged-"
_THREADS: Final = 2


class NotWhatWasPushed(Conflict):
    """A pack of the other site is not the one that its record names."""


def adopt(stores: Stores, site: Site, line: Line, offered: object) -> int:
    """Take what is not here yet; how many. Raises `Unavailable`, and is given again then."""
    adopted = 0
    for change in _changes_in(offered):
        if _push_id(change) and stores.ledger.outcome_of(_push_id(change)) is None:
            adopted += int(_adopt_one(stores, site, line, change))
    return adopted


def settle(stores: Stores) -> None:
    """On the site that had them: what the database shows as taken is offered no more."""
    memory = Memory(stores.settings.data)
    for name, text in memory.diverged().items():
        changes = _changes_in([text])
        if changes and _push_id(changes[0]) and stores.ledger.outcome_of(_push_id(changes[0])) is not None:
            memory.note_adopted(name)
            log.info("adopting.settled", record=name)


def _adopt_one(stores: Stores, site: Site, line: Line, change: Change) -> bool:
    try:
        repository = stores.ledger.repository(change.repository_id)
    except NotFound:
        return False
    moves = _moves(site, change)
    if repository.uid != change.uid or not moves:
        return False
    with TemporaryDirectory(dir=stores.settings.data / "run", prefix="adopt-") as scratch:
        packs = [_fetched(line, repository, pack, Path(scratch)) for pack in change.packs_added]
        push = Push(
            push_id=_push_id(change),
            repository_id=repository.id,
            actor=change.actor,
            changes=moves,
            prune_epoch=repository.prune_epoch,
            packs=[each.pack for each in packs],
            details={"diverged_from": site.name, "version": change.version},
        )
        _commit(stores, push, repository, packs)
    log.warning("adopting.push_kept", site=site.name, repository=repository.uid, version=change.version)
    return True


def _commit(stores: Stores, push: Push, repository: Repository, packs: Sequence[PackFiles]) -> None:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="adopt") as threads:
        uploads = Uploads(
            ledger=stores.ledger,
            objects=stores.objects,
            clock=SYSTEM,
            threads=threads,
            followers=stores.followers,
        )
        store = PushStore(ledger=stores.ledger, objects=stores.objects, clock=SYSTEM, uploads=uploads)
        store.commit(push, repository, packs)


def _fetched(line: Line, repository: Repository, pack: Pack, scratch: Path) -> PackFiles:
    files = {ending: scratch / f"{pack.id}.{ending}" for ending in ("pack", "idx")}
    for ending, file in files.items():
        line.download(f"{pack.key}.{ending}", file)
    found = finished_pack(repository, files, objects=pack.objects, kind="receive")
    if found.pack.sha256 != pack.sha256:
        raise NotWhatWasPushed(f"{pack.key}: sha256 {found.pack.sha256} instead of {pack.sha256}")
    return found


def _moves(site: Site, change: Change) -> list[RefChange]:
    under = PREFIX + f"{site.name}/{change.version}/".encode()
    return [
        RefChange(RefName(under + move.name.removeprefix(b"refs/")), ZERO_OID, move.new, move.peeled)
        for move in change.refs
        if move.new != ZERO_OID
    ]


def _push_id(change: Change) -> str:
    """Empty: it is no push."""
    return f"{_ID}{change.push_id}"[:64] if change.kind == "push" and change.push_id else ""


def _changes_in(offered: object) -> list[Change]:
    """What can be read of it."""
    texts: Any = offered if isinstance(offered, list) else []
    found = []
    for text in texts:
        try:
            found.append(decode_change(str(text).encode()))
        except BrokenRecord as broken:
            log.warning("adopting.record_unreadable", because=str(broken))
    return found
