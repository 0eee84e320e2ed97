"""The journal's records as bytes: pure, exact in both directions, readable by people.

JSON, one object per record, keys sorted. A record says its `format`; a reader refuses formats it does not
know rather than guess. Ref names are any bytes but a few: those that are UTF-8 are written as they are,
others as `base64:…`, which cannot be mistaken because no ref name holds a colon.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from mainstay.foundation.errors import Invalid
from mainstay.git.objectnames import Oid, RefName, oid
from mainstay.storage.ledger import (
    Change,
    ChangeKind,
    Pack,
    PackKind,
    Push,
    Ref,
    RefChange,
    Repository,
    Snapshot,
    WriteState,
)

FORMAT: Final = 1
SNAPSHOT_BYTES_MAX: Final = 2 << 30
"""Unpacked size of the largest checkpoint that is read: some 20 million refs."""

_BASE64 = "base64:"


class BrokenRecord(Invalid):
    """The bytes are not a record of the kind that was looked for."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a push was about to do when its objects were stored. It may have committed or not."""

    push: Push
    uid: str
    at_ms: int


def encode_change(change: Change) -> bytes:
    return _encode(
        "change",
        {
            "repository_id": change.repository_id,
            "uid": change.uid,
            "version": change.version,
            "kind": change.kind,
            "push_id": change.push_id,
            "actor": change.actor,
            "at_ms": change.at_ms,
            "refs": [_from_ref_change(each) for each in change.refs],
            "packs_added": [_from_pack(each) for each in change.packs_added],
            "packs_removed": list(change.packs_removed),
            "head": _from_optional_name(change.head),
            "identity": change.identity,
            "details": change.details,
            "hash": change.hash,
            "previous_hash": change.previous_hash,
        },
    )


def decode_change(content: bytes) -> Change:
    """Raises `BrokenRecord`."""
    record = _decode("change", content)
    try:
        return Change(
            repository_id=int(record["repository_id"]),
            uid=str(record["uid"]),
            version=int(record["version"]),
            kind=cast("ChangeKind", _one_of(record["kind"], get_args(ChangeKind))),
            push_id=record["push_id"],
            actor=str(record["actor"]),
            at_ms=int(record["at_ms"]),
            refs=[_to_ref_change(each) for each in record["refs"]],
            packs_added=[_to_pack(each) for each in record["packs_added"]],
            packs_removed=[str(each) for each in record["packs_removed"]],
            head=_to_optional_name(record["head"]),
            identity=record["identity"],
            details=record["details"],
            hash=str(record["hash"]),
            previous_hash=str(record["previous_hash"]),
        )
    except (KeyError, TypeError, ValueError, Invalid) as problem:
        raise BrokenRecord(f"change record: {_why(problem)}") from problem


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """A checkpoint, compressed; equal snapshots give equal bytes."""
    repository = snapshot.repository
    plain = _encode(
        "checkpoint",
        {
            "repository": {
                "id": repository.id,
                "uid": repository.uid,
                "network_id": repository.network_id,
                "object_format": repository.object_format,
                "head": _from_name(repository.head),
                "version": repository.version,
                "manifest_version": repository.manifest_version,
                "prune_epoch": repository.prune_epoch,
                "write_state": repository.write_state,
                "identity": repository.identity,
            },
            "refs": [[_from_name(ref.name), ref.oid, ref.peeled] for ref in snapshot.refs],
            "packs": [_from_pack(each) for each in snapshot.packs],
            "hash": snapshot.hash,
        },
    )
    return gzip.compress(plain, compresslevel=6, mtime=0)


def decode_snapshot(content: bytes) -> Snapshot:
    """Raises `BrokenRecord`. Bounded: a compressed bomb is refused."""
    record = _decode("checkpoint", _unpacked(content))
    try:
        return Snapshot(
            repository=_to_repository(record["repository"]),
            refs=[
                Ref(_to_name(name), oid(at), _to_optional_oid(peeled)) for name, at, peeled in record["refs"]
            ],
            packs=[_to_pack(each) for each in record["packs"]],
            hash=str(record["hash"]),
        )
    except (KeyError, TypeError, ValueError, Invalid) as problem:
        raise BrokenRecord(f"checkpoint: {_why(problem)}") from problem


def encode_prepared(prepared: Prepared) -> bytes:
    push = prepared.push
    return _encode(
        "prepared",
        {
            "push_id": push.push_id,
            "repository_id": push.repository_id,
            "uid": prepared.uid,
            "at_ms": prepared.at_ms,
            "actor": push.actor,
            "refs": [_from_ref_change(each) for each in push.changes],
            "prune_epoch": push.prune_epoch,
            "packs": [_from_pack(each) for each in push.packs],
            "atomic": push.atomic,
            "head": _from_optional_name(push.head),
            "details": push.details,
        },
    )


def decode_prepared(content: bytes) -> Prepared:
    """Raises `BrokenRecord`. Upload intents are not kept: they mean nothing to another ledger."""
    record = _decode("prepared", content)
    try:
        push = Push(
            push_id=str(record["push_id"]),
            repository_id=int(record["repository_id"]),
            actor=str(record["actor"]),
            changes=[_to_ref_change(each) for each in record["refs"]],
            prune_epoch=int(record["prune_epoch"]),
            packs=[_to_pack(each) for each in record["packs"]],
            atomic=bool(record["atomic"]),
            head=_to_optional_name(record["head"]),
            details=record["details"],
        )
        return Prepared(push, uid=str(record["uid"]), at_ms=int(record["at_ms"]))
    except (KeyError, TypeError, ValueError, Invalid) as problem:
        raise BrokenRecord(f"prepared record: {_why(problem)}") from problem


def _encode(kind: str, record: Mapping[str, Any]) -> bytes:
    whole = {"format": FORMAT, "record": kind, **record}
    text = json.dumps(whole, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_plain)
    return text.encode("ascii") + b"\n"


def _plain(value: object) -> object:
    """`Mapping` and `Sequence` are wider than what json knows by itself."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be journaled")


def _decode(kind: str, content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise BrokenRecord(f"{kind}: not JSON: {problem}") from problem
    if not isinstance(record, dict) or record.get("record") != kind:
        raise BrokenRecord(f"{kind}: the record is of another kind")
    if record.get("format") != FORMAT:
        raise BrokenRecord(f"{kind}: format {record.get('format')!r} is not {FORMAT}: use a newer Mainstay")
    return record


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(content, SNAPSHOT_BYTES_MAX)
    except zlib.error as problem:
        raise BrokenRecord(f"checkpoint: {problem}") from problem
    if not unpacker.eof:
        raise BrokenRecord("checkpoint: cut off, or larger than any that was written")
    return plain


def _why(problem: Exception) -> str:
    return f"no {problem}" if isinstance(problem, KeyError) else str(problem)


def _one_of(value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return str(value)


def _from_name(name: RefName) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = ""
    if text and not text.startswith(_BASE64):
        return text
    return _BASE64 + base64.b64encode(name).decode("ascii")


def _to_name(text: str) -> RefName:
    if text.startswith(_BASE64):
        return RefName(base64.b64decode(text.removeprefix(_BASE64), validate=True))
    return RefName(text.encode())


def _from_optional_name(name: RefName | None) -> str | None:
    return None if name is None else _from_name(name)


def _to_optional_name(text: str | None) -> RefName | None:
    return None if text is None else _to_name(text)


def _to_optional_oid(text: str | None) -> Oid | None:
    return None if text is None else oid(text)


def _from_ref_change(change: RefChange) -> list[str | None]:
    return [_from_name(change.name), change.old, change.new, change.peeled]


def _to_ref_change(record: Sequence[str]) -> RefChange:
    name, old, new, peeled = record
    return RefChange(_to_name(name), oid(old), oid(new), _to_optional_oid(peeled))


def _from_pack(pack: Pack) -> dict[str, Any]:
    return {
        "id": pack.id,
        "key": pack.key,
        "sha256": pack.sha256,
        "size_bytes": pack.size_bytes,
        "objects": pack.objects,
        "kind": pack.kind,
        "sealed": pack.sealed,
        "artefacts": list(pack.artefacts),
        "added_version": pack.added_version,
    }


def _to_pack(record: Mapping[str, Any]) -> Pack:
    return Pack(
        id=str(record["id"]),
        key=str(record["key"]),
        sha256=str(record["sha256"]),
        size_bytes=int(record["size_bytes"]),
        objects=int(record["objects"]),
        kind=cast("PackKind", _one_of(record["kind"], get_args(PackKind))),
        sealed=bool(record["sealed"]),
        artefacts=tuple(str(each) for each in record["artefacts"]),
        added_version=int(record["added_version"]),
    )


def _to_repository(record: Mapping[str, Any]) -> Repository:
    return Repository(
        id=int(record["id"]),
        uid=str(record["uid"]),
        network_id=int(record["network_id"]),
        object_format=str(record["object_format"]),
        head=_to_name(record["head"]),
        version=int(record["version"]),
        manifest_version=int(record["manifest_version"]),
        prune_epoch=int(record["prune_epoch"]),
        write_state=cast("WriteState", _one_of(record["write_state"], get_args(WriteState))),
        identity=record["identity"],
    )
