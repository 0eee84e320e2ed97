"""What clients asked and what they were told, with the times of one monotonic clock.

A ref of a repository is a register. A push of one ref is a compare-and-swap of it, and every value written
is unique (a fresh commit), except that deleting writes `ABSENT`, after which that ref is left alone.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

ABSENT = "0" * 40
FOREVER = float("inf")

Verdict = Literal["ok", "fail", "refused", "info"]
"""`ok`: reported as done. `fail`: refused because the old value was not there. `refused`: for another reason,
but not applied. `info`: nobody knows, it may be applied at any later time."""


@dataclass(frozen=True, slots=True)
class Register:
    repository: str
    ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One ref of one push."""

    register: Register
    old: str
    new: str
    verdict: Verdict
    call_s: float
    return_s: float
    client: str = ""
    push: str = ""
    """The same for all refs of one push."""
    atomic: bool = False

    @property
    def until_s(self) -> float:
        """When it has happened at the latest, if it happens at all."""
        return FOREVER if self.verdict == "info" else self.return_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One ref of one listing."""

    register: Register
    value: str
    call_s: float
    return_s: float
    client: str = ""
    listing: str = ""
    """The same for all refs of one answer."""


Operation = Write | Read


class Recorder:
    """Collects operations from many threads; kept in a file as they come, so that a crash keeps them too."""

    def __init__(self, file: Path | None = None) -> None:
        self._lock = Lock()
        self._operations: list[Operation] = []
        self._out = file.open("a") if file else None

    def add(self, *operations: Operation) -> None:
        with self._lock:
            self._operations += operations
            if self._out:
                self._out.writelines(f"{as_line(each)}\n" for each in operations)
                self._out.flush()

    @property
    def operations(self) -> Sequence[Operation]:
        with self._lock:
            return list(self._operations)

    def close(self) -> None:
        if self._out:
            self._out.close()


def as_line(operation: Operation) -> str:
    return json.dumps({"kind": type(operation).__name__, **asdict(operation)})


def from_lines(lines: Iterable[str]) -> Iterator[Operation]:
    for line in lines:
        facts = json.loads(line)
        facts["register"] = Register(**facts["register"])
        yield (Write if facts.pop("kind") == "Write" else Read)(**facts)
