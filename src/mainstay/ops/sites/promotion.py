"""May this replica become the primary, and what is left to do of a promotion that was begun.

Each step is idempotent, and `Progress` says which are done, so that a promotion that was killed goes on when
the command is given again. The order is that of loss: the old primary must be told first that it is one no
more, repositories that lack packs are closed before anybody can push, and only then writes are let in.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from mainstay.foundation.errors import Conflict

Step = Literal["begun", "database", "protected", "epoch", "followers", "released", "announced"]
STEPS: Final[tuple[Step, ...]] = (
    "begun",
    "database",
    "protected",
    "epoch",
    "followers",
    "released",
    "announced",
)
HEARD_S: Final = 5.0
"""A primary that was heard within this answers."""


class NotPromotable(Conflict):
    """The site cannot be promoted now; the message says what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is known when somebody asks for a promotion."""

    is_replica: bool
    """Its database follows another's."""
    is_primary: bool = False
    """It has the newest epoch, and takes writes."""
    is_superseded: bool = False
    kind: str = "replica"
    primary: str = "the primary"
    primary_answers: bool = False
    primary_silent_s: float | None = None
    was_begun: bool = False
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Go:
    because: str


@dataclass(frozen=True, slots=True)
class Refuse:
    because: str
    is_done: bool = False
    """There is nothing to do."""


def decide(view: View) -> Go | Refuse:
    """Say whether to go on. Reads nothing but `view`."""
    if view.was_begun:
        return Go("a promotion of this site was begun and has not ended: it goes on")
    if view.is_primary:
        return Refuse("this site is the primary already", is_done=True)
    unfit = _unfit(view)
    if unfit is not None:
        return Refuse(unfit)
    if view.primary_answers and not view.is_forced:
        return Refuse(
            f"{view.primary} answers: stop it first, or use --force when it must not serve any more"
            " (it refuses writes from the moment it hears of the promotion)"
        )
    return Go(_heard(view))


def _unfit(view: View) -> str | None:
    """Why this site can never be the next primary as it is."""
    if view.is_superseded:
        return (
            "this site was the primary and was superseded: what it alone has would be lost or doubled;"
            " `mainstay replica add` makes it a replica again"
        )
    if not view.is_replica:
        return "this site is not a replica: there is nothing to promote"
    if view.kind == "cache":
        return "a cache has only a part of the repositories: promote a full replica"
    return None


def _heard(view: View) -> str:
    if view.primary_answers:
        return f"{view.primary} answers, and --force was given"
    if view.primary_silent_s is None:
        return f"{view.primary} does not answer, and was not heard since this replica was started"
    return f"{view.primary} does not answer; it was last heard {view.primary_silent_s:.0f} s ago"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a promotion has come; kept in a file."""

    done: tuple[Step, ...] = ()
    started_ms: int = 0
    from_epoch: int = 0
    old_primary: str = ""
    old_primary_address: str = ""
    reached_ms: int | None = None
    """With `--to-time`: up to where it was replayed."""

    def with_done(self, step: Step) -> "Progress":
        return self if step in self.done else replace(self, done=(*self.done, step))

    @property
    def is_under_way(self) -> bool:
        return bool(self.done) and "announced" not in self.done

    def left(self) -> list[Step]:
        return [step for step in STEPS if step not in self.done]


def progress_in(said: Any) -> Progress:
    """From what was kept. Raises `KeyError`, `TypeError`, `ValueError` for anything else."""
    reached = said["reached_ms"]
    return Progress(
        done=tuple(step for step in STEPS if step in said["done"]),
        started_ms=int(said["started_ms"]),
        from_epoch=int(said["from_epoch"]),
        old_primary=str(said["old_primary"]),
        old_primary_address=str(said["old_primary_address"]),
        reached_ms=None if reached is None else int(reached),
    )


def progress_said(progress: Progress) -> dict[str, Any]:
    return {**asdict(progress), "done": list(progress.done)}
