"""Builders for what the ledger is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.ledger import Ledger, Pack, Push, RefChange, Repository

MAIN = RefName(b"refs/heads/main")
ADA = "user:1"


def an_oid(number: int) -> Oid:
    """A different object name for every number above 0."""
    return Oid(f"{number:040x}")


def a_pack(**fields: Any) -> Pack:
    pack_id = new_ulid()
    defaults: dict[str, Any] = {
        "id": pack_id,
        "key": f"repositories/x/packs/{pack_id}",
        "sha256": "ab" * 32,
        "size_bytes": 1234,
        "objects": 3,
        "kind": "receive",
    }
    return Pack(**{**defaults, **fields})


def a_repository(
    ledger: Ledger, *, head: bytes = MAIN, identity: Mapping[str, Any] | None = None
) -> Repository:
    return ledger.create_repository(
        uid=new_ulid(), head=RefName(head), identity=identity or {"path": "ada/engine"}, actor=ADA
    )


def create(name: bytes, new: int = 1) -> RefChange:
    return RefChange(RefName(name), ZERO_OID, an_oid(new))


def update(name: bytes, old: int, new: int) -> RefChange:
    return RefChange(RefName(name), an_oid(old), an_oid(new))


def delete(name: bytes, old: int = 1) -> RefChange:
    return RefChange(RefName(name), an_oid(old), ZERO_OID)


def a_push(repository: Repository | int, *changes: RefChange, **fields: Any) -> Push:
    repository_id = repository if isinstance(repository, int) else repository.id
    defaults: dict[str, Any] = {"push_id": new_ulid(), "actor": ADA, "prune_epoch": 0}
    return Push(repository_id=repository_id, changes=changes, **{**defaults, **fields})


def refs_of(ledger: Ledger, repository: Repository | int) -> dict[bytes, Oid]:
    repository_id = repository if isinstance(repository, int) else repository.id
    return {ref.name: ref.oid for ref in ledger.refs(repository_id)[1]}


def pack_ids(packs: Sequence[Pack]) -> list[str]:
    return [pack.id for pack in packs]
