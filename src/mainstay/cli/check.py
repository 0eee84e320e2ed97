"""`mainstay check`: is this machine set up well for a node?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from mainstay.boot.settings import NodeSettings, load_for_command
from mainstay.cli.frame import data_option, json_option, quiet, show, table
from mainstay.foundation.errors import MainstayError
from mainstay.ops.checkup import Finding, look_at_machine

_WORST = {"ok": 0, "warning": 1, "failed": 2}


@click.command
@data_option
@json_option
def command(data: Path | None, as_json: bool) -> int:
    """Look at the machine, the settings, the database and the object store. Changes nothing.

    Exit code 0: all is well, warnings aside; 1: something has to be mended.
    """
    quiet()
    settings = load_for_command(data)
    findings = [*look_at_machine(settings.data), *_look_at_stores(settings)]
    rows = [(finding.verdict.upper(), finding.name, finding.says) for finding in findings]
    shown = {"verdict": _worst(findings), "findings": [asdict(finding) for finding in findings]}
    show(shown, as_json=as_json, text=table(["", "what", ""], rows))
    return 1 if _worst(findings) == "failed" else 0


def _worst(findings: Sequence[Finding]) -> str:
    return max((finding.verdict for finding in findings), key=lambda verdict: _WORST[verdict])


def _look_at_stores(settings: NodeSettings) -> list[Finding]:
    """The same looks as `/-/readiness?all=1`. Before the first start there is nothing to look at."""
    from mainstay.boot.stores import opened_stores  # noqa: PLC0415 - a broken driver is a finding, not a crash
    from mainstay.boot.watching import dependencies_of  # noqa: PLC0415 - same
    from mainstay.doors.health.checks import ALL  # noqa: PLC0415 - same

    if not settings.data.is_dir():
        return []
    try:
        with opened_stores(settings) as stores:
            checks = [look(dependencies_of(stores)) for look in ALL]
    except MainstayError as error:
        return [Finding("stores", "failed", str(error))]
    return [
        Finding(
            check.name.removesuffix("_check"),
            "failed" if check.problem else "ok",
            check.problem or f"answered in {check.latency_ms or 0:.1f} ms",
        )
        for check in checks
    ]
