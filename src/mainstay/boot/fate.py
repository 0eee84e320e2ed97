"""Decide what becomes of a process that ended. Reads nothing but its arguments; does nothing."""

from dataclasses import dataclass

_FAILURES_AT_START_MAX = 3
_PAUSE_FIRST_S = 0.2
_PAUSE_MAX_S = 15.0
_HEALTHY_S = 60.0
"""A process that ran this long did its work; its end is a new story, not the next failure of an old one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A child process that is no more."""

    process: str
    exit_code: int
    """As `subprocess` has it: negative for a signal."""
    ran_s: float
    was_ready: bool
    """Whether it ever said that it does its work."""
    failures_before: int
    """How often in a row it failed before this time."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after a pause."""

    pause_s: float
    failures: int
    because: str


@dataclass(frozen=True, slots=True)
class LetRest:
    """It ended because the node ends."""

    because: str


@dataclass(frozen=True, slots=True)
class StopNode:
    """It cannot even start: stop and say so, instead of serving half a node."""

    because: str


def decide(ended: Ended, *, node_was_ready: bool, stopping: bool) -> Restart | LetRest | StopNode:
    """Say what to do about `ended`.

    Before the node was ready for the first time somebody sits at the terminal, so three failures in a row
    stop it with a reason. After that nothing does: a node that once worked goes on trying.
    """
    how = _how(ended.exit_code)
    if stopping:
        return LetRest(f"{ended.process} {how} while the node stops")
    if ended.ran_s >= _HEALTHY_S:
        return Restart(0.0, 0, f"{ended.process} {how} after {ended.ran_s:.0f} s")
    failures = ended.failures_before + 1
    if not node_was_ready and not ended.was_ready and failures >= _FAILURES_AT_START_MAX:
        return StopNode(f"the {ended.process} process cannot start: it {how} {failures} times")
    pause_s = min(_PAUSE_FIRST_S * 2.0 ** (failures - 1), _PAUSE_MAX_S)
    return Restart(pause_s, failures, f"{ended.process} {how} after {ended.ran_s:.1f} s")


def _how(exit_code: int) -> str:
    return f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
