"""`mainstay maintenance`: close the instance for writes or for everybody, on all nodes, and open it again."""

import getpass
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mainstay.cli.frame import data_option, json_option, opened, show
from mainstay.foundation.clock import SYSTEM, iso8601
from mainstay.foundation.errors import Invalid

if TYPE_CHECKING:
    from mainstay.ops.maintenance.switch import Seen
    from mainstay.storage.database import Database

_FROM_NOW = re.compile(r"\+([1-9][0-9]{0,5})([smhd])")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class NotAMoment(Invalid):
    """The text is not a moment, or could be one of several."""


@click.group
def command() -> None:
    """Close the instance for a while, on all nodes, and open it again.

    Every process of every node knows within two seconds.
    """


@command.command("on")
@click.option(
    "--mode",
    type=click.Choice(["read-only", "full"]),
    default="read-only",
    show_default=True,
    help="read-only: people look and fetch. full: closed, but for --allow.",
)
@click.option("--message", default="", help="What people are told beside.")
@click.option(
    "--at", metavar="TIME", help="Begin then, with a banner before: +30m, or 2026-12-24T22:00+01:00."
)
@click.option(
    "--allow",
    multiple=True,
    metavar="CIDR",
    help="An address or network for which there is no maintenance. Several times for several.",
)
@data_option
@json_option
def on(  # noqa: PLR0917 - click passes each option by its name
    mode: str, message: str, at: str | None, allow: tuple[str, ...], data: Path | None, as_json: bool
) -> None:
    """Turn maintenance mode on. Exceptions of an earlier time are gone unless given again."""
    at_ms = moment_ms(at, now_ms=SYSTEM.now_ms()) if at else None
    with opened(data, orm=False) as stores:
        from mainstay.ops.maintenance import switch  # noqa: PLC0415 - `--help` does not pay for a database
        from mainstay.ops.maintenance.state import Mode  # noqa: PLC0415 - same

        seen = switch.turn_on(
            stores.database, mode=Mode(mode), by=_me(), message=message, allow=allow, at_ms=at_ms
        )
        _show(stores.database, seen, as_json=as_json)


@command.command("off")
@click.option(
    "--release",
    is_flag=True,
    help="Let writes go on, too, that a planned failover holds. Only when none is under way.",
)
@data_option
@json_option
def off(release: bool, data: Path | None, as_json: bool) -> None:
    """Turn it off, and forget its schedule and its exceptions."""
    with opened(data, orm=False) as stores:
        from mainstay.ops.maintenance import switch  # noqa: PLC0415 - `--help` does not pay for a database

        if release:
            switch.release(stores.database)
        _show(stores.database, switch.turn_off(stores.database, by=_me()), as_json=as_json)


@command.command("status")
@data_option
@json_option
def status(data: Path | None, as_json: bool) -> None:
    """Say what is in force, what is coming, and which jobs rest."""
    with opened(data, orm=False) as stores:
        from mainstay.ops.maintenance import switch  # noqa: PLC0415 - `--help` does not pay for a database

        _show(stores.database, switch.look(stores.database), as_json=as_json)


def moment_ms(text: str, *, now_ms: int) -> int:
    """`+30m`, or ISO 8601 with its zone: without one nobody knows whose ten o'clock it is."""
    if found := _FROM_NOW.fullmatch(text):
        return now_ms + int(found[1]) * _UNIT_MS[found[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotAMoment(f"{text!r} is neither like +30m nor like 2026-12-24T22:00+01:00") from error
    if moment.tzinfo is None:
        raise NotAMoment(f"{text!r} has no time zone: add Z or an offset such as +01:00")
    return round(moment.timestamp() * 1000)


def _me() -> str:
    return f"{getpass.getuser()} at the machine"


def _show(database: "Database", seen: "Seen", *, as_json: bool) -> None:
    answer = _answer_of(database, seen)
    show(answer, as_json=as_json, text="\n".join(_lines_of(answer)))


def _answer_of(database: "Database", seen: "Seen") -> dict[str, Any]:
    from mainstay.boot.chores import CLASSES  # noqa: PLC0415 - `--help` does not pay for it
    from mainstay.jobs.classes import JobClass  # noqa: PLC0415 - same
    from mainstay.jobs.queue import due_by_name  # noqa: PLC0415 - same
    from mainstay.ops.maintenance.state import Mode  # noqa: PLC0415 - same

    state, now_ms = seen.state, seen.now_ms
    with database.read() as tx:
        due = due_by_name(tx, now_ms=now_ms)
    rests = state.is_quiet_at(now_ms)
    return {
        "mode": state.mode_at(now_ms).value,
        "scheduled": state.mode.value if state.is_announced_at(now_ms) else None,
        "starts_at": iso8601(state.starts_ms) if state.mode is not Mode.OFF else None,
        "message": state.message,
        "allow": list(state.allow),
        "by": state.by,
        "hold_until": None if state.hold_until_ms is None else iso8601(state.hold_until_ms),
        "queues": {
            "events": {"class": JobClass.ESSENTIAL.value, "paused": False},
            **{
                name: {
                    "class": kind.value,
                    "paused": rests and kind is JobClass.UPKEEP,
                    "due": due.get(name, 0),
                }
                for name, kind in sorted(CLASSES.items())
            },
        },
    }


def _lines_of(answer: dict[str, Any]) -> list[str]:
    since = f" since {answer['starts_at']}" if answer["mode"] != "off" else ""
    lines = [f"Maintenance mode is {answer['mode']}{since}."]
    if answer["scheduled"]:
        lines.append(f"Mode {answer['scheduled']} begins at {answer['starts_at']}.")
    if answer["hold_until"]:
        lines.append(f"A planned failover holds writes until {answer['hold_until']}; then they are refused.")
    if answer["message"]:
        lines.append(f"Message: {answer['message']}")
    if answer["allow"]:
        lines.append(f"Excepted: {', '.join(answer['allow'])}")
    resting = [name for name, queue in answer["queues"].items() if queue["paused"]]
    if resting:
        lines.append(f"Jobs that rest: {', '.join(resting)}")
    return lines
