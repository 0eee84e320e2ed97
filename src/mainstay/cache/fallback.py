"""The ledger, read from what was known while the database is away.

In good times every repository that is fetched from is noted whole (refs, manifest) in a thread beside, at
one version, and again when it has moved since, so that what is known is seconds old when an outage begins.
In an outage the reading methods that a fetch needs answer from there, so that all that a fetch sees is of
that one version; the packs are in the cache, and a missing one comes from the object store. Whatever writes
asks the database, and fails.
"""

import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict

from mainstay.cache.known import KnownFile
from mainstay.cache.outage import Outage
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError, NotFound
from mainstay.foundation.logs import get_logger
from mainstay.git.objectnames import Oid, RefName
from mainstay.storage.database import Database, DatabaseAway
from mainstay.storage.ledger import Pack, Ref, RefChange, Repository, Snapshot
from mainstay.storage.ledger.repositories import versions_of
from mainstay.storage.ledger.sql import SqlLedger

log = get_logger()

_KIND = "repository"
_NOTE_EVERY_S = 1.0
_NOTED_PER_ROUND_MAX = 100
_REFRESH_EVERY_S = 5.0
_REFRESHED_MAX = 1_000
_VALUE_BYTES_MAX = 32 << 20


class FallbackLedger(SqlLedger):
    """A `Ledger` whose reads survive the database. `start` it, and `close` it at the end."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        known: KnownFile,
        outage: Outage,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(database, clock, tell=tell)
        self._known = known
        self._outage = outage
        self._wanted: set[int] = set()
        self._noted: OrderedDict[int, int] = OrderedDict()
        """By repository, the version; who was noted last comes last."""
        self._refresh_due_s = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._note_until_stopped, name="known", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()

    def repository(self, repository_id: int) -> Repository:
        if self._outage.is_on:
            return self._remembered(repository_id).repository
        return super().repository(repository_id)

    def refs(self, repository_id: int) -> tuple[int, list[Ref]]:
        if self._outage.is_on:
            snapshot = self._remembered(repository_id)
            return snapshot.repository.version, list(snapshot.refs)
        return super().refs(repository_id)

    def ref_changes(
        self, repository_id: int, *, after: int, limit: int = 10_000
    ) -> tuple[int, list[tuple[int, RefChange]]] | None:
        if self._outage.is_on:
            return None
        return super().ref_changes(repository_id, after=after, limit=limit)

    def packs(self, repository_id: int) -> tuple[int, int, list[Pack]]:
        if self._outage.is_on:
            snapshot = self._remembered(repository_id)
            repository = snapshot.repository
            return repository.version, repository.manifest_version, list(snapshot.packs)
        found = super().packs(repository_id)
        if self._noted.get(repository_id) != found[0]:
            with self._lock:
                self._wanted.add(repository_id)
        return found

    def _remembered(self, repository_id: int) -> Snapshot:
        self._outage.check_window()
        found = self._known.find(_KIND, str(repository_id))
        if found is None:
            raise DatabaseAway("the database is away, and this repository was not fetched here lately")
        return decoded(found.value)

    def _note_until_stopped(self) -> None:
        while not self._stopping.wait(_NOTE_EVERY_S):
            self.note_round()

    def note_round(self) -> None:
        """Note what was fetched since the last round, and now and then what has moved since it was noted."""
        if self._clock.monotonic_s() >= self._refresh_due_s:
            self._refresh_due_s = self._clock.monotonic_s() + _REFRESH_EVERY_S
            self._want_what_moved()
        with self._lock:
            wanted, self._wanted = self._wanted, set()
        for repository_id in list(wanted)[:_NOTED_PER_ROUND_MAX]:
            self._note(repository_id)

    def _want_what_moved(self) -> None:
        noted = dict(list(self._noted.items())[-_REFRESHED_MAX:])
        if not noted or self._outage.last_failed():
            return
        try:
            with self.database.read() as tx:
                now = versions_of(tx, list(noted))
        except MainstayError as error:
            log.debug("known.not_refreshed", because=str(error))
            return
        with self._lock:
            self._wanted |= {number for number, version in noted.items() if now.get(number) != version}

    def _note(self, repository_id: int) -> None:
        try:
            snapshot = self.snapshot(repository_id)
            value = encoded(snapshot)
            if len(value) <= _VALUE_BYTES_MAX:
                self._known.note(_KIND, str(repository_id), value)
            self._noted[repository_id] = snapshot.repository.version
            self._noted.move_to_end(repository_id)
            if len(self._noted) > _REFRESHED_MAX:
                self._noted.popitem(last=False)
        except NotFound:
            self._noted.pop(repository_id, None)
            self._known.forget(_KIND, str(repository_id))
        except MainstayError as error:
            log.debug("known.not_noted", repository_id=repository_id, because=str(error))


def encoded(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes; names of refs may be any bytes, so they travel as Latin-1."""
    repository = asdict(snapshot.repository) | {"head": snapshot.repository.head.decode("latin-1")}
    refs = [(ref.name.decode("latin-1"), ref.oid, ref.peeled) for ref in snapshot.refs]
    packs = [asdict(pack) for pack in snapshot.packs]
    text = json.dumps({"repository": repository, "refs": refs, "packs": packs, "hash": snapshot.hash})
    return zlib.compress(text.encode(), 1)


def decoded(value: bytes) -> Snapshot:
    facts = json.loads(zlib.decompress(value))
    repository = facts["repository"]
    return Snapshot(
        repository=Repository(**repository | {"head": RefName(repository["head"].encode("latin-1"))}),
        refs=[_ref(name, oid, peeled) for name, oid, peeled in facts["refs"]],
        packs=[Pack(**pack | {"artefacts": tuple(pack["artefacts"])}) for pack in facts["packs"]],
        hash=facts["hash"],
    )


def _ref(name: str, oid: str, peeled: str | None) -> Ref:
    return Ref(RefName(name.encode("latin-1")), Oid(oid), None if peeled is None else Oid(peeled))
