"""The canonical bytes of a change, and the hash that chains it to the one before.

Canonical bytes: one JSON object in ASCII (everything else escaped; a byte of a ref name that is not UTF-8
is the lone surrogate U+DC00 + byte), keys sorted, no blanks. Keys: `actor`, `at_ms`, `details`, `head`,
`identity`, `kind`, `packs_added` (see `pack_facts`), `packs_removed`, `push_id`, `refs`, `uid`,
`version`; an absent value is null. `refs` is a list of `[name, old, new, peeled]` sorted by the bytes of
the name, 40 zeros for an absent object name.

    hash = sha256(previous hash as 64 hex digits + newline + canonical bytes), 64 lower-case hex digits

The first change follows `FIRST`, 64 zeros. Numeric ids are not part of it, `uid` is: a repository keeps
its chain when it is rebuilt.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mainstay.git.objectnames import shown
from mainstay.storage.ledger import Change, Pack, RefChange

FIRST = "0" * 64


def sealed(change: Change) -> Change:
    """`change` with its hash."""
    return replace(change, hash=hash_of(change))


def hash_of(change: Change) -> str:
    digest = hashlib.sha256(change.previous_hash.encode() + b"\n")
    digest.update(canonical(change))
    return digest.hexdigest()


def canonical(change: Change) -> bytes:
    return compact(
        {
            "actor": change.actor,
            "at_ms": change.at_ms,
            "details": change.details,
            "head": None if change.head is None else shown(change.head),
            "identity": change.identity,
            "kind": change.kind,
            "packs_added": [pack_facts(pack) for pack in change.packs_added],
            "packs_removed": list(change.packs_removed),
            "push_id": change.push_id,
            "refs": [_ref_facts(ref) for ref in sorted_refs(change.refs)],
            "uid": change.uid,
            "version": change.version,
        }
    ).encode("ascii")


def sorted_refs(refs: Sequence[RefChange]) -> list[RefChange]:
    return sorted(refs, key=lambda ref: ref.name)


def compact(value: Any) -> str:
    """JSON as it is stored and hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} does not go into the log")


def _ref_facts(ref: RefChange) -> list[str | None]:
    return [shown(ref.name), ref.old, ref.new, ref.peeled]


def pack_facts(pack: Pack) -> dict[str, Any]:
    """A pack as plain JSON: all of its fields."""
    return {
        "added_version": pack.added_version,
        "artefacts": list(pack.artefacts),
        "id": pack.id,
        "key": pack.key,
        "kind": pack.kind,
        "objects": pack.objects,
        "sealed": pack.sealed,
        "sha256": pack.sha256,
        "size_bytes": pack.size_bytes,
    }


def pack_of(facts: Mapping[str, Any]) -> Pack:
    """The inverse of `pack_facts`."""
    return Pack(**{**facts, "artefacts": tuple(facts["artefacts"])})
