"""The lines of a fetch that versions 0 and 2 share: wants, haves, depths and filters.

Each is read strictly: one spelling, nothing after it. Git is more lenient (`deepen 0x10`, junk after an
object name), and what we check here must be what git sees later.
"""

import re
from dataclasses import dataclass, field

from mainstay.foundation.errors import Invalid
from mainstay.git.objectnames import Oid

DEPTH_MAX = 2**31 - 1
"""Git's own "as deep as it gets", sent by `git fetch --unshallow`."""
NAME_BYTES_MAX = 4096

_OBJECT = re.compile(rb"[0-9a-f]{40}\Z")
_NUMBER = re.compile(rb"[0-9]{1,19}\Z")
_PLAIN_FILTER = re.compile(
    rb"(blob:none|blob:limit=[0-9]{1,18}[kmgKMG]?|tree:[0-9]{1,9}|object:type=(blob|tree|commit|tag))\Z"
)
_COMBINED = b"combine:"


class WrongRequest(Invalid):
    """A client asked something that the protocol does not know."""


def object_in(line: bytes, word: bytes) -> Oid:
    """The object named by `line`, which is `word`, a space and 40 digits."""
    digits = line[len(word) + 1 :]
    if _OBJECT.match(digits) is None:
        raise WrongRequest(f"protocol error: expected an object name, found {shown(line)}")
    return Oid(digits.decode("ascii"))


def shown(line: bytes) -> str:
    """A line of a client, short and quoted, for a message."""
    return repr(line[:80])[1:]


@dataclass(slots=True)
class Depth:
    """How much history a shallow client wants."""

    shallows: list[Oid] = field(default_factory=list)
    """Commits whose parents the client does not have."""
    deepen: int | None = None
    deepen_since_s: int | None = None
    deepen_not: list[bytes] = field(default_factory=list)
    relative: bool = False

    def take(self, line: bytes) -> bool:
        """Read one line; False when it is not about depth. Raises `WrongRequest`."""
        word, space, value = line.partition(b" ")
        if not space:
            return False
        if word == b"shallow":
            self.shallows.append(object_in(line, b"shallow"))
        elif word == b"deepen":
            self.deepen = _number(line, value, DEPTH_MAX)
        elif word == b"deepen-since":
            self.deepen_since_s = _number(line, value, 2**62)
        elif word == b"deepen-not":
            self.deepen_not.append(_name(line, value))
        else:
            return False
        return True

    def check(self) -> None:
        """Refuse what git refuses: a depth counted from the tips and one counted otherwise."""
        if self.deepen and (self.deepen_since_s or self.deepen_not):
            raise WrongRequest("deepen and deepen-since (or deepen-not) cannot be used together")


def filter_in(line: bytes) -> bytes:
    """The filter in `line`. Raises `WrongRequest` for one that we do not offer.

    `sparse:oid=` is refused: it takes any revision expression and tells whether that exists.
    """
    specification = line.removeprefix(b"filter ")
    parts = [specification]
    if specification.startswith(_COMBINED):
        parts = specification.removeprefix(_COMBINED).replace(b"%3A", b":").replace(b"%3a", b":").split(b"+")
        parts = [part.replace(b"%3D", b"=").replace(b"%3d", b"=") for part in parts]
    if not all(_PLAIN_FILTER.match(part) for part in parts):
        raise WrongRequest(f"filter {shown(specification)} is not supported")
    return specification


def _number(line: bytes, digits: bytes, largest: int) -> int:
    value = int(digits) if _NUMBER.match(digits) else 0
    if not 0 < value <= largest:
        raise WrongRequest(f"invalid depth: {shown(line)}")
    return value


def _name(line: bytes, value: bytes) -> bytes:
    if not value or value.startswith(b"-") or b"\0" in value or len(value) > NAME_BYTES_MAX:
        raise WrongRequest(f"invalid depth: {shown(line)}")
    return value
