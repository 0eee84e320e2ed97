"""How far each site is with the objects of this one: known to every process of the node within milliseconds.

A site acknowledges to whichever process serves its line; who commits a push is another one. So what was
acknowledged is a small file that is replaced whole, in a directory that is watched. It is soft state: after a
start of the node it is empty until the sites speak again. What is to be known for longer goes to the
registry, every few seconds.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.foundation.file_locks import held
from mainstay.foundation.ids import is_ulid
from mainstay.foundation.private_files import make_private_directory, replace_file

AHEAD_MAX: Final = 256
_NUMBER_MAX: Final = 1 << 62
_FILE: Final = "acknowledged.json"


class NotAnAcknowledgement(Invalid):
    """What a site said is none."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a site has, by positions in a feed of this one (`storage.feed.log`)."""

    identity: str
    """Of the feed; empty: the site compares everything, and says nothing about positions."""
    position: int
    """Everything before it is durable there."""
    ahead: tuple[tuple[int, int], ...] = ()
    """Stretches behind that position which are, too."""
    received_bytes: int = 0
    """Only grows while the site runs: a sign that something moves."""
    at_ms: int = 0
    """When it came, by our clock."""

    def has(self, identity: str, start: int, end: int) -> bool:
        """Whether the stretch of that feed is there."""
        if self.identity != identity:
            return False
        return end <= self.position or any(first <= start and end <= last for first, last in self.ahead)


def acknowledged_from(said: object, *, at_ms: int) -> Acknowledged:
    """What a site says in its request. Raises `NotAnAcknowledgement`."""
    try:
        facts: Any = said
        identity = str(facts["identity"])
        ahead = tuple((_number(first), _number(last)) for first, last in facts.get("ahead", []))
        found = Acknowledged(
            identity, _number(facts["position"]), ahead, _number(facts.get("received_bytes", 0)), at_ms
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotAnAcknowledgement("an acknowledgement has identity and position") from error
    if (identity and not is_ulid(identity)) or len(ahead) > AHEAD_MAX:
        raise NotAnAcknowledgement(f"an acknowledgement names a feed, and at most {AHEAD_MAX} stretches")
    return found


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < _NUMBER_MAX:
        raise ValueError(value)
    return value


class Positions:
    """The file in one directory. Safe for threads and for processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def begin(self) -> None:
        """Make the directory, and forget what an earlier run knew. Once per start of a node."""
        make_private_directory(self.directory)
        self._file.unlink(missing_ok=True)

    def note(self, site_id: str, found: Acknowledged) -> None:
        """Let everybody know what a site has."""
        with self._locked():
            every = {**self.all(), site_id: found}
            text = json.dumps({site: asdict(each) for site, each in every.items()})
            replace_file(self._file, text.encode())

    def forget(self, site_id: str) -> None:
        with self._locked():
            every = {site: asdict(each) for site, each in self.all().items() if site != site_id}
            replace_file(self._file, json.dumps(every).encode())

    def all(self) -> Mapping[str, Acknowledged]:
        """By site. Read each time: within one tick of the clock a new file may look like the last one."""
        try:
            return _read(self._file.read_text())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Unavailable(f"cannot read what sites have: {error.strerror}") from error

    @property
    def _file(self) -> Path:
        return self.directory / _FILE

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.directory / "lock"))
            except OSError as error:
                raise Unavailable(f"cannot keep what a site has: {error.strerror}") from error
            yield


def _read(text: str) -> dict[str, Acknowledged]:
    """Our own file, written whole: what cannot be read was not written by us, and is nothing."""
    try:
        said = json.loads(text)
        return {
            str(site): acknowledged_from(facts, at_ms=int(facts["at_ms"])) for site, facts in said.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, Invalid):
        return {}
