"""What the segments of an API path mean.

The path arrives still percent-encoded, because `%2F` inside a segment (`group%2Fproject`, a branch
`feature%2Fx`, a file path) is not a separator. Each converter decodes its own segment, exactly once.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from django.urls import register_converter

_ID_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Reference:
    """How a client names a project, group, namespace or user: by number or by name."""

    id: int | None
    path: str | None

    @property
    def key(self) -> int | str:
        """Whichever of the two it is."""
        if self.id is not None:
            return self.id
        assert self.path is not None
        return self.path

    def __str__(self) -> str:
        return str(self.key)


def decoded(segment: str) -> str:
    """Decode one segment; bytes that are not UTF-8 survive as surrogates, as in `git.objectnames.shown`.

    Raises ValueError, which Django takes for "no such route", when a NUL hides in it.
    """
    raw = unquote_to_bytes(segment)
    if b"\x00" in raw:
        raise ValueError("a path holds no NUL")
    return raw.decode("utf-8", "surrogateescape")


def reference(text: str) -> Reference:
    """All digits are an id, as in GitLab, whose paths cannot be digits alone."""
    if text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS_MAX:
        return Reference(id=int(text), path=None)
    return Reference(id=None, path=text)


class NumberConverter:
    """A positive integer that fits the database's column."""

    regex = rf"[0-9]{{1,{_ID_DIGITS_MAX}}}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


class SegmentConverter:
    """A decoded segment that may be any bytes: branch, tag, revision."""

    regex = r"[^/]+"

    def to_python(self, value: str) -> str:
        return decoded(value)

    def to_url(self, value: str) -> str:
        return value


class ReferenceConverter:
    """An id or a full path."""

    regex = r"[^/]+"

    def to_python(self, value: str) -> Reference:
        return reference(_utf8(decoded(value)))

    def to_url(self, value: Reference) -> str:
        return str(value)


class TextConverter:
    """A decoded segment that the database is asked for: a pattern, a path that may be in use."""

    regex = r"[^/]+"

    def to_python(self, value: str) -> str:
        return _utf8(decoded(value))

    def to_url(self, value: str) -> str:
        return value


def _utf8(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("names in the database are UTF-8")
    return text


register_converter(NumberConverter, "number")
register_converter(SegmentConverter, "segment")
register_converter(ReferenceConverter, "reference")
register_converter(TextConverter, "text")
