"""Whose answer each commit waits for: the synchronous replicas, from when they have everything.

A replica that still catches up would stop all pushes until it has. One that commits wait for already stays
so when it is away: that is what synchronous means, until somebody pauses or removes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NEAR_BYTES: Final = 16 * 1024**2
"""So little missing is there within a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One site on the list, and how its stream is."""

    stream: str
    """Its name towards PostgreSQL."""
    is_wanted: bool
    """Active, in sync mode, a whole replica."""
    is_streaming: bool = False
    behind_bytes: int | None = None
    has_objects: bool = True

    @property
    def has_caught_up(self) -> bool:
        """Whether the rest comes within a moment."""
        is_near = self.behind_bytes is not None and self.behind_bytes <= NEAR_BYTES
        return self.is_streaming and self.has_objects and is_near


@dataclass(frozen=True, slots=True)
class Waiting:
    names: tuple[str, ...]
    because: str


def decide(candidates: Sequence[Candidate], now: Sequence[str]) -> Waiting:
    """Say for whom commits wait from now on, and why."""
    names, reasons = [], []
    for each in candidates:
        if not each.is_wanted:
            if each.stream in now:
                reasons.append(f"{each.stream} is not waited for any more")
        elif each.stream in now:
            names.append(each.stream)
        elif each.has_caught_up:
            names.append(each.stream)
            reasons.append(f"{each.stream} has caught up")
    gone = set(now) - {each.stream for each in candidates}
    reasons += [f"{name} is no site any more" for name in sorted(gone)]
    return Waiting(tuple(sorted(names)), "; ".join(reasons) or "nothing has changed")
