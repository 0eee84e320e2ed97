"""Lengths of time, as people type them."""

import re

from mainstay.foundation.errors import Invalid

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class NotADuration(Invalid):
    """The text is not a length of time."""


def milliseconds(text: str) -> int:
    """Such as 30m, 1h or 2d. Raises `NotADuration`."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise NotADuration(f"{text!r} is not a length of time such as 30m, 1h or 2d")
    return int(found[1]) * _UNIT_MS[found[2]]
