"""`mainstay doctor`: what is wrong here, and with `--ha`: what would a single loss stop?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from mainstay.boot.settings import NodeSettings, load_for_command
from mainstay.cli.frame import NoDataDirectory, data_option, json_option, quiet, show, table
from mainstay.foundation.errors import MainstayError
from mainstay.ops.checkup import Finding, look_at_machine

_VERDICTS = ("ok", "warning", "failed")
_FAILED = 2


@click.command
@click.option("--ha", is_flag=True, help="Also judge whether the cluster survives the loss of any one part.")
@data_option
@json_option
def command(data: Path | None, as_json: bool, ha: bool) -> int:
    """Look at this machine, the database, the object store and all nodes, and say what is wrong.

    With --ha every single point of failure that is left is listed, and a cluster whose database has no
    synchronous standby is refused that name. Exit code 0: all is well; 1: warnings; 2: something is broken,
    or missing for high availability.
    """
    quiet()
    settings = load_for_command(data)
    if not settings.data.is_dir():
        raise NoDataDirectory(
            f"{settings.data} is not there: name the data directory of the node with --data"
        )
    from mainstay.ops.doctor import exit_code_of, single_points_of  # noqa: PLC0415 - `--help` does not pay for it

    findings = [*look_at_machine(settings.data), *_look_at_cluster(settings, ha=ha)]
    code = exit_code_of(findings)
    points = single_points_of(findings) if ha else []
    answer = {
        "verdict": _VERDICTS[code],
        "findings": [asdict(finding) for finding in findings],
        **(
            {"highly_available": not points and code < _FAILED, "single_points_of_failure": points}
            if ha
            else {}
        ),
    }
    show(answer, as_json=as_json, text=_text(findings, points, ha=ha))
    return code


def _look_at_cluster(settings: NodeSettings, *, ha: bool) -> list[Finding]:
    from mainstay.boot.stores import opened_stores  # noqa: PLC0415 - a broken driver is a finding, not a crash
    from mainstay.cluster.nodes import live_nodes  # noqa: PLC0415 - same
    from mainstay.cluster.softstate import location_of, problem_of  # noqa: PLC0415 - same
    from mainstay.ops import doctor, standbys  # noqa: PLC0415 - same
    from mainstay.storage.identity import read_marker  # noqa: PLC0415 - same

    try:
        with opened_stores(settings) as stores:
            found = "its marker is there" if read_marker(stores.objects) else ""
            nodes = live_nodes(stores.database)
            is_postgresql = stores.database.dialect == "postgresql"
            replication = standbys.look(stores.database, try_commit=ha) if is_postgresql else None
    except MainstayError as error:
        return [Finding("stores", "failed", str(error))]
    seen = doctor.Seen(
        database_url=settings.database_url,
        object_store=settings.object_store,
        declared=settings.declared_ha,
        nodes=nodes,
        replication=replication,
    )
    redis = doctor.judge_redis(
        settings.redis_url, problem_of(location_of(settings.redis_url)) if settings.redis_url else ""
    )
    marker = Finding("instance marker", "ok" if found else "failed", found or "the object store has none")
    return [marker, *doctor.judge_agreement(nodes), redis, *(doctor.judge_ha(seen) if ha else [])]


def _text(findings: Sequence[Finding], points: Sequence[str], *, ha: bool) -> str:
    rows = [(finding.verdict.upper(), finding.name, finding.says) for finding in findings]
    shown = table(["", "what", ""], rows)
    if not ha:
        return shown
    if points:
        return f"{shown}\n\nNot highly available yet. Single points of failure: {', '.join(points)}."
    return f"{shown}\n\nHighly available: no part is single."
