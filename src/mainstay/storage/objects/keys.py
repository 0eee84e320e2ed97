"""The form of object keys.

Keys are strict on purpose: the same key must name one file in a directory and one object in every cloud,
and none may climb out of the store, hide in it, or meet the store's own temporary files.
"""

import re
from typing import Final

from mainstay.foundation.errors import Invalid

KEY_LENGTH_MAX: Final = 512
"""Characters. S3 allows 1,024 bytes for prefix and key together."""

SEGMENT_LENGTH_MAX: Final = 255
"""Characters between slashes: what file systems allow for one name."""

_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")


class MalformedKey(Invalid):
    """The text cannot be the key of an object."""


def checked_key(key: str) -> str:
    """Return `key` if it is well formed, raise `MalformedKey` if not.

    Segments of `[A-Za-z0-9._-]`, none empty, none that starts with a dot: so no `..`, no absolute path,
    and none of the names a directory store uses for itself.
    """
    if not 0 < len(key) <= KEY_LENGTH_MAX:
        raise MalformedKey(f"object key of {len(key)} characters: must have 1 to {KEY_LENGTH_MAX}")
    for segment in key.split("/"):
        if len(segment) > SEGMENT_LENGTH_MAX or _SEGMENT.match(segment) is None:
            raise MalformedKey(f"object key {key!r}: segment {segment[:80]!r} is not allowed")
    return key


def checked_prefix(prefix: str) -> str:
    """Return `prefix` if keys can start with it: empty, a key, or a key and a slash."""
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix


def folder_of(prefix: str) -> str:
    """The part of `prefix` up to its last slash, without it: where a listing has to look."""
    return prefix.rpartition("/")[0]
