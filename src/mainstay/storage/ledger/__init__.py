"""The ledger: which refs a repository has, which packs it is made of, and everything that ever changed.

One numbered change per version of a repository, hash-chained; refs, manifest, journal, reflog, sync feed
and audit all derive from that one log. A change commits in one short transaction without I/O inside, and
that commit is the linearization point of a push.

Implementation: `sql.SqlLedger` over any `storage.database.Database`. The twin for fast tests is the same
class over SQLite in memory. Contract: `tests/contracts/test_ledger.py`.

Not here: bytes (`storage.objects`), the order of writing (`storage.push`), who may (`access`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mainstay.foundation.errors import Conflict, NotFound, Unavailable
from mainstay.git.objectnames import Oid, RefName

ChangeKind = Literal["create", "fork", "push", "head", "identity", "swap", "artefacts", "state", "delete"]
PackKind = Literal["receive", "compact", "base", "garbage"]
WriteState = Literal["writable", "read_only", "deleted"]


class NoSuchRepository(NotFound):
    """The ledger has no such repository, or it is deleted."""


class NotWritable(Unavailable):
    """The repository is read-only at the moment; the message says why."""


class EpochMoved(Conflict):
    """A purge ran since the push was validated: validate again, then retry."""


class UploadReaped(Conflict):
    """The sweeper claimed the upload before the commit: upload again, then retry."""


class PacksMoved(Conflict):
    """A swap found one of its input packs gone: somebody else compacted; start over."""


class PushIdTaken(Conflict):
    """Another repository already had a push of this id."""


@dataclass(frozen=True, slots=True)
class Repository:
    id: int
    uid: str
    """ULID; names the repository in object keys, so it is never reused even after a restore."""
    network_id: int
    """Repositories that may share packs: the id of the fork network's first repository."""
    object_format: str
    head: RefName
    """Target of HEAD; the ref may not exist yet."""
    version: int
    """Number of the last change; grows by one with every change of any kind."""
    manifest_version: int
    """Version of the last change that took packs *out*: a view of the same number only ever gains packs."""
    prune_epoch: int
    write_state: WriteState
    identity: Mapping[str, Any]
    """What `rebuild-db` needs to give the repository its project back; opaque here."""


@dataclass(frozen=True, slots=True)
class Ref:
    name: RefName
    oid: Oid
    peeled: Oid | None = None
    """For an annotated tag: what it finally points to, stored by the writer."""


@dataclass(frozen=True, slots=True)
class RefChange:
    """A compare-and-swap of one ref: `old` is what it must be, ZERO_OID means absent."""

    name: RefName
    old: Oid
    new: Oid
    peeled: Oid | None = None


@dataclass(frozen=True, slots=True)
class Pack:
    """A stored pack. Its files are `KEY.pack`, and `KEY.<artefact>` for each artefact."""

    id: str
    key: str
    sha256: str
    """Of the `.pack` bytes, lower-case hex."""
    size_bytes: int
    objects: int
    kind: PackKind
    sealed: bool = False
    """Large enough that ordinary compaction leaves it alone."""
    artefacts: tuple[str, ...] = ("idx",)
    """Sorted names of side-files beside the pack: `idx`, `rev`, `bitmap`, `graph` (a commit-graph)."""
    added_version: int = 0


@dataclass(frozen=True, slots=True)
class Push:
    """Everything the ledger needs to commit one push."""

    push_id: str
    repository_id: int
    actor: str
    """For the log, such as `user:7`."""
    changes: Sequence[RefChange]
    prune_epoch: int
    """The epoch in which the objects were validated."""
    packs: Sequence[Pack] = ()
    intents: Sequence[str] = ()
    """Upload intents that this commit consumes."""
    atomic: bool = False
    repeatable: bool = False
    """Whether it may be a repetition: a ref that is already what it asks for is no reason to refuse."""
    head: RefName | None = None
    """New target of HEAD if its present target does not exist after this push."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Kept with the change, such as push options and the client's address."""


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """What a push did. `refused` maps a ref to the reason; all other refs of the push moved."""

    version: int | None
    """The version the push made, or None when nothing changed."""
    refused: Mapping[RefName, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One numbered change, as logged."""

    repository_id: int
    uid: str
    version: int
    kind: ChangeKind
    push_id: str | None
    actor: str
    at_ms: int
    refs: Sequence[RefChange]
    packs_added: Sequence[Pack]
    packs_removed: Sequence[str]
    head: RefName | None
    """The new target of HEAD if this change moved it."""
    identity: Mapping[str, Any] | None
    """The new identity if this change set it."""
    details: Mapping[str, Any]
    hash: str
    """sha256 over the previous change's hash and the canonical bytes of this one, lower-case hex."""
    previous_hash: str


@dataclass(frozen=True, slots=True)
class UploadIntent:
    id: str
    repository_id: int
    keys: Sequence[str]
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Event:
    """A fact for later: written in the transaction of the fact, delivered at least once by `jobs`."""

    id: int
    topic: str
    payload: Mapping[str, Any]
    at_ms: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state of one repository at one version: what a checkpoint holds, what a rebuild makes."""

    repository: Repository
    refs: Sequence[Ref]
    packs: Sequence[Pack]
    hash: str
    """Chain hash of the change numbered `repository.version`."""


class Ledger(Protocol):
    """Refs, manifests and the log of changes. Each method is one transaction."""

    # Repositories
    def create_repository(
        self, *, uid: str, head: RefName, identity: Mapping[str, Any], actor: str
    ) -> Repository:
        """Version 1 of a new, empty repository."""
        ...

    def fork(
        self, source_id: int, *, uid: str, identity: Mapping[str, Any], actor: str, hide: Sequence[bytes] = ()
    ) -> Repository:
        """A new repository with the refs and the manifest of `source_id` at this moment; copies no bytes.

        Refs whose name starts with one of `hide` are left out.
        """
        ...

    def repository(self, repository_id: int) -> Repository:
        """Raises `NoSuchRepository`. A strong read: sees every commit acknowledged before the call."""
        ...

    def repositories(self, *, after_id: int = 0, limit: int = 1000) -> list[Repository]:
        """Live repositories in order of id."""
        ...

    def default_branches(self, repository_ids: Sequence[int]) -> dict[int, RefName]:
        """Where HEAD of each repository points, all at one moment; without those where that ref is unborn."""
        ...

    def set_head(self, repository_id: int, head: RefName, *, actor: str) -> int: ...

    def set_identity(self, repository_id: int, identity: Mapping[str, Any], *, actor: str) -> int: ...

    def set_write_state(self, repository_id: int, state: WriteState, *, actor: str) -> int:
        """`deleted` also takes every pack out of the manifest and dooms those nobody else has."""
        ...

    # Refs
    def refs(self, repository_id: int) -> tuple[int, list[Ref]]:
        """The version and all refs at it, sorted by name as bytes."""
        ...

    def refs_named(self, repository_id: int, names: Sequence[RefName]) -> tuple[int, list[Ref]]: ...

    def ref_changes(
        self, repository_id: int, *, after: int, limit: int = 10_000
    ) -> tuple[int, list[tuple[int, RefChange]]] | None:
        """The current version, and (version, change) of each ref moved after version `after`.

        None when there are more than `limit`: read `refs` instead.
        """
        ...

    def ref_history(self, repository_id: int, name: RefName, *, limit: int = 100) -> list[Change]:
        """Changes that moved `name`, newest first; `refs` of each holds only that ref."""
        ...

    # Manifest
    def packs(self, repository_id: int) -> tuple[int, int, list[Pack]]:
        """Version, manifest version, and the packs at it, oldest first."""
        ...

    def begin_upload(
        self, repository_id: int, keys: Sequence[str], *, expires_ms: int, intent_id: str = ""
    ) -> str:
        """Record that objects are about to be written under `keys`; return the id of the intent.

        Who names the id may call again when the outcome is unknown: it is recorded once.
        """
        ...

    def extend_upload(self, intent_id: str, *, expires_ms: int) -> bool:
        """Heartbeat of a slow upload. False when the sweeper already claimed it."""
        ...

    def claim_uploads(self, *, expired_at_ms: int, limit: int = 100) -> list[UploadIntent]:
        """Mark expired intents as claimed, so that their commit can no longer succeed, and return them.

        Returns those claimed earlier and not yet forgotten, too: a sweeper may have died half-way.
        """
        ...

    def forget_upload(self, intent_id: str) -> None:
        """The objects of a claimed (or useless) intent are gone: drop the row."""
        ...

    def push(self, push: Push) -> PushOutcome:
        """Commit the push: the linearization point.

        Per ref compare-and-swap, directory/file conflicts and doubles are judged inside. Atomic: all or
        nothing. Otherwise failing refs are dropped and reported. When no ref moves, nothing is written
        and the packs are left to the sweeper. The same `push_id` again returns the first outcome.
        Writes one `push` event to the outbox: `{"repository_id", "version", "push_id"}`.
        Raises `NotWritable`, `EpochMoved`, `UploadReaped`, `NoSuchRepository`, `OutcomeUnknown`.
        """
        ...

    def outcome_of(self, push_id: str) -> PushOutcome | None:
        """What the push with this id did, or None when it did not commit."""
        ...

    def swap_packs(
        self,
        repository_id: int,
        *,
        remove: Sequence[str],
        add: Sequence[Pack],
        intents: Sequence[str],
        actor: str,
    ) -> int:
        """Replace packs by others of the same content. Raises `PacksMoved` unless all of `remove` are there.

        Packs no repository names any more are doomed as of now. Returns the new version.
        """
        ...

    def add_artefacts(
        self,
        repository_id: int,
        pack_id: str,
        artefacts: Sequence[str],
        *,
        intents: Sequence[str],
        actor: str,
    ) -> int:
        """Side-files were stored beside a pack. Raises `PacksMoved` when it left the manifest."""
        ...

    def doomed_packs(self, *, doomed_before_ms: int, limit: int = 100) -> list[Pack]: ...

    def forget_pack(self, pack_id: str) -> None:
        """The files of a doomed pack are deleted: drop the row."""
        ...

    # The log
    def changes(self, repository_id: int, *, after: int, limit: int = 1000) -> list[Change]:
        """Changes after version `after`, in order, refs and packs included."""
        ...

    def unjournaled(self, *, limit: int = 100) -> list[Change]:
        """Changes whose journal record is not known to be stored, oldest first."""
        ...

    def mark_journaled(self, versions: Sequence[tuple[int, int]]) -> None:
        """(repository id, version) pairs whose record is stored."""
        ...

    def snapshot(self, repository_id: int) -> Snapshot: ...

    def restore(self, snapshot: Snapshot, changes: Sequence[Change]) -> None:
        """Write a repository back as it was, ids and hashes included; for `rebuild-db` only.

        Raises `Conflict` when a repository of that id or uid is there already.
        """
        ...

    # The outbox
    def add_event(self, topic: str, payload: Mapping[str, Any]) -> None: ...

    def take_events(self, *, owner: str, lease_s: int, limit: int = 100) -> list[Event]:
        """Lease undelivered events, oldest first; a dead taker's events come back when the lease ends."""
        ...

    def finish_events(self, ids: Sequence[int]) -> None: ...
