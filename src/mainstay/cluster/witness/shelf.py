"""Where a witness process keeps its record: one file, replaced whole and synced before it answers.

It survives `kill -9` and power cuts. For how long the record has not changed is not kept: a process that was
started again counts from its start, which is later than the truth and so on the safe side.

A version is the count of changes under a name that the file got when it was made. A witness that has lost its
disk therefore never gives a version that it has given before.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
from mainstay.foundation.errors import Conflict
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.private_files import replace_file

RECORD_FILE: Final = "record.json"
KEPT: Final = declare("witness.kept", "the witness has synced the new record and answered nobody yet")


class InUse(Conflict):
    """Another witness has this directory."""


class ShelfWitness:
    """The record in `directory`. Safe for use from several threads of one process."""

    def __init__(self, directory: Path, *, clock_s: Callable[[], float] = since_boot_s) -> None:
        """Raises `WitnessAway` when the file is not readable: who remembers nothing decides nothing."""
        self._file = directory / RECORD_FILE
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._name, self._count, self._record = self._kept()
        self._changed_s = clock_s()

    def look(self) -> Seen | None:
        with self._lock:
            if self._record is None:
                return None
            return Seen(self._record, self._version(), self._clock_s() - self._changed_s)

    def swap(self, version: str | None, record: Record) -> str:
        with self._lock:
            if version != (None if self._record is None else self._version()):
                raise Overtaken("the record was changed meanwhile")
            checked_successor(self._record, record)
            self._keep(self._count + 1, record)
            failpoint(KEPT)
            self._count, self._record = self._count + 1, record
            self._changed_s = self._clock_s()
            return self._version()

    def _version(self) -> str:
        return f"{self._name}-{self._count}"

    def _keep(self, count: int, record: Record) -> None:
        said = {"name": self._name, "count": count, "record": record_said(record)}
        try:
            replace_file(self._file, json.dumps(said).encode(), durable=True)
        except OSError as error:
            # It may be there or not. The next look tells: it is read anew.
            self._name, self._count, self._record = self._kept()
            self._changed_s = self._clock_s()
            raise WitnessAway(f"the witness cannot keep the record: {error.strerror}") from error

    def _kept(self) -> tuple[str, int, Record | None]:
        try:
            said = json.loads(self._file.read_bytes())
            return str(said["name"]), int(said["count"]), record_from(said["record"])
        except FileNotFoundError:
            return new_ulid(), 0, None
        except (OSError, ValueError, KeyError, TypeError, BadRecord) as error:
            raise WitnessAway(f"the witness cannot read {self._file}: {error}") from error


@contextmanager
def only_user(directory: Path) -> Iterator[None]:
    """Keep every other witness process out of `directory` for the block. Raises `InUse`."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"another witness uses {directory}: stop it, or choose another --data") from None
        yield
    finally:
        os.close(descriptor)
