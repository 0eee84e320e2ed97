"""Which projects a cache keeps: `group/**` all below a group, `group/*` all directly in it, else one path."""

import re
from collections.abc import Sequence


def matches(patterns: Sequence[str], path: str) -> bool:
    """Whether the project at `path` is to be kept. Upper and lower case are the same, as in addresses."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


def _compiled(pattern: str) -> re.Pattern[str]:
    """`**` is anything, `*` and `?` stay within one part of the path."""
    parts = re.split(r"(\*\*|\*|\?)", pattern.strip("/"))
    known = {"**": ".+", "*": "[^/]+", "?": "[^/]"}
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts), re.IGNORECASE)
