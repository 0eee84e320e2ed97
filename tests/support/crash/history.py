"""What one project went through: the refs that are known, and the next push with several refs.

Every attempt moves main forward, makes a new branch and, from the second on, deletes the branch made before:
an update, a creation and a deletion that must happen together or not at all.
"""

from dataclasses import dataclass, field

from support.crash.pushers import Update
from support.raw_push import ZERO, RawObject, blob, commit, tree

MAIN = "refs/heads/main"


@dataclass(frozen=True)
class Attempt:
    """A push about to be made."""

    updates: list[Update]
    objects: list[RawObject]
    atomic: bool = False

    def after(self, refs: dict[str, str]) -> dict[str, str]:
        """The refs if all of it happens."""
        moved = refs | {ref: new for ref, _, new in self.updates}
        return {ref: oid for ref, oid in moved.items() if oid != ZERO}

    def rebased_on(self, refs: dict[str, str]) -> "Attempt":
        """What git would send now: nothing that is there already, and the old values as they are."""
        updates = [(ref, refs.get(ref, ZERO), new) for ref, _, new in self.updates]
        return Attempt([each for each in updates if each[1] != each[2]], self.objects, self.atomic)


@dataclass
class History:
    """One project at `path`."""

    path: str
    refs: dict[str, str] = field(default_factory=dict)
    """As they were after the last check."""
    checked_version: int = 0
    """Up to this version of the repository every push had its event."""
    attempts: int = 0

    def next_attempt(self, *, atomic: bool = False) -> Attempt:
        self.attempts += 1
        n = self.attempts
        files = tree({"number": blob(f"{n} of {self.path}\n".encode())})
        beside = tree({"beside": blob(f"beside {n} of {self.path}\n".encode())})
        parent = self.refs.get(MAIN)
        ahead, branch = commit(files, parent, f"main {n}"), commit(beside, parent, f"topic {n}")
        updates = [(MAIN, parent or ZERO, ahead.oid), (f"refs/heads/topic-{n}", ZERO, branch.oid)]
        gone = next((ref for ref in sorted(self.refs) if ref.startswith("refs/heads/topic-")), None)
        if gone:
            updates.append((gone, self.refs[gone], ZERO))
        blobs = [
            blob(f"{n} of {self.path}\n".encode()),
            blob(f"beside {n} of {self.path}\n".encode()),
        ]
        return Attempt(updates, [*blobs, files, beside, ahead, branch], atomic)
