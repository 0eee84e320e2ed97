"""Identifiers that are made without asking anyone.

A ULID is 48 bits of milliseconds and 80 random bits in 26 characters of Crockford's base 32: unique
without coordination, sortable by time, safe in a file name and in an object key.
Layout: https://github.com/ulid/spec
"""

import os

from mainstay.foundation.clock import SYSTEM

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_RANDOM_BYTES = 10
_LENGTH = 26


def new_ulid() -> str:
    """Return a fresh ULID, such as `01JD6Q9Z4M8W3N5V7X2Y1B0CDE`."""
    value = (SYSTEM.now_ms() << 80) | int.from_bytes(os.urandom(_RANDOM_BYTES))
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(5 * (_LENGTH - 2), -1, -10)])


def is_ulid(text: str) -> bool:
    return len(text) == _LENGTH and all(letter in _ALPHABET for letter in text)
