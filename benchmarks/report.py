"""The result: a table for people, JSON for later, a page for the documentation."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Measurement
from benchmarks.repository import Facts, run_git

_HERE = Path(__file__).parent
_PAGE = _HERE.parent / "docs" / "reference" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found."""

    at: str
    commit: str
    machine: str
    git: str
    rounds: int
    repository: Facts
    measurements: list[Measurement]

    @property
    def is_kept(self) -> bool:
        """Were all promises kept, as far as they could be measured?"""
        return all(measurement.is_kept is not False for measurement in self.measurements)


def report(repository: Facts, rounds: int, measurements: list[Measurement]) -> Report:
    return Report(
        at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        commit=run_git("-C", _HERE, "rev-parse", "--short", "HEAD"),
        machine=f"{os.cpu_count()} cores, {_processor()}, Linux {platform.release()}",
        git=run_git("version").removeprefix("git version "),
        rounds=rounds,
        repository=repository,
        measurements=measurements,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def as_table(report: Report) -> str:
    """The table, in Markdown."""
    lines = ["| what | Mainstay | peer | ratio | promise | kept |", "|---|---|---|---|---|---|"]
    lines += [_row(measurement) for measurement in report.measurements]
    return "\n".join(lines)


def _row(measurement: Measurement) -> str:
    ours, peer_name = measurement.median("Mainstay"), _peer(measurement)
    peer = measurement.median(peer_name) if peer_name else None
    ratio = f"{ours / peer:.2f}" if ours is not None and peer else ""
    promise = measurement.promise.words if measurement.promise else ""
    kept = {True: "yes", False: "**no**", None: ""}[measurement.is_kept]
    shown = f"{_number(peer)} ({peer_name})" if peer_name else ""
    name = f"{measurement.name}, {measurement.unit}"
    return f"| {name} | {_number(ours)} | {shown} | {ratio} | {promise} | {kept} |"


def _peer(measurement: Measurement) -> str | None:
    return next((name for name in measurement.values if name != "Mainstay"), None)


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def keep(report: Report) -> list[Path]:
    """Write the JSON and the page; return where they are."""
    data = _HERE / "results" / f"{report.at[:10]}-{report.commit}.json"
    data.parent.mkdir(exist_ok=True)
    data.write_text(json.dumps(asdict(report), indent=1) + "\n")
    _PAGE.parent.mkdir(parents=True, exist_ok=True)
    _PAGE.write_text(_page(report))
    return [data, _PAGE]


def _page(report: Report) -> str:
    served = report.repository
    return f"""# Benchmarks

Written by `make bench` on {report.at}, commit {report.commit}. Machine: {report.machine}, git {report.git}.

Client and servers share the machine and speak over loopback. Every value is the median of {report.rounds}
rounds in alternating order; the machine's speed drifts, so only ratios from one run mean something. Served:
{served.source}: {served.objects:,} objects, {served.refs} refs, {served.pack_bytes / 1e6:.1f} MB; the peers
serve it repacked with a bitmap and a commit-graph. nginx has no access control and OpenSSH one key for one
repository; Mainstay checks a token or key and the rights of its owner with every request, and syncs a push to
disk.

{as_table(report)}
"""
