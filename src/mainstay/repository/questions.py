"""What one may ask of the objects of a repository, and add to them, without a Git client.

Plain values, so that they travel between nodes: each question is one of a few kinds, and nothing in it is
ever read as an option or a path. An answer is bytes in the form that its question names, however many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mainstay.git.objectnames import Oid
from mainstay.storage.ledger import RefChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Objects by name, whatever they are.

    Answered as `git cat-file --batch` does: for each `<oid> <kind> <size>` LF, the content, LF; or
    `<oid> missing` LF.
    """

    oids: Sequence[Oid]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitNamed:
    """The commit that an object name, or the beginning of one, means. Answered `<oid>` LF, or nothing."""

    digits: str
    """Hexadecimal, in lower case."""
    visible: bool
    """Only if a visible ref leads to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Commits reachable from `start`, newest first. Answered like `Objects`."""

    start: Oid
    skip: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """Those of `tips` that have commits which `into` lacks. Answered `<oid>` LF for each."""

    tips: Sequence[Oid]
    into: Oid


Question = Objects | CommitNamed | History | Ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """New objects, and the one ref that leads to them from now on. The objects come beside it, as a pack."""

    push_id: str
    """Chosen by who asks, so that what became of it can be looked up: `Ledger.outcome_of`."""
    repository_id: int
    change: RefChange
    actor: str
    """For the log, such as `user:7`. That the actor may was decided before."""
