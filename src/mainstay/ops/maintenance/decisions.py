"""Decide whether a request may go on during maintenance. Reads nothing but its arguments; does nothing.

| deed | read-only | full | while a failover holds writes |
|---|---|---|---|
| look, fetch | yes | no | yes |
| sign in and what else GitLab allows | yes | no | waits |
| the switch of the mode itself | yes | yes | yes |
| write, push | no | no | waits |

An excepted address meets no maintenance; a hold has no exceptions, because no write may go by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mainstay.ops.maintenance.state import Maintenance, Mode


class Deed(StrEnum):
    """What a request is about."""

    LOOK = "look"
    FETCH = "fetch"
    SIGN_IN = "sign_in"
    """Changes nothing that people made, and is needed to look: sessions, and requests between machines."""
    WRITE = "write"
    PUSH = "push"
    SWITCH = "switch"
    """See the mode, change it, or what its page needs. Never closed."""


@dataclass(frozen=True, slots=True)
class Admit:
    because: str


@dataclass(frozen=True, slots=True)
class Wait:
    because: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """`sentence` is what clients are told, as they know it."""

    because: str
    sentence: str
    retry_after_s: int


API_SENTENCE = "GitLab Maintenance: system is in maintenance mode"
"""Word for word what clients of GitLab's API look for."""
PUSH_SENTENCE = (
    "Git push is not allowed because this Mainstay instance is currently in (read-only) maintenance mode."
)
CLOSED_SENTENCE = "This Mainstay instance is temporarily unavailable: it is in maintenance mode."
OVERDUE_SENTENCE = (
    "This Mainstay instance is temporarily read-only: a planned failover takes longer than it should."
    " Nothing was changed; try again."
)

_RETRY_AFTER_S = 60
_RETRY_SOON_S = 5
_ADMITTED: Mapping[Mode, frozenset[Deed]] = {
    Mode.OFF: frozenset(Deed),
    Mode.READ_ONLY: frozenset({Deed.LOOK, Deed.FETCH, Deed.SIGN_IN, Deed.SWITCH}),
    Mode.FULL: frozenset({Deed.SWITCH}),
}
_HELD = frozenset({Deed.WRITE, Deed.PUSH, Deed.SIGN_IN})
_GIT = frozenset({Deed.FETCH, Deed.PUSH})


def decide(state: Maintenance, deed: Deed, *, address: str, now_ms: int) -> Admit | Wait | Refuse:
    """Say what becomes of a request for `deed` from `address`. The mode comes before the hold."""
    mode = state.mode_at(now_ms)
    if deed not in _ADMITTED[mode] and not state.excepts(address):
        return _refusal(mode, deed)
    if state.hold_until_ms is not None and deed in _HELD:
        return _while_held(state.hold_until_ms, deed, now_ms)
    if mode is Mode.OFF:
        return Admit("there is no maintenance")
    return Admit(f"{deed} is allowed in {mode} mode" if deed in _ADMITTED[mode] else f"{address} is excepted")


def _refusal(mode: Mode, deed: Deed) -> Refuse:
    sentence = API_SENTENCE
    if deed in _GIT:
        sentence = CLOSED_SENTENCE if mode is Mode.FULL else PUSH_SENTENCE
    return Refuse(f"{deed} is not allowed in {mode} mode", sentence, _RETRY_AFTER_S)


def _while_held(until_ms: int, deed: Deed, now_ms: int) -> Wait | Refuse:
    if now_ms < until_ms:
        return Wait(f"a planned failover is under way, for {(until_ms - now_ms) / 1000:.1f} s more at most")
    sentence = OVERDUE_SENTENCE if deed is Deed.PUSH else API_SENTENCE
    return Refuse("a planned failover takes longer than it should", sentence, _RETRY_SOON_S)
