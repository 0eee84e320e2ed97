"""A zone whose records can be changed, and the one way to change one.

Look, decide, replace on the condition that nothing has changed since, look again. A lost answer is settled by
looking, so every step may be repeated; each has a limit, and so have the repetitions.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mainstay.foundation.errors import Conflict, Invalid, NotAllowed, Unavailable
from mainstay.foundation.retry import Schedule, retry
from mainstay.provision.traffic.records import Found, Keep, Record, Wanted, decide, shown

EXCHANGE_S_MAX = 4.0
"""One question or one update."""
_HINT = "; a name with other records cannot have a CNAME, so look for those"
_SCHEDULE = Schedule(attempts_max=4, first_pause_s=0.3, pause_max_s=2.0)


class DnsAway(Unavailable):
    """No answer, or none that makes sense. Whether an update was done is seen by looking."""


class DnsRefused(NotAllowed):
    """The server does not let us."""


class ZoneMismatch(Invalid):
    """The server and the settings do not mean the same zone."""


class ChangedMeanwhile(Conflict):
    """Somebody changed the record between the look and the update, which was not done."""


class NotAsTold(Unavailable):
    """The update was taken, and the server does not say what it was told."""


@dataclass(frozen=True, slots=True)
class NameServer:
    """One that the world asks about the zone."""

    name: str
    serial: int | None
    """Of the zone there; None: it did not answer."""
    problem: str = ""


class Zone(Protocol):
    """Where records are kept. All may raise `DnsAway`, `DnsRefused`, `ZoneMismatch`."""

    def look(self, record: Record) -> Found:
        """What the authoritative server says now."""
        ...

    def replace(self, record: Record, found: Found, wanted: Wanted) -> str:
        """Record and mark together. Raises `ChangedMeanwhile` unless both are still as `found`.

        Returns what is worth adding to a success, by default nothing.
        """
        ...

    def rehearse(self, record: Record, found: Found) -> None:
        """Ask for a change that changes nothing while all is as `found`: do the credentials allow it?"""
        ...

    def name_servers(self) -> list[NameServer]:
        """Those that the world asks."""
        ...


def move(
    record: Record,
    wanted: Wanted,
    *,
    zone: Zone,
    by_hand: bool = False,
    schedule: Schedule = _SCHEDULE,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Make the record say what is wanted, and tell what was done. Raises also `MovedSince`, `NotAsTold`."""
    return retry(
        lambda: _move_once(record, wanted, zone=zone, by_hand=by_hand),
        on=(DnsAway, ChangedMeanwhile, NotAsTold),
        schedule=schedule,
        sleep=sleep,
    )


def _move_once(record: Record, wanted: Wanted, *, zone: Zone, by_hand: bool) -> str:
    found = zone.look(record)
    decision = decide(record, found, wanted, by_hand=by_hand)
    if isinstance(decision, Keep):
        return decision.reason
    remark = zone.replace(record, found, wanted)
    after = zone.look(record)
    if not isinstance(decide(record, after, wanted, by_hand=by_hand), Keep):
        raise NotAsTold(
            f"{record.name}: the server took the update, and still answers {shown(after.values)}"
            f" instead of {shown(wanted.values)}{_HINT if record.type == 'CNAME' else ''}"
        )
    return decision.reason + remark
