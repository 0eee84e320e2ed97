"""Announce that a site has become the primary, or is it no more.

`announce` never raises and never stops a promotion: it returns what became of each record and of the hook, in
order, each within its limit, and logs the same. The records move first, because the hook may look at them.

A demoted site touches no record: the promoted one has moved them, or will.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.ops.traffic.choice import Traffic, open_zone
from mainstay.provision.traffic.hooks import BadHook, HookEnd, run_hook
from mainstay.provision.traffic.records import Mark, Record, Wanted
from mainstay.provision.traffic.zones import Zone, move

Event = Literal["promote", "demote"]

_WORKERS_MAX = 8

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a hook is told, and what decides where the records lead."""

    epoch: int
    site: str
    """The site that this happens to."""
    site_address: str = ""
    old_primary: str = ""
    old_primary_address: str = ""
    new_primary: str = ""
    """Of a demotion, as far as it is known."""
    is_planned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one record or hook."""

    what: str
    """`dns NAME TYPE` or `hook FILE`."""
    is_done: bool
    says: str
    exit_code: int | None = None
    """Of a hook that ran."""
    took_ms: int = 0


def announce(
    event: Event,
    facts: Facts,
    *,
    traffic: Traffic,
    zone_of: Callable[[Traffic], Zone] = open_zone,
    clock: Clock = SYSTEM,
) -> list[Outcome]:
    """Move the records, then run the hook, and say what happened to each."""
    outcomes = []
    for outcome in _outcomes(event, facts, traffic=traffic, zone_of=zone_of, clock=clock):
        _tell(event, facts, outcome)
        outcomes.append(outcome)
    return outcomes


def _outcomes(
    event: Event, facts: Facts, *, traffic: Traffic, zone_of: Callable[[Traffic], Zone], clock: Clock
) -> Iterator[Outcome]:
    if event == "promote" and traffic.records:
        yield from _move_records(facts, traffic, zone_of=zone_of, clock=clock)
    hook = traffic.on_promote if event == "promote" else traffic.on_demote
    if hook:
        yield _run(hook, event, facts, limit_s=traffic.hook_limit_s)


# Records


def _move_records(
    facts: Facts, traffic: Traffic, *, zone_of: Callable[[Traffic], Zone], clock: Clock
) -> list[Outcome]:
    """All at once, so that one limit holds for all. What has not ended by then goes on, unheard."""
    began_s = clock.monotonic_s()
    executor = ThreadPoolExecutor(_WORKERS_MAX, thread_name_prefix="dns")
    try:
        moving = {
            record: executor.submit(partial(_move, record, facts, traffic, zone_of))
            for record in traffic.records
        }
        wait(moving.values(), timeout=traffic.dns_limit_s)
        took_ms = int((clock.monotonic_s() - began_s) * 1000)
        return [_of_record(record, future, traffic, took_ms) for record, future in moving.items()]
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _move(record: Record, facts: Facts, traffic: Traffic, zone_of: Callable[[Traffic], Zone]) -> str:
    values = record.values_of(facts.site)
    wanted = Wanted(values=values, ttl_s=record.ttl_s, mark=Mark(facts.epoch, facts.site))
    return move(record, wanted, zone=zone_of(traffic))


def _of_record(record: Record, moving: "Future[str]", traffic: Traffic, took_ms: int) -> Outcome:
    what = f"dns {record.name} {record.type}"
    if not moving.done():
        says = f"unknown: no end within {traffic.dns_limit_s} s; look with `mainstay dns check`"
        return Outcome(what=what, is_done=False, says=says, took_ms=took_ms)
    error = moving.exception()
    if error is None:
        return Outcome(what=what, is_done=True, says=moving.result(), took_ms=took_ms)
    if not isinstance(error, MainstayError):
        log.error("traffic.crashed", what=what, exc_info=error)
    says = str(error) if isinstance(error, MainstayError) else f"bug: {type(error).__name__}"
    return Outcome(what=what, is_done=False, says=says, took_ms=took_ms)


# Hooks


def _run(hook: Path, event: Event, facts: Facts, *, limit_s: int) -> Outcome:
    what = f"hook {hook}"
    try:
        ended = run_hook(hook, facts=_told(event, facts), limit_s=limit_s)
    except BadHook as error:
        return Outcome(what=what, is_done=False, says=f"was not run: {error}")
    return _of_hook(what, ended, limit_s=limit_s)


def _told(event: Event, facts: Facts) -> dict[str, str]:
    return {
        "EVENT": event,
        "EPOCH": str(facts.epoch),
        "SITE": facts.site,
        "SITE_ADDRESS": facts.site_address,
        "OLD_PRIMARY": facts.old_primary,
        "OLD_PRIMARY_ADDRESS": facts.old_primary_address,
        "NEW_PRIMARY": facts.new_primary,
        "PLANNED": "yes" if facts.is_planned else "no",
    }


def _of_hook(what: str, ended: HookEnd, *, limit_s: int) -> Outcome:
    said = f": {ended.output}" if ended.output else ""
    if ended.exit_code is None:
        says = f"took longer than {limit_s} s, and cannot be ended{said}"
    elif ended.was_too_slow:
        says = f"was ended, it took longer than {limit_s} s{said}"
    elif ended.exit_code < 0:
        says = f"was killed by signal {-ended.exit_code}{said}"
    else:
        says = f"ended with exit code {ended.exit_code}{said}"
    return Outcome(
        what=what,
        is_done=ended.exit_code == 0 and not ended.was_too_slow,
        says=says,
        exit_code=ended.exit_code,
        took_ms=ended.took_ms,
    )


def _tell(event: Event, facts: Facts, outcome: Outcome) -> None:
    """Loudly when it failed: clients may still go to the old site."""
    fields = {
        "event_of_site": event,
        "epoch": facts.epoch,
        "site": facts.site,
        "what": outcome.what,
        "says": outcome.says,
        "took_ms": outcome.took_ms,
    }
    if outcome.is_done:
        log.info("traffic.announced", **fields)
    else:
        log.error("traffic.announcement_failed", **fields)
