"""`mainstay dns`: names that follow the primary.

mainstay dns check
mainstay dns update --to paris
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mainstay.cli.frame import data_option, json_option, quiet, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mainstay.ops.checkup import Finding
    from mainstay.ops.traffic.checking import Moved
    from mainstay.ops.traffic.choice import Traffic

_VERDICTS = ("ok", "warning", "failed")
_FAILED = 2


@click.group
def command() -> None:
    """Names that follow the primary."""


@command.command
@click.option("--to", default="", metavar="SITE", help="Say only what a promotion of this site would do.")
@data_option
@json_option
def check(to: str, data: Path | None, as_json: bool) -> int:
    """Say what a promotion would change, and whether it could. Changes nothing.

    Asks the authoritative name server, tries the credentials, judges the TTLs, and asks the servers that the
    world asks. Exit code 0: all is well; 1: warnings; 2: a promotion could not move a name.
    """
    traffic = _traffic(data)
    from mainstay.ops.traffic import checking  # noqa: PLC0415 - `--help` does not pay for it

    findings = checking.check(traffic, to=to)
    code = checking.exit_code_of(findings)
    answer = {"verdict": _VERDICTS[code], "findings": [asdict(finding) for finding in findings]}
    show(answer, as_json=as_json, text=_text(findings))
    return code


@command.command
@click.option(
    "--to", required=True, metavar="SITE|VALUE", help="A site of dns_records, or a value for one name."
)
@click.option("--name", default="", metavar="NAME", help="Only this name.  [default: all of dns_records]")
@click.option(
    "--epoch",
    type=click.IntRange(0),
    metavar="N",
    help="What stands beside the name from then on.  [default: what stands there]",
)
@data_option
@json_option
def update(to: str, name: str, epoch: int | None, data: Path | None, as_json: bool) -> int:
    """Lead names to a site by hand, as after a promotion whose update failed.

    Never to an earlier epoch than the one beside the name. Exit code 0: all lead there now; 2: one does not.
    """
    traffic = _traffic(data)
    from mainstay.ops.traffic import checking  # noqa: PLC0415 - `--help` does not pay for it

    moved = checking.update_by_hand(traffic, to=to, name=name, epoch=epoch)
    show({"records": [asdict(each) for each in moved]}, as_json=as_json, text=_told(moved))
    return 0 if all(each.is_done for each in moved) else _FAILED


def _traffic(data: Path | None) -> "Traffic":
    quiet()
    from mainstay.boot.settings import load_for_command, traffic_of  # noqa: PLC0415 - `--help` does not pay for it

    return traffic_of(load_for_command(data))


def _text(findings: "Sequence[Finding]") -> str:
    return table(["", "what", ""], [(each.verdict.upper(), each.name, each.says) for each in findings])


def _told(moved: "Sequence[Moved]") -> str:
    return table(
        ["", "what", ""], [("OK" if each.is_done else "FAILED", each.what, each.says) for each in moved]
    )
