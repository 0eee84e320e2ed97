"""Named places where a process may be made to die, for the crash suite.

A room declares its points when it is imported, with a sentence each; `mainstay debug failpoints` lists
them. `MAINSTAY_FAILPOINTS=push.committed=kill,push.pack_stored=sleep:2` arms some of them; unarmed, a
point costs one dictionary look-up in an empty dictionary.

Actions: `kill` (SIGKILL to this process: nothing is flushed, no handler runs), `error` (raise
`FailpointError`), `sleep:SECONDS`. An action may be followed by `@N`: only the N-th passage acts.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from mainstay.foundation.errors import Invalid, Unavailable

_SECONDS_MAX = 3600.0


class FailpointError(Unavailable):
    """An armed failpoint answered `error`."""


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One declared point: `room.fact`, and what has happened when it is passed."""

    name: str
    meaning: str


_declared: dict[str, Failpoint] = {}
_armed: dict[str, Callable[[], None]] = {}


def declare(name: str, meaning: str) -> str:
    """Declare a point at import time and return its name. A name is declared once."""
    assert name not in _declared, f"failpoint {name!r} is declared twice"
    _declared[name] = Failpoint(name, meaning)
    return name


def declared() -> list[Failpoint]:
    """All points of the rooms imported so far, by name."""
    return sorted(_declared.values(), key=lambda point: point.name)


def failpoint(name: str) -> None:
    """Pass the point `name`: does nothing unless it is armed."""
    if _armed and name in _armed:
        _armed[name]()


def arm(specification: str) -> None:
    """Arm points from `name=action[,name=action…]`; an empty text disarms all.

    Raises `Invalid` on a malformed action. A name nobody declared is accepted, because the room that
    declares it may not be imported yet.
    """
    _armed.clear()
    for entry in filter(None, (part.strip() for part in specification.split(","))):
        name, _, action = entry.partition("=")
        _armed[name] = _action_of(name, action)


def _action_of(name: str, action: str) -> Callable[[], None]:
    verb, _, nth = action.partition("@")
    act = _verb_of(name, verb)
    if not nth:
        return act
    if not nth.isascii() or not nth.isdigit() or int(nth) < 1:
        raise Invalid(f"failpoint {name!r}: '@{nth}' is not a passage number")
    return _only_on(int(nth), act)


def _verb_of(name: str, verb: str) -> Callable[[], None]:
    if verb == "kill":
        return _kill
    if verb == "error":
        return lambda: _fail(name)
    if verb.startswith("sleep:"):
        seconds = _seconds_of(name, verb.removeprefix("sleep:"))
        return lambda: time.sleep(seconds)
    raise Invalid(f"failpoint {name!r}: unknown action {verb!r}; use kill, error or sleep:SECONDS")


def _seconds_of(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise Invalid(f"failpoint {name!r}: {text!r} is not a number of seconds") from None
    if not 0 <= seconds <= _SECONDS_MAX:
        raise Invalid(f"failpoint {name!r}: sleep must be between 0 and {_SECONDS_MAX:.0f} s")
    return seconds


def _only_on(nth: int, act: Callable[[], None]) -> Callable[[], None]:
    passages = 0

    def count_then_act() -> None:
        nonlocal passages
        passages += 1
        if passages == nth:
            act()

    return count_then_act


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(name: str) -> None:
    raise FailpointError(f"failpoint {name!r} is armed with 'error'")
