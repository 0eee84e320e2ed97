"""The third vote: so that of two machines one can take over from the other without a person.

A witness keeps one record, changed only by who has read it (compare-and-swap), and says for how long it
has not changed. `process` asks a tiny server of ours (`shelf` and `doors.witness`), `bucket` an object in a
store, `memory` is the twin for tests; all pass `tests/contracts/test_witness.py`. `decisions` says who may do
what, and why; `tenure` is a primary that keeps its lease, `candidacy` a replica that may take over: both
without input and output, driven by threads in life (`keeping`, `watching`) and by a simulated world in
`tests/simulation`.

Two of three votes (primary, replica, witness) are needed to write. A primary that hears from the witness has
two. When the witness is away, the synchronous replica may promise not to take over for a while, which makes
two as well. No clocks are compared: each machine measures durations on its own (`terms`).
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from mainstay.foundation.errors import Conflict, Invalid, Unavailable
from mainstay.storage.database.fence import Claim

TEXT_LENGTH_MAX = 2048
NUMBER_MAX = 2**63 - 1


class WitnessAway(Unavailable):
    """It did not answer. What was asked of it may have happened or not."""


class Overtaken(Conflict):
    """The record is not the one that was read."""


class BadRecord(Invalid):
    """Not a record, or one that must not follow the one there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What all three agree on."""

    epoch: int
    primary: str
    """The site that may write, as long as it renews."""
    name: str = ""
    url: str = ""
    standby: str = ""
    """The one site that has everything that was ever acknowledged, and may take over; empty: none has."""
    position: int = 0
    """How far the standby was at the last renewal, in the database's log."""
    term_ms: int = 10_000
    """So long after a change nobody may take over."""
    renewal: int = 0
    """Counted by the primary, so that no two records are alike."""

    @property
    def is_synchronous(self) -> bool:
        """Whether a replica may be promoted without loss."""
        return bool(self.standby)

    @property
    def claim(self) -> Claim:
        return Claim(self.epoch, self.primary, self.name, self.url)


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer of the witness."""

    record: Record
    version: str
    age_s: float
    """The record has been what it is for at least so long. Never too high; after a restart of the witness, or
    at the first look into a bucket, too low."""


class Witness(Protocol):
    """Where the record is kept. All calls end within a few seconds. Raises `WitnessAway`."""

    def look(self) -> Seen | None:
        """The record as it is now; None: nobody has enrolled."""
        ...

    def swap(self, version: str | None, record: Record) -> str:
        """Replace the record that was read as `version` (None: none). The new version.

        When this returns, the record survives the loss of power of the witness. Raises `Overtaken` when
        there is another record, `BadRecord` when `record` must not follow it.
        """
        ...


def checked_successor(before: Record | None, after: Record) -> Record:
    """Epochs never fall, and never change hands without rising. Raises `BadRecord`."""
    if before is None or after.epoch > before.epoch:
        return after
    if after.epoch < before.epoch or after.primary != before.primary:
        raise BadRecord(
            f"epoch {after.epoch} of {after.primary} cannot follow {before.epoch} of {before.primary}"
        )
    return after


def record_said(record: Record) -> dict[str, Any]:
    """As JSON has it."""
    return asdict(record)


def record_from(said: object) -> Record:
    """The record in what JSON said. Raises `BadRecord`."""
    if not isinstance(said, dict) or said.keys() != {field.name for field in fields(Record)}:
        raise BadRecord("not a record of a witness")
    for name, value in said.items():
        if name in _NUMBERS:
            _check_number(name, value)
        elif not isinstance(value, str) or len(value) > TEXT_LENGTH_MAX:
            raise BadRecord(f"{name} is not a text of up to {TEXT_LENGTH_MAX} characters")
    if not said["primary"] or said["standby"] == said["primary"]:
        raise BadRecord("a record names a primary, and another site as its standby")
    return Record(**said)


_NUMBERS = {"epoch", "position", "term_ms", "renewal"}


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= NUMBER_MAX:
        raise BadRecord(f"{name} is not a number from 0 to {NUMBER_MAX}")
