"""Every class of objects there is. What is not here cannot be stored, and so cannot be forgotten.

Replication, its status, backup and integrity checks go through this registry. A new kind of object (LFS,
uploads, artifacts) is one entry more: without it the first `put` of such an object fails, in the first test.
"""

import re
from dataclasses import dataclass
from typing import Final

from mainstay.foundation.errors import Invalid

_ULID = r"[0-9A-HJKMNP-TV-Z]{26}"


class UnknownClass(Invalid):
    """A key that belongs to no class. A defect of the program, found before the object is stored."""


@dataclass(frozen=True, slots=True)
class ObjectClass:
    """Objects of one kind."""

    name: str
    """As people see it in `replica status`."""
    promise: str
    """What a site without these objects cannot do."""
    keys: re.Pattern[str]


PACKS: Final = ObjectClass(
    "packs",
    "serve the repositories",
    re.compile(rf"repositories/{_ULID}/packs/{_ULID}\.(pack|idx|rev|bitmap|graph)\Z"),
)
JOURNAL: Final = ObjectClass(
    "journal",
    "rebuild its database from its objects",
    re.compile(
        rf"journal/{_ULID}/([0-9]{{12}}\.json|prepared/[A-Za-z0-9_-]{{1,64}}\.json"
        r"|checkpoint-[0-9]{12}\.json\.gz)\Z"
    ),
)
MARKERS: Final = ObjectClass(
    "markers",
    "tell whose store this is, and which site may write",
    re.compile(r"(instance\.json|sites/epoch/[0-9]{1,19})\Z"),
)

CLASSES: Final = (PACKS, JOURNAL, MARKERS)


def class_of(key: str) -> ObjectClass:
    """The class that `key` belongs to. Raises `UnknownClass`."""
    for each in CLASSES:
        if each.keys.match(key):
            return each
    raise UnknownClass(
        f"object key {key!r} belongs to no class: add its class to the registry, or no replica will have it"
    )
