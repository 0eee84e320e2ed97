"""What a run came to, as a table for people and as data."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from support.chaos.arena import Arena, Suffered
from support.chaos.faults import FOREVER_S
from support.chaos.history import Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of fault."""

    fault: str
    rows: str
    times: int
    operations: int
    failed: int
    longest_gap_s: float
    limit_s: float | None
    """None: everybody has to wait while the fault lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    seed: int
    minutes: float
    operations: int
    acknowledged: int
    """Refs whose push was answered `ok`."""
    unknown: int
    refused: int
    failed: dict[str, int]
    availability: float
    availability_with_retry: float
    findings: Sequence[str]
    rows: Sequence[Row]
    extra: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def report_of(arena: Arena, findings: Sequence[str], *, minutes: float, extra: dict[str, str]) -> Report:
    verdicts = [each.verdict for each in arena.operations if isinstance(each, Write)]
    return Report(
        seed=arena.seed,
        minutes=round(minutes, 1),
        operations=arena.tally.operations,
        acknowledged=verdicts.count("ok"),
        unknown=verdicts.count("info"),
        refused=verdicts.count("fail") + verdicts.count("refused"),
        failed=dict(arena.tally.failed),
        availability=arena.tally.availability(with_retry=False),
        availability_with_retry=arena.tally.availability(with_retry=True),
        findings=list(dict.fromkeys(findings)),
        rows=rows_of(arena.suffered),
        extra=extra,
    )


def rows_of(suffered: Sequence[Suffered]) -> list[Row]:
    by_name: dict[str, list[Suffered]] = defaultdict(list)
    for each in suffered:
        by_name[each.fault.name].append(each)
    return [
        Row(
            fault=name,
            rows=group[0].fault.rows,
            times=len(group),
            operations=sum(each.operations for each in group),
            failed=sum(each.failed for each in group),
            longest_gap_s=round(max(each.gap_s for each in group), 2),
            limit_s=None if group[0].fault.gap_s_max >= FOREVER_S else group[0].fault.gap_s_max,
        )
        for name, group in sorted(by_name.items())
    ]


def _judged(findings: Sequence[str]) -> str:
    return f"{len(findings)} findings, below" if findings else "nothing lost, half or stale"


def table(report: Report) -> str:
    """Markdown, which is also fine to read in a terminal."""
    counts = (
        f"seed {report.seed}, {report.minutes:g} minutes: {report.operations} operations,"
        f" {report.acknowledged} refs acknowledged, {report.unknown} unknown, {report.refused} refused,"
        f" **{_judged(report.findings)}**"
    )
    head = [
        counts,
        f"answered at once {report.availability:.4%}, with one retry {report.availability_with_retry:.4%}",
        *(f"{name}: {value}" for name, value in report.extra.items()),
        "",
        "| fault | rows | times | operations | failed | longest gap | to reach |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    body = [_line(row) for row in report.rows]
    return "\n".join([*head, *body, "", *(f"- {each}" for each in report.findings)]) + "\n"


def _line(row: Row) -> str:
    limit = "while it lasts" if row.limit_s is None else f"{row.limit_s:g} s"
    counts = f"{row.times} | {row.operations} | {row.failed} | {row.longest_gap_s:.2f} s"
    return f"| {row.fault} | {row.rows} | {counts} | {limit} |"
