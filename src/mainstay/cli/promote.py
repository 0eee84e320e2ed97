"""`mainstay promote`: make this replica the primary."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mainstay.cli.frame import data_option, json_option, opened, show
from mainstay.foundation import failpoints
from mainstay.foundation.clock import SYSTEM, iso8601
from mainstay.foundation.errors import Invalid
from mainstay.foundation.settings import from_environment

if TYPE_CHECKING:
    from mainstay.boot.promotion import Promoted
    from mainstay.boot.promotion_plan import Plan


class NotAsked(Invalid):
    """Nobody is there to say yes."""


@click.command
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Although the primary answers.")
@click.option(
    "--to-time",
    metavar="TIME",
    help="Of a delayed replica: only what was committed before, such as 2026-12-24T22:00+01:00.",
)
@click.option(
    "--check", "only_check", is_flag=True, help="Only say what would be lost. Exit code 5: refused."
)
@click.option(
    "--without-witness",
    is_flag=True,
    help="The witness is gone for ever; nobody else may take over. Turns automatic failover off.",
)
@data_option
@json_option
def command(
    *,
    yes: bool,
    force: bool,
    to_time: str | None,
    only_check: bool,
    without_witness: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Make this replica the primary, when the primary is gone.

    Prints first exactly what would be lost. Each step can be repeated: killed in the middle, the same command
    goes on.
    """
    failpoints.arm(from_environment("FAILPOINTS") or "")
    to_time_ms = _moment(to_time) if to_time else None
    with opened(data, orm=False) as stores:
        from mainstay.boot import promotion, promotion_plan, witnessing  # noqa: PLC0415 - `--help` does not pay for a database
        from mainstay.ops.sites.promotion import NotPromotable, Refuse  # noqa: PLC0415 - same

        plan = promotion_plan.plan(stores, is_forced=force, to_time_ms=to_time_ms)
        decision = plan.decision
        if isinstance(decision, Refuse) and decision.is_done:
            show({"state": "primary", "says": decision.because}, as_json=as_json, text=decision.because)
            return
        _say_plan(plan, as_json=as_json and only_check, is_shown=not as_json or only_check)
        if isinstance(decision, Refuse):
            raise NotPromotable(decision.because)
        if only_check:
            return
        witness = None if without_witness else witnessing.persons_arbiter(stores)
        _ask(yes=yes)
        tell = lambda line: click.echo(line, err=True)  # noqa: E731 - one line
        done = promotion.carry_out(stores, plan, tell=tell, to_time_ms=to_time_ms, witness=witness)
        if without_witness:
            witnessing.forget_at_once(stores)
    show(_answer_of(done, plan), as_json=as_json, text="\n".join(_lines_of(done)))


def _moment(text: str) -> int:
    from mainstay.cli.maintenance import NotAMoment, moment_ms  # noqa: PLC0415 - one option's need

    now_ms = SYSTEM.now_ms()
    at_ms = moment_ms(text, now_ms=now_ms)
    if at_ms > now_ms:
        raise NotAMoment(f"{text!r} is in the future")
    return at_ms


def _say_plan(plan: "Plan", *, as_json: bool, is_shown: bool) -> None:
    from mainstay.ops.sites import incomplete, losses  # noqa: PLC0415 - `--help` does not pay for it

    if not is_shown:
        return
    lines = [plan.decision.because, *losses.sentences(plan.price)]
    lines += [f"at first {incomplete.sentence(each)}" for each in plan.incomplete]
    if not plan.is_listing_complete:
        lines.append("the journal is too large to be looked through whole: more may be known there")
    show(_plan_answer(plan), as_json=as_json, text="\n".join(lines))


def _plan_answer(plan: "Plan") -> dict[str, Any]:
    from mainstay.ops.sites import losses  # noqa: PLC0415 - same
    from mainstay.ops.sites.promotion import Go  # noqa: PLC0415 - same

    return {
        "may": isinstance(plan.decision, Go),
        "because": plan.decision.because,
        "loss": losses.as_answer(plan.price),
        "read_only": [asdict(each) for each in plan.incomplete],
        "listing_is_complete": plan.is_listing_complete,
    }


def _ask(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotAsked("nobody is there to say yes: give --yes")
    click.confirm("Promote this site?", abort=True, err=True)


def _answer_of(done: "Promoted", plan: "Plan") -> dict[str, Any]:
    return {**asdict(done), "plan": _plan_answer(plan)}


def _lines_of(done: "Promoted") -> Sequence[str]:
    from mainstay.ops.sites import incomplete  # noqa: PLC0415 - `--help` does not pay for it

    lines = [f"This site is the primary, with epoch {done.epoch}; it took {done.took_s:.1f} s."]
    if done.reached_ms:
        lines.append(f"Its last commit is of {iso8601(done.reached_ms)}.")
    if done.regained:
        lines.append(f"{done.regained} pushes came back from the journal.")
    lines += [f"{incomplete.sentence(each)}; it comes back with its packs" for each in done.incomplete]
    lines += [f"{each.what}: {each.says}" for each in done.announced]
    return lines
