"""Is a history of registers linearizable? In linear time, because every written value is unique.

1. What was observed must have been written: the writes that took effect are all `ok` ones and those of
   unknown outcome whose value was seen or built upon. They must form one chain from the initial value.
2. Each link of the chain has an earliest and a latest moment. Writes and reads narrow them; the order of
   the chain carries them on. An empty interval is an answer from the past or from the future.
3. A refusal needs a moment in its window at which the old value was not there.

The moments are chosen as early as possible, and raised only where there is no other way, so that a choice
(`ABSENT` before the first or after the last value; refused before or after) never costs a search.
Sources: Gibbons and Korach 1997 (unique values make the problem easy); Wing and Gong 1993 (see `exact`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from support.chaos.history import ABSENT, FOREVER, Operation, Read, Register, Write

_START = float("-inf")
_GONE = "gone"


@dataclass(frozen=True, slots=True)
class Anomaly:
    kind: str
    """lost update, refused but applied, phantom value, unreachable value, stale read, …"""
    register: Register
    about: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.register.repository} {self.register.ref}: {self.about}"


@dataclass(slots=True)
class Timeline:
    """The values one register had, and when each came at the earliest and at the latest."""

    values: list[str]
    earliest_s: list[float]
    latest_s: list[float]
    place: Mapping[str, int] = field(default_factory=dict)

    def held(self, value: str) -> tuple[float, float] | None:
        """From when at the earliest, until when at the latest, `value` can have been there."""
        at = self.place.get(value)
        if at is None:
            return None
        until_s = self.latest_s[at + 1] if at + 1 < len(self.values) else FOREVER
        return self.earliest_s[at], until_s


def check(
    operations: Iterable[Operation],
    *,
    initial: Mapping[Register, str] | None = None,
    final: Mapping[Register, str] | None = None,
) -> list[Anomaly]:
    """Everything that contradicts a single register with atomic steps; empty when nothing does.

    `final` is what the registers hold when all is over; it counts as one more read after everything else.
    Without it, unknown writes that nobody saw count as not applied, although a refusal may be due to one.
    """
    writes: dict[Register, list[Write]] = defaultdict(list)
    reads: dict[Register, list[Read]] = defaultdict(list)
    for each in operations:
        (writes if isinstance(each, Write) else reads)[each.register].append(each)  # type: ignore[arg-type]
    last_s = (
        max((each.return_s for each in operations), default=0.0) if isinstance(operations, Sequence) else 0.0
    )
    for register, value in (final or {}).items():
        reads[register].append(Read(register=register, value=value, call_s=last_s + 1, return_s=last_s + 1))
    found: list[Anomaly] = []
    for register in sorted({*writes, *reads}, key=lambda each: (each.repository, each.ref)):
        start = (initial or {}).get(register, ABSENT)
        found += _Judge(register, start, writes[register], reads[register]).judge()
    return found


class _Judge:
    """One register."""

    def __init__(self, register: Register, initial: str, writes: list[Write], reads: list[Read]) -> None:
        self._register = register
        self._initial = initial
        self._writes = writes
        self._reads = reads
        self._found: list[Anomaly] = []
        self._chain: list[Write] = []

    def judge(self) -> list[Anomaly]:
        applied = self._applied()
        if self._found or not self._link(applied):
            return self._found
        self._narrow()
        return self._found

    def _complain(self, kind: str, about: str) -> None:
        self._found.append(Anomaly(kind, self._register, about))

    def _applied(self) -> dict[str, Write]:
        """By new value: the writes that took effect."""
        writer: dict[str, Write] = {}
        for each in self._writes:
            name = _written(each)
            if name in writer and each.new != ABSENT:
                self._complain("value written twice", name)
            if name not in writer or each.verdict == "ok":
                writer[name] = each
        wanted = [_written(each) for each in self._writes if each.verdict == "ok"]
        wanted += [each.value for each in self._reads if each.value not in (ABSENT, self._initial)]
        if self._needs_deletion():
            wanted += [_written(each) for each in self._writes if each.new == ABSENT][:1]
        applied: dict[str, Write] = {}
        while wanted:
            value = wanted.pop()
            if value in applied or value == self._initial:
                continue
            write = writer.get(value)
            if write is None:
                self._complain("phantom value", f"{value} was seen, and nobody wrote it")
                continue
            if write.verdict in ("fail", "refused"):
                self._complain("refused but applied", f"{write.old} to {value}")
                continue
            applied[value] = write
            wanted.append(write.old)
        return applied

    def _needs_deletion(self) -> bool:
        """Somebody saw nothing after something certainly was there: then an unknown deletion took effect."""
        deletions = [each for each in self._writes if each.new == ABSENT]
        if not deletions or any(each.verdict == "ok" for each in deletions):
            return False
        first_s = min(
            (each.return_s for each in self._writes if each.verdict == "ok" and each.new != ABSENT),
            default=FOREVER if self._initial == ABSENT else _START,
        )
        return any(each.value == ABSENT and each.call_s > first_s for each in self._reads)

    def _link(self, applied: Mapping[str, Write]) -> bool:
        """Put the applied writes into their one possible order."""
        after: dict[str, Write] = {}
        for write in applied.values():
            if write.old in after:
                self._complain(
                    "lost update", f"{write.old} was replaced by {write.new} and {after[write.old].new}"
                )
            after[write.old] = write
        value = self._initial
        while value in after and len(self._chain) < len(applied):
            self._chain.append(after[value])
            value = _written(after[value])
        if not self._found and len(self._chain) != len(applied):
            lost = sorted(set(applied) - {_written(each) for each in self._chain})
            self._complain("unreachable value", f"{lost[:3]} cannot follow from {self._initial}")
        return not self._found

    def _narrow(self) -> None:
        line = self._timeline()
        absent: list[Read] = []
        for read in self._reads:
            if read.value == ABSENT and absent_again(line):
                absent.append(read)
            elif read.value not in line.place:
                self._complain("stale read", f"nothing seen, though {self._initial} was there from the start")
            else:
                _apply(line, line.place[read.value], read.call_s, read.return_s)
        _carry(line)
        while self._raise_where_needed(line, absent):
            _carry(line)
        for at, value in enumerate(line.values):
            if line.earliest_s[at] > line.latest_s[at]:
                late_s = line.earliest_s[at] - line.latest_s[at]
                self._complain("stale or future read", f"{value} would be {late_s:.3f} s out of order")
                return

    def _timeline(self) -> Timeline:
        values = [self._initial, *(_written(each) for each in self._chain)]
        return Timeline(
            values=values,
            earliest_s=[_START, *(each.call_s for each in self._chain)],
            latest_s=[FOREVER, *(each.until_s for each in self._chain)],
            place={value: at for at, value in enumerate(values)},
        )

    def _raise_where_needed(self, line: Timeline, absent: Sequence[Read]) -> bool:
        """Move earliest moments up for the constraints with a choice. True when anything moved."""
        moved = False
        for read in absent:
            # Before the first value or after the last: the second costs nothing if it can be.
            if line.earliest_s[-1] > read.return_s and line.earliest_s[1] < read.call_s:
                if self._initial != ABSENT:
                    self._complain("stale read", f"nothing seen before {line.values[-2]} was deleted")
                    return False
                line.earliest_s[1] = read.call_s
                moved = True
        for write in self._writes:
            at = line.place.get(write.old)
            if write.verdict != "fail" or at is None or (write.old == ABSENT and absent_again(line)):
                continue
            replaced_in_time = at + 1 < len(line.values) and line.earliest_s[at + 1] <= write.return_s
            if not replaced_in_time and line.earliest_s[at] < write.call_s:
                if at == 0:
                    self._complain("refused for nothing", f"{write.old} was there all the time")
                    return False
                line.earliest_s[at] = write.call_s
                moved = True
        return moved


def absent_again(line: Timeline) -> bool:
    """Whether nothing is there a second time; a refusal to create is not judged then."""
    return line.values[-1].startswith(_GONE)


def _written(write: Write) -> str:
    """The value as the chain names it: nothing, after something, is not the nothing of the beginning."""
    return write.new if write.new != ABSENT else f"{_GONE} {write.old}"


def _apply(line: Timeline, at: int, call_s: float, return_s: float) -> None:
    """A read of value `at`: it came before the answer, and the next not before the question."""
    line.latest_s[at] = min(line.latest_s[at], return_s)
    if at + 1 < len(line.values):
        line.earliest_s[at + 1] = max(line.earliest_s[at + 1], call_s)


def _carry(line: Timeline) -> None:
    """Values come in order: what holds for one holds for all after it, and before it."""
    for at in range(1, len(line.values)):
        line.earliest_s[at] = max(line.earliest_s[at], line.earliest_s[at - 1])
    for at in range(len(line.values) - 2, -1, -1):
        line.latest_s[at] = min(line.latest_s[at], line.latest_s[at + 1])


def half_pushes(
    writes: Iterable[Write], final: Mapping[Register, str], seen: Iterable[str] = ()
) -> list[Anomaly]:
    """Atomic pushes of unknown outcome of which a part was applied and a part was not.

    `seen` are all values that anybody ever saw. A value that is in none of them may have been overwritten
    before anybody looked, which only a push whose ref is not moved again can exclude: use such refs.
    """
    observed = {*final.values(), *seen}
    pushes: dict[str, list[Write]] = defaultdict(list)
    for each in writes:
        if each.atomic and each.push:
            pushes[each.push].append(each)
    found = []
    for name, parts in pushes.items():
        applied = [each for each in parts if each.new in observed]
        if applied and len(applied) != len(parts):
            found.append(
                Anomaly("half push", parts[0].register, f"{name}: {len(applied)} of {len(parts)} refs")
            )
    return found
