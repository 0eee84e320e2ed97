"""What a ref once was, and back to it: a force push or a deletion destroys nothing.

The ledger logs every move of every ref, and compaction keeps unreachable objects, so any value in the log
can be restored. A restore is a logged change itself, so it can be undone in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mainstay.access.actors import Actor
from mainstay.cache.copies import Copies
from mainstay.foundation.errors import Conflict, Invalid, NotFound
from mainstay.foundation.ids import new_ulid
from mainstay.git.native.place import Limits
from mainstay.git.objectnames import ZERO_OID, Oid, RefName, shown
from mainstay.repository.inspection import is_connected, kinds_of
from mainstay.storage.ledger import Ledger, Push, RefChange
from mainstay.storage.push import PushStore

_LIMITS = Limits(data_bytes_max=None)
_HISTORY_MAX = 1000


class NoHistory(NotFound):
    """The log has no move of this ref."""


class NeverThere(Invalid):
    """The ref never pointed to this object, so there is nothing to restore."""


class Moved(Conflict):
    """The ref moved while it was being restored."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a ref, newest first in a reflog."""

    version: int
    at_ms: int
    actor: str
    push_id: str | None
    old: Oid
    new: Oid


class Reflog:
    """The moves of a repository's refs."""

    def __init__(self, *, ledger: Ledger, copies: Copies, pushes: PushStore) -> None:
        self._ledger = ledger
        self._copies = copies
        self._pushes = pushes

    def moves(self, repository_id: int, name: RefName, *, limit: int = 100) -> list[Move]:
        """The moves of `name`, newest first. Raises `NoHistory`."""
        changes = self._ledger.ref_history(repository_id, name, limit=limit)
        if not changes:
            raise NoHistory(f"no move of {shown(name)} is logged; refs are named in full: refs/heads/main")
        return [
            Move(change.version, change.at_ms, change.actor, change.push_id, ref.old, ref.new)
            for change in changes
            for ref in change.refs
        ]

    def restore(self, repository_id: int, name: RefName, *, to: Oid | None, by: Actor) -> RefChange:
        """Point `name` back to `to`, or to what it was before its last move. Returns the move made.

        Raises `NoHistory`, `NeverThere`, and `Moved` when a push came in between.
        """
        moves = self.moves(repository_id, name, limit=_HISTORY_MAX)
        target = to if to is not None else moves[0].old
        check_was_there(moves, name, target)
        change = RefChange(name, moves[0].new, target, self._peeled(repository_id, target))
        self._commit(repository_id, change, by)
        return change

    def _peeled(self, repository_id: int, target: Oid) -> Oid | None:
        """What a tag at `target` leads to. Also proves that everything `target` needs is still here."""
        with self._copies.pinned(repository_id) as copy:
            found = kinds_of(copy.place, [target], limits=_LIMITS).get(target)
            if found is None or not is_connected(copy.place, [target], known=(), limits=_LIMITS):
                raise NeverThere(f"{target} is not complete in this repository any more")
        return found.peeled

    def _commit(self, repository_id: int, change: RefChange, by: Actor) -> None:
        repository = self._ledger.repository(repository_id)
        push = Push(
            push_id=new_ulid(),
            repository_id=repository_id,
            actor=by.label,
            changes=[change],
            prune_epoch=repository.prune_epoch,
            atomic=True,
            details={"restore": True},
        )
        outcome = self._pushes.commit(push, repository, [])
        for reason in outcome.refused.values():
            raise Moved(f"{shown(change.name)}: {reason}")


def check_was_there(moves: Sequence[Move], name: RefName, target: Oid) -> None:
    """Raise `NeverThere` unless the ref once pointed to `target` and no longer does."""
    if target == ZERO_OID:
        raise NeverThere(f"{shown(name)} did not exist before its last move: say --to OID")
    if target == moves[0].new:
        raise NeverThere(f"{shown(name)} is at {target} already")
    if all(target not in (move.old, move.new) for move in moves):
        raise NeverThere(f"{shown(name)} never pointed to {target}, as far as the log shows")
