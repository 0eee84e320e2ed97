"""Names of Git's things, as types.

An `Oid` is 40 lower-case hexadecimal digits; a `RefName` is bytes, because Git allows any bytes but a
few: decode it only to show it.
"""

import re
from typing import NewType

from mainstay.foundation.errors import Invalid

Oid = NewType("Oid", str)
RefName = NewType("RefName", bytes)

ZERO_OID = Oid("0" * 40)
"""Means "no such ref" on the wire: the old value of a creation, the new value of a deletion."""

_OID = re.compile(r"[0-9a-f]{40}\Z")


class NotAnOid(Invalid):
    """The bytes are not 40 lower-case hexadecimal digits."""


def oid(text: str | bytes) -> Oid:
    """Return `text` as an `Oid`. Stricter than `bytes.fromhex`, which takes white space."""
    digits = text.decode("latin-1") if isinstance(text, bytes) else text
    if _OID.match(digits) is None:
        raise NotAnOid(f"{digits[:80]!r} is not an object name")
    return Oid(digits)


def shown(name: RefName) -> str:
    """The ref name as text for people, logs and JSON; bytes that are not UTF-8 survive a round trip."""
    return name.decode("utf-8", "surrogateescape")


def ref_name(text: str) -> RefName:
    """The inverse of `shown`. Does not check the form; `git.refs` does."""
    return RefName(text.encode("utf-8", "surrogateescape"))
