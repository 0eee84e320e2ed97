"""JSON objects from another node, read strictly: no name twice, every value of its type and size.

Names that nobody asks for are left alone: the other node may be a release ahead.
"""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from mainstay.foundation.errors import Invalid

TEXT_CHARACTERS_MAX = 1000
_ITEMS_MAX = 10_000
_ABSENT = object()


class BadFields(Invalid):
    """What came is not what was agreed."""


def fields_of(body: bytes) -> "Fields":
    """Raises `BadFields`."""
    try:
        found = json.loads(body, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadFields(f"not JSON: {error}") from None
    return Fields(found)


class Fields:
    """One object."""

    def __init__(self, found: object) -> None:
        if not isinstance(found, dict):
            raise BadFields("not an object")
        self._found: dict[str, Any] = found

    def text(self, name: str, *, longest: int = TEXT_CHARACTERS_MAX) -> str:
        return _text(name, self._value(name), longest)

    def flag(self, name: str) -> bool:
        value = self._value(name)
        if not isinstance(value, bool):
            raise BadFields(f"{name!r} is neither true nor false")
        return value

    def whole(self, name: str, *, least: int, most: int, default: int | None = None) -> int:
        value = self._value(name, _ABSENT if default is None else default)
        # A bool is an int to Python, not to us.
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise BadFields(f"{name!r} is no whole number from {least} to {most}")
        return value

    def has(self, name: str) -> bool:
        return name in self._found

    def is_null(self, name: str) -> bool:
        return self._value(name) is None

    def inner(self, name: str) -> "Fields":
        return Fields(self._value(name))

    def objects(self, name: str) -> Sequence["Fields"]:
        return [Fields(each) for each in self._list(name)]

    def texts(self, name: str, *, longest: int = TEXT_CHARACTERS_MAX, empty: bool = False) -> Sequence[str]:
        """`empty`: a list that is not there is an empty one."""
        if empty and name not in self._found:
            return []
        return [_text(name, each, longest) for each in self._list(name)]

    def _list(self, name: str) -> list[object]:
        value = self._value(name)
        if not isinstance(value, list) or len(value) > _ITEMS_MAX:
            raise BadFields(f"{name!r} is no list of at most {_ITEMS_MAX}")
        return value

    def _value(self, name: str, default: object = _ABSENT) -> Any:
        value = self._found.get(name, default)
        if value is _ABSENT:
            raise BadFields(f"{name!r} is missing")
        return value


def _text(name: str, value: object, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise BadFields(f"{name!r} is no text of at most {longest} characters")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadFields("a name stands there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadFields(f"{name} is no number")
