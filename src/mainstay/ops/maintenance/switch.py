"""Change the decree, and read it. Plain SQL, in one row; times are of the database's clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mainstay.cluster.nodes import now_ms
from mainstay.cluster.reading_line import ReadingLine
from mainstay.foundation.errors import Conflict, Invalid
from mainstay.foundation.logs import get_logger
from mainstay.ops import settings_store
from mainstay.ops.maintenance.state import (
    HOLD_S_MAX,
    OPEN,
    Maintenance,
    Mode,
    as_text,
    checked_exceptions,
    checked_message,
    from_text,
)
from mainstay.storage.database import Database, Transaction

log = get_logger()

KEY = "maintenance"
IN_FORCE_S = 2.0
"""So long after a change every process knows it, unless its database is away."""


class AlreadyOn(Conflict):
    """What is on cannot be announced."""


class BadTime(Invalid):
    """The moment is not in the future."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The decree, and what time it was for the database."""

    state: Maintenance
    now_ms: int


def look(database: ReadingLine) -> Seen:
    with database.read() as tx:
        return Seen(from_text(settings_store.value_of(tx, KEY)), now_ms(tx))


def turn_on(
    database: Database,
    *,
    mode: Mode,
    by: str,
    message: str | None = "",
    allow: Sequence[str] = (),
    at_ms: int | None = None,
) -> Seen:
    """Begin now, or at `at_ms`. Exceptions of an earlier time are gone; message None keeps the last one."""
    assert mode is not Mode.OFF, "that is `turn_off`"
    new_message = None if message is None else checked_message(message)
    exceptions = checked_exceptions(allow)

    def changed(state: Maintenance, at: int) -> Maintenance:
        if at_ms is not None and at_ms <= at:
            raise BadTime("the moment is in the past")
        is_on = state.mode_at(at) is not Mode.OFF
        if at_ms is not None and is_on:
            raise AlreadyOn(f"{state.mode} mode is on already: turn it off, or change it at once")
        return replace(
            state,
            mode=mode,
            message=state.message if new_message is None else new_message,
            allow=exceptions,
            starts_ms=at_ms or (state.starts_ms if is_on else at),
            by=by,
        )

    return _changed(database, "maintenance.turned_on", changed)


def turn_off(database: Database, *, by: str, message: str | None = "") -> Seen:
    """End it, and forget schedule and exceptions. Does not end a hold."""
    kept = None if message is None else checked_message(message)

    def changed(state: Maintenance, _at: int) -> Maintenance:
        last = state.message if kept is None else kept
        return replace(OPEN, message=last, by=by, hold_until_ms=state.hold_until_ms)

    return _changed(database, "maintenance.turned_off", changed)


def set_message(database: Database, message: str) -> Seen:
    """Say something else, whatever the mode."""
    text = checked_message(message)
    return _changed(database, "maintenance.message_set", lambda state, _at: replace(state, message=text))


def hold(database: Database, *, for_s: float = HOLD_S_MAX) -> Seen:
    """Let writes wait at the doors. All doors know within `IN_FORCE_S`; what is past them goes on.

    After `for_s` they are refused, until `release`: only who began it knows whether writes are safe again.
    """
    if not 0 < for_s <= HOLD_S_MAX:
        raise Invalid(f"writes are held for {HOLD_S_MAX} s at most")
    return _changed(
        database,
        "maintenance.held",
        lambda state, at: replace(state, hold_until_ms=at + round(for_s * 1000)),
    )


def release(database: Database) -> Seen:
    """Let the writes go on that wait. Twice is as good as once."""
    return _changed(database, "maintenance.released", lambda state, _at: replace(state, hold_until_ms=None))


def _changed(database: Database, event: str, change: Callable[[Maintenance, int], Maintenance]) -> Seen:
    at = 0

    def changed(text: str | None, tx: Transaction) -> str:
        nonlocal at
        at = now_ms(tx)
        return as_text(change(from_text(text), at))

    state = from_text(settings_store.update(database, KEY, changed))
    log.info(event, mode=state.mode.value, starts_ms=state.starts_ms, by=state.by, allow=list(state.allow))
    return Seen(state, at)
