"""How far a replica is behind, stream by stream, and whether somebody should look: OK, warning, critical.

A stream is the database, one class of objects, or the settings. Pure: from what was measured to a level with
its reason, and to the one line that monitoring of the Nagios kind reads.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, Final

DATABASE: Final = "database"
SETTINGS: Final = "settings"


class Level(IntEnum):
    """Also the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    warning_s: float = 60.0
    critical_s: float = 600.0
    warning_bytes: int = 256 * 1024**2
    critical_bytes: int = 4 * 1024**3
    silent_warning_s: float = 15.0
    """Without a word of the other side."""
    silent_critical_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One of those that a replica follows. None: not known now."""

    name: str
    bytes: int | None = None
    items: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of one replica."""

    site: str
    mode: str = "async"
    state: str = "active"
    delay_s: int = 0
    silent_s: float | None = None
    """Since the other side was last heard; None: never."""
    needs_a_copy: bool = False
    is_synchronous: bool = False
    """Whether commits wait for it now."""
    streams: Sequence[Stream] = field(default_factory=tuple)
    note: str = ""
    """What else is wrong."""
    failure: str = ""
    """What makes all else not matter."""


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    because: str


def judge(report: Report, limits: Thresholds | None = None) -> Finding:
    """The worst of all that is to be said, and why."""
    limits = limits or Thresholds()
    if report.failure:
        return Finding(Level.CRITICAL, report.failure)
    found = [
        *_of_site(report, limits),
        *(_of_stream(stream, report.delay_s, limits) for stream in report.streams),
    ]
    return max(found, key=lambda finding: finding.level, default=Finding(Level.OK, "up to date"))


def _of_site(report: Report, limits: Thresholds) -> list[Finding]:
    found = []
    if report.needs_a_copy:
        found.append(
            Finding(
                Level.CRITICAL, "it was away for too long and needs a new copy: `mainstay replica add` again"
            )
        )
    if report.state == "paused":
        found.append(Finding(Level.WARNING, "it is paused: `mainstay replica resume` lets it go on"))
    if report.note:
        found.append(Finding(Level.WARNING, report.note))
    if report.silent_s is None:
        found.append(Finding(Level.CRITICAL, "it was never heard"))
    elif report.silent_s > limits.silent_warning_s:
        level = Level.CRITICAL if report.silent_s > limits.silent_critical_s else Level.WARNING
        found.append(Finding(level, f"not heard for {report.silent_s:.0f} s"))
    if report.mode == "sync" and report.state != "paused" and not report.is_synchronous:
        found.append(Finding(Level.WARNING, "pushes do not wait for it yet: it is still catching up"))
    return found


def _of_stream(stream: Stream, delay_s: int, limits: Thresholds) -> Finding:
    """A delayed replica is behind by its delay, as it should be."""
    late_s = max(0.0, (stream.seconds or 0.0) - (delay_s if stream.name == DATABASE else 0))
    size = 0 if delay_s and stream.name == DATABASE else (stream.bytes or 0)
    if stream.bytes is None and stream.seconds is None and stream.items is None:
        return Finding(Level.WARNING, f"{stream.name}: not known")
    for level, most_s, most in (
        (Level.CRITICAL, limits.critical_s, limits.critical_bytes),
        (Level.WARNING, limits.warning_s, limits.warning_bytes),
    ):
        if late_s > most_s:
            return Finding(level, f"{stream.name} is {late_s:.0f} s behind")
        if size > most:
            return Finding(level, f"{stream.name} is {size} bytes behind")
    return Finding(Level.OK, "up to date")


def overall(findings: Sequence[Finding]) -> Level:
    return max((finding.level for finding in findings), default=Level.OK)


def headline(reports: Sequence[Report], limits: Thresholds | None = None) -> str:
    """`REPLICAS OK - berlin up to date | berlin_lag=0.0s;60;600 …`, as Nagios reads it."""
    limits = limits or Thresholds()
    findings = [judge(report, limits) for report in reports]
    level = overall(findings)
    said = "; ".join(
        f"{report.site} {finding.because}" for report, finding in zip(reports, findings, strict=True)
    )
    numbers = " ".join(
        f"{report.site}_lag={_lag_s(report):.1f}s;{limits.warning_s:.0f};{limits.critical_s:.0f}"
        for report in reports
    )
    return f"REPLICAS {level.name} - {said or 'there are none'}" + (f" | {numbers}" if numbers else "")


def _lag_s(report: Report) -> float:
    return max((stream.seconds or 0.0 for stream in report.streams), default=0.0)


def rows(report: Report) -> list[tuple[str, str, str, str]]:
    """For people: stream, seconds, items, bytes."""
    return [
        (
            stream.name,
            "?" if stream.seconds is None else f"{stream.seconds:.1f}",
            "-" if stream.items is None else str(stream.items),
            "?" if stream.bytes is None else str(stream.bytes),
        )
        for stream in report.streams
    ]


def as_answer(report: Report, limits: Thresholds | None = None) -> dict[str, Any]:
    """For `--json` and the API."""
    finding = judge(report, limits)
    streams = [asdict(stream) for stream in report.streams]
    return {
        **asdict(report),
        "streams": streams,
        "level": finding.level.name.lower(),
        "because": finding.because,
    }
