"""Repositories of a few pushes in a real ledger and a memory store, without git: packs are made up."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.database import Database
from mainstay.storage.journal import prepared_key, write_commit, write_prepared
from mainstay.storage.ledger import Pack, Push, PushOutcome, RefChange, Repository
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects import ObjectStore
from mainstay.storage.objects.memory import MemoryStore

MAIN = RefName(b"refs/heads/main")


def oid_of(text: str) -> Oid:
    """Some object name."""
    return Oid(hashlib.sha1(text.encode()).hexdigest())


class Shelf:
    """A ledger and an object store, and what pushes do to both, step by step."""

    def __init__(self, database: Database, objects: ObjectStore | None = None) -> None:
        self.clock = ManualClock()
        self.database = database
        self.ledger = SqlLedger(database, self.clock)
        self.objects = objects or MemoryStore(clock=self.clock)

    def create(self, identity: Mapping[str, object] | None = None) -> Repository:
        return self.ledger.create_repository(
            uid=new_ulid(), head=MAIN, identity=identity or {"path": "ada/engine"}, actor="user:1"
        )

    def store_pack(self, repository: Repository, content: bytes = b"") -> Pack:
        """Files that look like a pack and its index to whom does not look inside."""
        body = b"PACK" + (content or new_ulid().encode())
        pack = body + hashlib.sha1(body).digest()
        index = b"index" + pack[-20:]
        index += hashlib.sha1(index).digest()
        pack_id = new_ulid()
        key = f"repositories/{repository.uid}/packs/{pack_id}"
        self.objects.put_bytes(f"{key}.pack", pack)
        self.objects.put_bytes(f"{key}.idx", index)
        return Pack(pack_id, key, hashlib.sha256(pack).hexdigest(), len(pack), 1, "receive")

    def prepare(self, repository: Repository, changes: Sequence[RefChange]) -> Push:
        """Everything of a push but its commit."""
        pack = self.store_pack(repository)
        push_id = new_ulid()
        keys = [f"{pack.key}.pack", f"{pack.key}.idx", prepared_key(repository.uid, push_id)]
        expires_ms = self.clock.now_ms() + 24 * 3600 * 1000
        intent = self.ledger.begin_upload(repository.id, keys, expires_ms=expires_ms)
        push = Push(push_id, repository.id, "user:1", changes, 0, [pack], [intent], details={"via": "test"})
        write_prepared(self.objects, repository, replace(push, intents=()), self.clock.now_ms())
        return push

    def push(
        self,
        repository: Repository,
        changes: Mapping[bytes, tuple[str, str]],
        *,
        journaled: bool = True,
    ) -> PushOutcome:
        """A whole push of ref -> (old, new), each the text of an object name, "" for none."""
        outcome = self.ledger.push(self.prepare(repository, ref_changes(changes)))
        if journaled and outcome.version is not None:
            (change,) = self.ledger.changes(repository.id, after=outcome.version - 1, limit=1)
            write_commit(self.objects, change)
        return outcome


def ref_changes(changes: Mapping[bytes, tuple[str, str]]) -> list[RefChange]:
    return [
        RefChange(RefName(name), oid_of(old) if old else ZERO_OID, oid_of(new) if new else ZERO_OID)
        for name, (old, new) in changes.items()
    ]
