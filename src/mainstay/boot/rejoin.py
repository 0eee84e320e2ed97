"""`mainstay replica rejoin`, on a primary that was superseded: a replica again, without a full copy.

1. what only this site has is found by comparing the hashes of both journals, repository by repository, and is
   kept in `DATA/sites/diverged`: its records there, its packs where they are, which nothing sweeps;
2. PostgreSQL is rewound to where the new primary's history began, and follows that;
3. the site's process pulls what is new and is on the way by itself.

Given again it finishes what was begun. The node may run meanwhile: it writes nothing, because it is fenced.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mainstay.boot.managed_database import server_of
from mainstay.boot.promotion_plan import project_names
from mainstay.boot.replicating import check_managed, credentials_of, stream_of
from mainstay.boot.site_lines import Lines
from mainstay.boot.stores import Stores
from mainstay.cluster.epochs.site import SiteFile
from mainstay.cluster.sites.line import Line
from mainstay.cluster.sites.registry import Site
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.git.objectnames import shown
from mainstay.ops.sites.memory import Memory
from mainstay.provision.postgresql import Standby, Upstream
from mainstay.storage.database.fence import refusal_for
from mainstay.storage.journal import commit_key
from mainstay.storage.ledger import Change, Repository
from mainstay.storage.objects import NoSuchObject
from mainstay.storage.records import BrokenRecord, decode_change, encode_change

log = get_logger()

_AT_ONCE: Final = 8
_PAGE: Final = 500
_BACK_MAX: Final = 100_000
"""Changes of one repository that are looked back."""


class NotSuperseded(Conflict):
    """There is nothing to rejoin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """One change that only this site has."""

    project: str
    version: int
    kind: str
    actor: str
    at_ms: int
    refs: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoined:
    primary: str
    diverged: Sequence[Diverged]
    kept_in: str
    """Empty: there was nothing to keep."""


def rejoin(stores: Stores) -> Rejoined:
    """Raises `NotSuperseded`, `Unavailable`, `CannotRewind` (only a new copy helps then)."""
    check_managed(stores.settings)
    site, lines = SiteFile(stores.settings.data), Lines(stores.settings)
    with closing(lines):
        lines.refresh()
        standing = site.read()
        refused = refusal_for(standing, None, boot="", now_s=0.0)
        if standing is None or refused is None or not refused.is_final:
            raise NotSuperseded("this site was not superseded by another: there is nothing to rejoin")
        primary = lines.by_id(standing.highest.site_id)
        if primary is None or lines.to(primary).facts().get("role") != "primary":
            raise Unavailable("the new primary does not answer: try again when it does")
        found = diverged(stores, lines.to(primary), stores.settings.data / "run")
        kept = _keep(stores, found)
        _rewind(stores, primary, me=standing.site_id)
    log.info("rejoin.done", primary=primary.name, diverged=len(kept))
    where = str(stores.settings.data / "sites" / "diverged") if kept else ""
    return Rejoined(primary=primary.name, diverged=kept, kept_in=where)


def diverged(stores: Stores, line: Line, scratch: Path) -> list[Change]:
    """What the new primary's journal does not have, or has otherwise."""
    found: list[Change] = []
    after_id = 0
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rejoin") as threads:
        while page := stores.ledger.repositories(after_id=after_id):
            for changes in threads.map(lambda each: _of_one(stores, line, scratch, each), page):
                found += changes
            after_id = page[-1].id
    return found


def _of_one(stores: Stores, line: Line, scratch: Path, repository: Repository) -> list[Change]:
    """From the last change backwards, until both have the same."""
    version = repository.version
    while version > max(0, repository.version - _BACK_MAX) and not _is_there(
        stores, line, scratch, repository, version
    ):
        version -= 1
    changes: list[Change] = []
    while page := stores.ledger.changes(repository.id, after=version, limit=_PAGE):
        changes += page
        version = page[-1].version
    return changes


def _is_there(stores: Stores, line: Line, scratch: Path, repository: Repository, version: int) -> bool:
    (ours,) = stores.ledger.changes(repository.id, after=version - 1, limit=1)
    target = scratch / f"rejoin-{new_ulid()}"
    try:
        line.download(commit_key(repository.uid, version), target)
        return decode_change(target.read_bytes()).hash == ours.hash
    except (NoSuchObject, BrokenRecord):
        return False
    finally:
        target.unlink(missing_ok=True)


def _keep(stores: Stores, changes: Sequence[Change]) -> list[Diverged]:
    memory = Memory(stores.settings.data)
    names = project_names(stores.ledger, {change.repository_id for change in changes})
    for change in changes:
        memory.keep_diverged(f"{change.uid}-{change.version:012d}.json", encode_change(change))
        log.warning("rejoin.change_kept", repository=change.uid, version=change.version, kind=change.kind)
    return [
        Diverged(
            project=names.get(change.repository_id, f"repository {change.repository_id}"),
            version=change.version,
            kind=change.kind,
            actor=change.actor,
            at_ms=change.at_ms,
            refs=[f"{shown(move.name)} to {move.new}" for move in change.refs],
        )
        for change in changes
    ]


def _rewind(stores: Stores, primary: Site, *, me: str) -> None:
    host, _, port = primary.database_address.rpartition(":")
    upstream = Upstream(host=host.strip("[]"), port=int(port), site=stream_of(me), name=stream_of(primary.id))
    Standby(server_of(stores.settings.data)).rewind_from(upstream, credentials_of(stores.settings.data))
