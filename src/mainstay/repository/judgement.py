"""Which commands of a push can be refused before its pack is looked at.

Pure: what was seen in, reasons out.
"""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from itertools import chain

from mainstay.access.policy import Deny, PushRules, RefAction, decide_ref_update
from mainstay.cache.refs import RefListing
from mainstay.git.objectnames import ZERO_OID, RefName, shown
from mainstay.git.refs import check_pushed_name
from mainstay.storage.ledger import RefChange
from mainstay.storage.ledger.judge import is_done

Refusals = dict[RefName, str]

_PREFERRED_HEADS = (RefName(b"refs/heads/main"), RefName(b"refs/heads/master"))


def refusals(
    changes: Sequence[RefChange], *, listing: RefListing, rules: PushRules, atomic: bool
) -> Refusals:
    """Say which refs cannot move, and why. What is not named here may still lose its compare-and-swap."""
    times = Counter(change.name for change in changes)
    refused: Refusals = {}
    for change in changes:
        reason = _refusal(change, times[change.name], listing, rules) or _obstacle(change, times, listing)
        if reason is not None:
            refused[change.name] = reason
    return all_refused(changes, refused) if atomic and refused else refused


def all_refused(changes: Sequence[RefChange], refused: Mapping[RefName, str]) -> Refusals:
    """An atomic push with one refusal: the others are refused for its sake."""
    return {change.name: refused.get(change.name, "atomic push failure") for change in changes}


def _refusal(change: RefChange, times: int, listing: RefListing, rules: PushRules) -> str | None:
    if times > 1:
        return f"multiple updates for ref '{shown(change.name)}' not allowed"
    malformed = check_pushed_name(change.name)
    if malformed is not None and change.new != ZERO_OID:
        return f"funny refname: {malformed}"
    decision = decide_ref_update(change.name, action_of(change), rules)
    if isinstance(decision, Deny):
        return decision.because
    return _refusal_by_state(change, listing)


def _obstacle(change: RefChange, touched: Container[RefName], listing: RefListing) -> str | None:
    """A new name that would be both a file and a directory, beside refs that this push leaves alone.

    As all here an early look, so that such a push does not store a pack first.
    """
    if change.new == ZERO_OID or listing.find(change.name) is not None:
        return None
    parts = change.name.split(b"/")
    above = (RefName(b"/".join(parts[:count])) for count in range(2, len(parts)))
    inside = (ref.name for ref in listing.under(change.name + b"/", limit=1))
    for name in chain(above, inside):
        if name not in touched and listing.find(name) is not None:
            return f"'{shown(name)}' exists"
    return None


def action_of(change: RefChange) -> RefAction:
    """What a command asks for, as far as it can be seen without the commits."""
    if change.new == ZERO_OID:
        return RefAction.DELETE
    return RefAction.CREATE if change.old == ZERO_OID else RefAction.UPDATE


def _refusal_by_state(change: RefChange, listing: RefListing) -> str | None:
    """An early look; the compare-and-swap inside the ledger is what counts."""
    present = listing.find(change.name)
    found = present.oid if present is not None else ZERO_OID
    if change.new == ZERO_OID and change.name == listing.repository.head and present is not None:
        return f"refusing to delete the default branch {shown(change.name)}"
    if change.new == ZERO_OID and present is None and change.old == ZERO_OID:
        return f"'{shown(change.name)}' does not exist"
    if change.old == found or is_done(change, found):
        return None
    if change.old == ZERO_OID:
        return "reference already exists"
    return f"cannot lock ref '{shown(change.name)}': is at {found} but expected {change.old}"


def first_head(listing: RefListing, changes: Sequence[RefChange]) -> RefName | None:
    """Where HEAD should point while its branch is unborn: main, master, else the first branch pushed."""
    if listing.find(listing.repository.head) is not None:
        return None
    created = [
        change.name for change in changes if change.new != ZERO_OID and change.name.startswith(b"refs/heads/")
    ]
    if not created or listing.repository.head in created:
        return None
    return next((head for head in _PREFERRED_HEADS if head in created), created[0])
