"""The ledger in SQL: each method is one transaction over a `Database`, the work is in the modules beside.

No state of its own and no cache: what is read is what is committed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mainstay.foundation.clock import Clock
from mainstay.git.objectnames import RefName
from mainstay.storage.database import Database
from mainstay.storage.ledger import (
    Change,
    Event,
    Pack,
    Push,
    PushOutcome,
    Ref,
    RefChange,
    Repository,
    Snapshot,
    UploadIntent,
    WriteState,
    lifecycle,
    log,
    manifest,
    outbox,
    pushes,
    refs,
    repositories,
    snapshots,
    uploads,
)


def _nobody() -> None:
    """Workers look at the outbox by themselves."""


class SqlLedger:
    """Implements `Ledger`, whose docstrings say what each method promises."""

    def __init__(self, database: Database, clock: Clock, *, tell: Callable[[], None] = _nobody) -> None:
        """`tell` is called when an event was committed to the outbox; it returns at once and never raises."""
        self.database = database
        self._clock = clock
        self._tell = tell

    # Repositories
    def create_repository(
        self, *, uid: str, head: RefName, identity: Mapping[str, Any], actor: str
    ) -> Repository:
        at_ms = self._clock.now_ms()
        with self.database.write() as tx:
            return lifecycle.create(tx, uid=uid, head=head, identity=identity, actor=actor, at_ms=at_ms)

    def fork(
        self, source_id: int, *, uid: str, identity: Mapping[str, Any], actor: str, hide: Sequence[bytes] = ()
    ) -> Repository:
        at_ms = self._clock.now_ms()
        with self.database.write() as tx:
            return lifecycle.fork(
                tx, source_id, uid=uid, identity=identity, actor=actor, hide=hide, at_ms=at_ms
            )

    def repository(self, repository_id: int) -> Repository:
        with self.database.read() as tx:
            return repositories.find(tx, repository_id).repository

    def repositories(self, *, after_id: int = 0, limit: int = 1000) -> list[Repository]:
        with self.database.read() as tx:
            return repositories.live_after(tx, after_id, limit)

    def default_branches(self, repository_ids: Sequence[int]) -> dict[int, RefName]:
        with self.database.read() as tx:
            return refs.default_branches(tx, repository_ids)

    def set_head(self, repository_id: int, head: RefName, *, actor: str) -> int:
        with self.database.write() as tx:
            return lifecycle.set_head(tx, repository_id, head, actor=actor, at_ms=self._clock.now_ms())

    def set_identity(self, repository_id: int, identity: Mapping[str, Any], *, actor: str) -> int:
        with self.database.write() as tx:
            return lifecycle.set_identity(
                tx, repository_id, identity, actor=actor, at_ms=self._clock.now_ms()
            )

    def set_write_state(self, repository_id: int, state: WriteState, *, actor: str) -> int:
        with self.database.write() as tx:
            return lifecycle.set_write_state(
                tx, repository_id, state, actor=actor, at_ms=self._clock.now_ms()
            )

    # Refs
    def refs(self, repository_id: int) -> tuple[int, list[Ref]]:
        with self.database.read() as tx:
            return repositories.version_of(tx, repository_id), refs.everything(tx, repository_id)

    def refs_named(self, repository_id: int, names: Sequence[RefName]) -> tuple[int, list[Ref]]:
        with self.database.read() as tx:
            return repositories.version_of(tx, repository_id), refs.named(tx, repository_id, names)

    def ref_changes(
        self, repository_id: int, *, after: int, limit: int = 10_000
    ) -> tuple[int, list[tuple[int, RefChange]]] | None:
        """Also None when the log does not reach back to `after`, or `after` lies in the future."""
        with self.database.read() as tx:
            version = repositories.version_of(tx, repository_id)
            if after == version:
                return version, []
            if after > version or not log.has(tx, repository_id, after + 1):
                return None
            moved = log.ref_changes(tx, repository_id, after, version, limit=limit + 1)
            return None if len(moved) > limit else (version, moved)

    def ref_history(self, repository_id: int, name: RefName, *, limit: int = 100) -> list[Change]:
        with self.database.read() as tx:
            repositories.version_of(tx, repository_id)
            return log.of_ref(tx, repository_id, name, limit)

    # Manifest
    def packs(self, repository_id: int) -> tuple[int, int, list[Pack]]:
        with self.database.read() as tx:
            repository = repositories.find(tx, repository_id).repository
            packs = manifest.everything(tx, repository_id)
            return repository.version, repository.manifest_version, packs

    def begin_upload(
        self, repository_id: int, keys: Sequence[str], *, expires_ms: int, intent_id: str = ""
    ) -> str:
        with self.database.write() as tx:
            return uploads.begin(tx, repository_id, keys, expires_ms, intent_id)

    def extend_upload(self, intent_id: str, *, expires_ms: int) -> bool:
        with self.database.write() as tx:
            return uploads.extend(tx, intent_id, expires_ms)

    def claim_uploads(self, *, expired_at_ms: int, limit: int = 100) -> list[UploadIntent]:
        with self.database.write() as tx:
            return uploads.claim(tx, expired_at_ms, limit)

    def forget_upload(self, intent_id: str) -> None:
        with self.database.write() as tx:
            uploads.forget(tx, intent_id)

    def push(self, push: Push) -> PushOutcome:
        at_ms = self._clock.now_ms()
        with self.database.write() as tx:
            outcome = pushes.commit(tx, push, at_ms)
        if outcome.version is not None:
            self._tell()
        return outcome

    def outcome_of(self, push_id: str) -> PushOutcome | None:
        with self.database.read() as tx:
            return pushes.outcome_with_id(tx, push_id)

    def swap_packs(
        self,
        repository_id: int,
        *,
        remove: Sequence[str],
        add: Sequence[Pack],
        intents: Sequence[str],
        actor: str,
    ) -> int:
        at_ms = self._clock.now_ms()
        with self.database.write() as tx:
            return lifecycle.swap_packs(
                tx, repository_id, take_out=remove, put_in=add, intents=intents, actor=actor, at_ms=at_ms
            )

    def add_artefacts(
        self,
        repository_id: int,
        pack_id: str,
        artefacts: Sequence[str],
        *,
        intents: Sequence[str],
        actor: str,
    ) -> int:
        at_ms = self._clock.now_ms()
        with self.database.write() as tx:
            return lifecycle.add_artefacts(
                tx, repository_id, pack_id, artefacts, intents=intents, actor=actor, at_ms=at_ms
            )

    def doomed_packs(self, *, doomed_before_ms: int, limit: int = 100) -> list[Pack]:
        with self.database.read() as tx:
            return manifest.doomed(tx, doomed_before_ms, limit)

    def forget_pack(self, pack_id: str) -> None:
        with self.database.write() as tx:
            manifest.forget(tx, pack_id)

    # The log
    def changes(self, repository_id: int, *, after: int, limit: int = 1000) -> list[Change]:
        """Also of a deleted repository: its log stays."""
        with self.database.read() as tx:
            return log.after(tx, repository_id, after, limit)

    def unjournaled(self, *, limit: int = 100) -> list[Change]:
        with self.database.read() as tx:
            return log.unjournaled(tx, limit)

    def mark_journaled(self, versions: Sequence[tuple[int, int]]) -> None:
        with self.database.write() as tx:
            log.mark_journaled(tx, versions)

    def snapshot(self, repository_id: int) -> Snapshot:
        with self.database.read() as tx:
            return snapshots.snapshot(tx, repository_id)

    def restore(self, snapshot: Snapshot, changes: Sequence[Change]) -> None:
        with self.database.write() as tx:
            snapshots.restore(tx, snapshot, changes)

    # The outbox
    def add_event(self, topic: str, payload: Mapping[str, Any]) -> None:
        at_ms = self._clock.now_ms()
        with self.database.write() as tx:
            outbox.add(tx, topic, payload, at_ms)
        self._tell()

    def take_events(self, *, owner: str, lease_s: int, limit: int = 100) -> list[Event]:
        now_ms = self._clock.now_ms()
        with self.database.write() as tx:
            return outbox.take(tx, owner=owner, now_ms=now_ms, lease_ms=lease_s * 1000, limit=limit)

    def finish_events(self, ids: Sequence[int]) -> None:
        with self.database.write() as tx:
            outbox.finish(tx, ids)
