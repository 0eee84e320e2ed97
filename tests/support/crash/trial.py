"""One trial: a push to a server that dies or fails at a chosen place, and the judgement of what is left."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from support.crash.checker import after_restart, violations
from support.crash.history import Attempt, History
from support.crash.world import World

_DIE_S = 20.0
_PUSH_S_MAX = 90.0
_LATE_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What happened in a trial."""

    died: bool
    report: dict[str, str] | None
    """What the pusher was told."""
    findings: list[str]
    """What is wrong; empty when all is well."""


def begun(world: World) -> History:
    """A project whose first push went well, on the process that runs."""
    history = world.new_project()
    attempt = history.next_attempt()
    report = _push(world, history, attempt)
    assert report == dict.fromkeys(attempt.after({}), "ok"), f"{report}\n{world.nursery.log_end()}"
    found = violations(world, history, attempt, report)
    assert found == [], found
    return history


def kill_at(world: World, history: History, point: str, *, passage: int = 1, atomic: bool = False) -> Outcome:
    """Push; the process kills itself at the failpoint. Judged dead, and again after a restart."""
    world.running().ask("arm", f"{point}=kill@{passage}")
    attempt = history.next_attempt(atomic=atomic)
    report = _push(world, history, attempt)
    # After an answer only a point behind the answer can still come.
    late = report is None or point == "push.reported"
    died = world.has_died(within_s=_DIE_S if late else _LATE_S)
    return _judged(world, history, attempt, report, died)


def fail_at(world: World, history: History, point: str, *, passage: int = 1) -> Outcome:
    """Push; the failpoint raises an error. The process lives on and is judged alive."""
    child = world.running()
    child.ask("arm", f"{point}=error@{passage}")
    attempt = history.next_attempt()
    report = _push(world, history, attempt)
    child.ask("arm", "")
    findings = violations(world, history, attempt, report) + after_restart(world, history, attempt)
    return Outcome(world.has_died(within_s=0), report, findings)


def held_at(
    world: World,
    history: History,
    gate: str,
    hands: Callable[[int], AbstractContextManager[None]],
    *,
    deadly: bool = False,
) -> Outcome:
    """Push; the thread that comes to the gate is held until `hands` are on it, then all goes on.

    With `deadly` hands, no answer means that the process dies. If it lives it is killed afterwards, because
    a write that failed may come back with a restart.
    """
    child = world.running()
    child.ask("gate", gate)
    attempt = history.next_attempt()
    with ThreadPoolExecutor(1) as beside:
        pushing = beside.submit(_push, world, history, attempt)
        heard = child.hear()
        assert heard is not None, f"dead before {gate}\n{world.nursery.log_end()}"
        with hands(int(heard.removeprefix("at "))):
            child.tell("go")
            report = pushing.result(_PUSH_S_MAX)
            died = world.has_died(within_s=_DIE_S if deadly and report is None else 0)
    return _judged(world, history, attempt, report, died)


def _push(world: World, history: History, attempt: Attempt) -> dict[str, str] | None:
    pusher = world.pusher(history.path)
    try:
        return pusher.push(attempt.updates, attempt.objects, atomic=attempt.atomic)
    finally:
        pusher.close()


def _judged(
    world: World, history: History, attempt: Attempt, report: dict[str, str] | None, died: bool
) -> Outcome:
    world.kill()
    world.empty_cache()
    findings = violations(world, history, attempt, report)
    world.start()
    return Outcome(died, report, findings + after_restart(world, history, attempt))
