"""One set of parameters out of the four places where clients put them.

The same endpoint is sent JSON, a form, multipart, or a query string on a POST, sometimes two at once:
path beats body beats query. Bracketed names nest as in Rack: `a[]=1`, `a[k]=v`, `a[][k]=v`, `not[labels]`.
Reading a parameter converts it; what cannot be converted is a `WrongParameter` in GitLab's words.

Not here: what the values mean (the endpoints), how a body is parsed (Django REST framework).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from mainstay.foundation.errors import Invalid

DEPTH_MAX = 8
"""Brackets in one name, and levels of nesting in JSON that are looked into."""
ITEMS_MAX = 1000
TEXT_CHARACTERS_MAX = 1_000_000
SEARCH_CHARACTERS_MAX = 500

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z")
_TRUE = frozenset({"true", "t", "1", "on", "yes", "y"})
_FALSE = frozenset({"false", "f", "0", "off", "no", "n"})

Choice = TypeVar("Choice", bound=str)


class WrongParameter(Invalid):
    """A parameter is missing or cannot be converted; the message is what the client is shown."""


def nested(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Build the tree that bracketed names describe. A plain name given twice: the last one counts."""
    tree: dict[str, Any] = {}
    for name, value in pairs:
        _place(tree, _segments(name), value, name)
    return tree


def merged(*, path: Mapping[str, Any], body: Mapping[str, Any], query: Mapping[str, Any]) -> dict[str, Any]:
    """Path beats body beats query."""
    return {**query, **body, **path}


def _segments(name: str) -> list[str]:
    head, bracket, _ = name.partition("[")
    rest = name[len(head) :]
    segments = _BRACKETS.findall(rest)
    if not bracket or not head or "".join(f"[{segment}]" for segment in segments) != rest:
        return [name]
    if len(segments) > DEPTH_MAX:
        raise _wrong(head)
    return [head, *segments]


def _place(tree: dict[str, Any], segments: list[str], value: Any, name: str) -> None:
    """Put `value` at the end of the path `segments`; an empty segment is a list."""
    key, rest = segments[0], segments[1:]
    if not rest:
        tree[key] = value
        return
    if rest[0] == "":
        _append(_child(tree, key, list, name), rest[1:], value, name)
        return
    _place(_child(tree, key, dict, name), rest, value, name)


def _append(items: list[Any], rest: list[str], value: Any, name: str) -> None:
    if len(items) >= ITEMS_MAX:
        raise _wrong(name)
    if not rest:
        items.append(value)
        return
    # As in Rack, `a[][k]` starts a new element when the present one has a `k` already.
    if not items or not isinstance(items[-1], dict) or rest[0] in items[-1]:
        items.append({})
    _place(items[-1], rest, value, name)


def _child(tree: dict[str, Any], key: str, kind: type[Any], name: str) -> Any:
    child = tree.setdefault(key, kind())
    if not isinstance(child, kind):
        raise _wrong(name)
    return child


def _wrong(name: str) -> WrongParameter:
    return WrongParameter(f"{name} does not have a valid value")


class Parameters:
    """The merged parameters of one request, read by name and type."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        """Whether the client sent it, be it as null or empty."""
        return name in self._values

    def require(self, *names: str) -> None:
        """All of these, or one error that names each missing one."""
        missing = [name for name in names if self._values.get(name) is None]
        if missing:
            raise WrongParameter(", ".join(f"{name} is missing" for name in missing))

    def require_one_of(self, *names: str) -> None:
        if all(self._values.get(name) in (None, "") for name in names):
            raise WrongParameter(f"{', '.join(names)} are missing, at least one parameter must be provided")

    def text(self, name: str) -> str:
        self.require(name)
        value = self.maybe_text(name)
        assert value is not None
        return value

    def maybe_text(self, name: str) -> str | None:
        """None when absent or null. Numbers and booleans become the text a form would have had."""
        return _text(name, self._values.get(name))

    def search(self, name: str = "search") -> str:
        """Words to look for; empty when absent. Databases refuse to match very long patterns."""
        words = self.maybe_text(name) or ""
        if len(words) > SEARCH_CHARACTERS_MAX:
            raise _wrong(name)
        return words

    def integer(self, name: str) -> int:
        self.require(name)
        value = self.maybe_integer(name)
        if value is None:
            raise _wrong(name)
        return value

    def maybe_integer(self, name: str) -> int | None:
        """None when absent, null or empty."""
        return _integer(name, self._values.get(name))

    def numbers(self, name: str) -> list[int] | None:
        """A list of integers, given as `texts` are. None when absent."""
        texts = self.texts(name)
        if texts is None:
            return None
        numbers = [_integer(name, text) for text in texts]
        return [number for number in numbers if number is not None]

    def maybe_boolean(self, name: str) -> bool | None:
        """None when absent, null or empty."""
        return _boolean(name, self._values.get(name))

    def flag(self, name: str) -> bool:
        """A boolean that is false unless given."""
        return self.maybe_boolean(name) or False

    def maybe_choice(self, name: str, choices: Iterable[str]) -> str | None:
        """One of `choices`; None when absent, null or empty."""
        value = self.maybe_text(name)
        if not value:
            return None
        if value not in choices:
            raise _wrong(name)
        return value

    def maybe_date(self, name: str) -> date | None:
        """`2026-11-21`, or the day of a full time stamp. None when absent, null or empty."""
        at = self._maybe_moment(name)
        return None if at is None else at.date()

    def maybe_moment_ms(self, name: str) -> int | None:
        """An ISO 8601 time; without a zone it is UTC, without a time the start of the day."""
        at = self._maybe_moment(name)
        return None if at is None else int(at.timestamp() * 1000)

    def _maybe_moment(self, name: str) -> datetime | None:
        text = self.maybe_text(name)
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise _wrong(name) from error

    def texts(self, name: str) -> list[str] | None:
        """A list of texts: `a[]=`, a JSON list, or one text with commas. None when absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return [str(value)]
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list) or len(value) > ITEMS_MAX:
            raise _wrong(name)
        texts = [_text(name, item) for item in value]
        return [text for text in texts if text]

    def mappings(self, name: str) -> list["Parameters"] | None:
        """A list of objects: JSON, `a[][k]=`, or `a[0][k]=`. None when absent."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, dict) and all(key.isdecimal() for key in value):
            value = [value[key] for key in sorted(value, key=int)]
        if not isinstance(value, list) or len(value) > ITEMS_MAX:
            raise _wrong(name)
        if not all(isinstance(item, dict) for item in value):
            raise _wrong(name)
        return [Parameters(item) for item in value]

    def mapping(self, name: str) -> "Parameters":
        """The object `name`, such as `not[labels]`; an empty one when absent."""
        value = self._values.get(name)
        if value is None:
            return Parameters({})
        if not isinstance(value, dict):
            raise _wrong(name)
        return Parameters(value)


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or not _is_storable(value):
        raise _wrong(name)
    return value


def _is_storable(text: str) -> bool:
    """PostgreSQL stores no NUL, and JSON may smuggle in half a surrogate pair (U+D800)."""
    if "\x00" in text or len(text) > TEXT_CHARACTERS_MAX:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _integer(name: str, value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise _wrong(name)
    if isinstance(value, int) and abs(value) < 10**18:
        return value
    if isinstance(value, str) and _INTEGER.match(value):
        return int(value)
    raise _wrong(name)


def _boolean(name: str, value: Any) -> bool | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _wrong(name)
