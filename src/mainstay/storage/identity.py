"""The marker that ties an object store to one instance, so that a ledger is never used with another's.

`instance.json` at the root of the store names the instance. It is written once and never changed. At start
the node compares it with what its database says: a store that is not mounted, a bucket of the staging
system or a database that was lost are told apart before anything is written.
"""

import json
from dataclasses import dataclass
from typing import Final

from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.ids import is_ulid
from mainstay.storage.objects import KeyTaken, NoSuchObject, ObjectStore

KEY: Final = "instance.json"
FORMAT: Final = 1


class WrongStore(Conflict):
    """The object store belongs to another instance, or has one where the database has none."""


class StoreEmptied(Unavailable):
    """The database knows its object store, and this one has no marker: probably not mounted, or not it."""


@dataclass(frozen=True, slots=True)
class Marker:
    instance: str
    """ULID of the instance, made at its first start."""
    created_ms: int


def read_marker(objects: ObjectStore) -> Marker | None:
    """The marker of the store, or None in a fresh one. Raises `WrongStore` when it is unreadable."""
    try:
        content = objects.get_bytes(KEY)
    except NoSuchObject:
        return None
    try:
        facts = json.loads(content)
        marker = Marker(instance=str(facts["instance"]), created_ms=int(facts["created_ms"]))
    except (ValueError, KeyError, TypeError) as problem:
        raise WrongStore(f"object store: {KEY} is not readable: {problem}") from problem
    if facts.get("format") != FORMAT or not is_ulid(marker.instance):
        raise WrongStore(f"object store: {KEY} is of a form this version does not know")
    return marker


def write_marker(objects: ObjectStore, instance: str, *, clock: Clock) -> Marker:
    """Give a fresh store its owner. Of several first starts one wins; returns its marker."""
    marker = Marker(instance, clock.now_ms())
    facts = {"format": FORMAT, "instance": marker.instance, "created_ms": marker.created_ms}
    try:
        objects.put_bytes(KEY, json.dumps(facts, sort_keys=True).encode() + b"\n")
    except KeyTaken:
        found = read_marker(objects)
        assert found is not None, "a taken key has an object"
        return found
    return marker


def check_owner(found: Marker | None, instance: str, *, is_new_database: bool) -> None:
    """Refuse a store that is not the one of `instance`. Pure: decides on what was read.

    A new database may take a fresh store, and nothing else.
    """
    if found is None:
        if is_new_database:
            return
        raise StoreEmptied(
            f"the object store has no {KEY}, but the database is in use: is this the right store,"
            " and is its disk mounted?"
        )
    if found.instance == instance:
        return
    if is_new_database:
        raise WrongStore(
            f"the database is empty, but the object store belongs to instance {found.instance}:"
            " if the database was lost, run `mainstay rebuild-db`"
        )
    raise WrongStore(f"the object store belongs to instance {found.instance}, the database to {instance}")
