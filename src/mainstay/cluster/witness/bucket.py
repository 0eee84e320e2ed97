"""A witness that is one object in a bucket.

The store has no clock that anybody asks: who looks measures by himself. A record counts as unchanged from the
end of the look that first showed it to the beginning of the look that showed it last.
"""

import json
import threading
from collections.abc import Callable
from typing import Final

from mainstay.cluster.witness import (
    BadRecord,
    Overtaken,
    Record,
    Seen,
    WitnessAway,
    checked_successor,
    record_from,
    record_said,
)
from mainstay.foundation.boots import since_boot_s
from mainstay.storage.objects import StoreAway
from mainstay.storage.objects.register import Changed, Register, open_register

KEY: Final = "sites/lease.json"


class BucketWitness:
    """Each observer has one of his own. Safe for use from several threads."""

    def __init__(self, register: Register, *, clock_s: Callable[[], float] = since_boot_s) -> None:
        self._register = register
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._known: tuple[str, Record] | None = None
        self._first_seen_s = 0.0

    def look(self) -> Seen | None:
        asked_s = self._clock_s()
        found = self._read()
        if found is None:
            return None
        record, version = found
        with self._lock:
            if self._known is None or self._known[0] != version:
                self._known, self._first_seen_s = (version, record), self._clock_s()
            return Seen(record, version, max(0.0, asked_s - self._first_seen_s))

    def swap(self, version: str | None, record: Record) -> str:
        with self._lock:
            known = self._known
        if known is not None and known[0] == version:
            checked_successor(known[1], record)
        elif version is not None:
            self._check_successor(version, record)
        try:
            return self._register.write(json.dumps(record_said(record)).encode(), version)
        except Changed as changed:
            raise Overtaken("the record was changed meanwhile") from changed
        except StoreAway as away:
            raise WitnessAway(f"the witness is away: {away}") from away

    def _check_successor(self, version: str, record: Record) -> None:
        found = self._read()
        if found is None or found[1] != version:
            raise Overtaken("the record was changed meanwhile")
        checked_successor(found[0], record)

    def _read(self) -> tuple[Record, str] | None:
        try:
            found = self._register.read()
        except StoreAway as away:
            raise WitnessAway(f"the witness is away: {away}") from away
        if found is None:
            return None
        try:
            return record_from(json.loads(found[0])), found[1]
        except (ValueError, BadRecord) as error:
            raise WitnessAway(f"the witness is unreadable: object {KEY!r} is not a record") from error


def open_bucket_witness(url: str) -> BucketWitness:
    """The lease in the bucket at `url`, after it has shown that it honours conditions. Raises `Invalid`."""
    register = open_register(url, KEY)
    register.prove()
    return BucketWitness(register)
