"""Which refs of a push may move: a pure function of the push and of the refs that were seen.

A ref may move when it is what the client said it is, when the push names it once, and when no other ref
would then be a directory of it or in it. Deletions of the same push make room: `a` may become `a/b`.
Among creations that exclude each other the first in the push wins.

A push may come twice: when a connection dies before the answer, the HTTP library under `git` sends its POST
again by itself. The second must not be refused because of what the first did. So in a push that says it may
be a repetition (`repeatable`), a ref that is already what it shall become is neither refused nor moved.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mainstay.git.objectnames import ZERO_OID, Oid, RefName, shown
from mainstay.storage.ledger import RefChange

NAME_BYTES_MAX = 2048
"""An index row of PostgreSQL holds no more than 2,700 bytes; Git's own limit is the path length."""

_OID_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Judgement:
    moves: Sequence[RefChange]
    """Refs that really change, in the order of the push."""
    refused: Mapping[RefName, str]
    """Why each of the others does not."""


def judge(
    changes: Sequence[RefChange],
    present: Mapping[RefName, Oid],
    *,
    atomic: bool,
    repeatable: bool = False,
) -> Judgement:
    """`present` holds at least: the refs named, those above them, and those below the ones to be created."""
    done = {c.name for c in changes if repeatable and is_done(c, present.get(c.name))}
    refused = _wrong_expectations(changes, present, done)
    left = [change for change in changes if change.name not in refused and change.name not in done]
    refused |= _name_conflicts(left, present)
    if atomic and refused:
        refused |= {c.name: "atomic push failed" for c in changes if c.name not in refused}
    moves = [c for c in left if c.name not in refused and c.old != c.new]
    return Judgement(moves, refused)


def is_done(change: RefChange, found: Oid | None) -> bool:
    """Whether the ref is what the change would make of it."""
    return change.old != change.new == (found or ZERO_OID)


def _wrong_expectations(
    changes: Sequence[RefChange], present: Mapping[RefName, Oid], done: Collection[RefName]
) -> dict[RefName, str]:
    refused: dict[RefName, str] = {}
    seen: set[RefName] = set()
    for change in changes:
        is_fine = change.name in done
        reason = None if is_fine else _wrong_expectation(change, present.get(change.name))
        if change.name in seen:
            reason = "multiple updates for this reference"
        if reason is not None:
            refused[change.name] = reason
        seen.add(change.name)
    return refused


def _wrong_expectation(change: RefChange, found: Oid | None) -> str | None:
    if len(change.name) > NAME_BYTES_MAX:
        return f"reference name is longer than {NAME_BYTES_MAX} bytes"
    if found is None:
        if change.old == ZERO_OID and change.new != ZERO_OID:
            return None
        return "reference does not exist"
    if change.old == ZERO_OID:
        return "reference already exists"
    if change.old != found:
        return f"expected {change.old[:_OID_SHOWN]}, found {found[:_OID_SHOWN]}"
    return None


def _name_conflicts(changes: Sequence[RefChange], present: Mapping[RefName, Oid]) -> dict[RefName, str]:
    created = [change.name for change in changes if change.old == ZERO_OID]
    if not created:
        return {}
    gone = {change.name for change in changes if change.new == ZERO_OID}
    names = {name for name in present if name not in gone}
    inhabitants = _inhabitants(names)
    refused: dict[RefName, str] = {}
    for name in created:
        obstacle = next((above for above in directories_of(name) if above in names), None)
        obstacle = obstacle or inhabitants.get(name)
        if obstacle is not None:
            refused[name] = f"'{shown(obstacle)}' exists"
            continue
        names.add(name)
        inhabitants |= _inhabitants([name])
    return refused


def _inhabitants(names: Iterable[RefName]) -> dict[RefName, RefName]:
    """For each directory one ref that lives in it."""
    return {directory: name for name in names for directory in directories_of(name)}


def directories_of(name: RefName) -> Iterator[RefName]:
    """`refs`, `refs/heads` and `refs/heads/a` for `refs/heads/a/b`."""
    slash = name.find(b"/")
    while slash > 0:
        yield RefName(name[:slash])
        slash = name.find(b"/", slash + 1)
