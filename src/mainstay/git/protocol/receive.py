"""A push as the client says it: ref commands, push options, and then the pack.

Framing is checked here; whether a name or an update is allowed is decided by `git.refs` and by
`access`, so that one bad ref is one `ng` line and not the end of the push.

Format: https://git-scm.com/docs/pack-protocol (reference update request)
"""

import re
from dataclasses import dataclass, field

from mainstay.git.objectnames import ZERO_OID, Oid, RefName, oid
from mainstay.git.protocol.arguments import WrongRequest, object_in, shown
from mainstay.git.protocol.pktline import Delim, Flush, PktReader, ResponseEnd, text_of

COMMANDS_MAX = 250_000
"""Enough for a mirror of the largest repositories; each costs some hundred bytes of memory."""
COMMAND_BYTES_MAX = 64 * 1024 * 1024
REF_NAME_BYTES_MAX = 4096
SHALLOWS_MAX = 100_000
OPTIONS_MAX = 100
OPTION_BYTES_MAX = 1024

_ZEROS = ZERO_OID.encode()
_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\0]+)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RefCommand:
    """Move `name` from `old` to `new`; `ZERO_OID` on one side creates or deletes it."""

    old: Oid
    new: Oid
    name: RefName


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Everything a client says before its pack. No commands: it says nothing (a probe)."""

    commands: tuple[RefCommand, ...]
    capabilities: frozenset[bytes]
    shallows: tuple[Oid, ...]
    """Commits at the edge of the client's shallow history."""
    options: tuple[bytes, ...]
    """`git push -o`, in order, each one whole: never split or joined at any character."""

    @property
    def is_atomic(self) -> bool:
        return b"atomic" in self.capabilities


@dataclass(slots=True)
class _Draft:
    commands: list[RefCommand] = field(default_factory=list)
    capabilities: frozenset[bytes] = frozenset()
    shallows: list[Oid] = field(default_factory=list)
    options: list[bytes] = field(default_factory=list)
    in_options: bool = False
    bytes_read: int = 0


class CommandReader:
    """Bytes in; the request out, once; then `take_rest` has the beginning of the pack."""

    def __init__(self) -> None:
        self._packets = PktReader()
        self._draft = _Draft()
        self._request: PushRequest | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether not one byte has come."""
        return self._request is None and not self._packets.held_bytes and not self._draft.bytes_read

    def feed(self, data: bytes) -> PushRequest | None:
        """Add bytes; return the request when it is complete. Raises `WrongRequest` or `MalformedPkt`."""
        self._packets.feed(data)
        while self._request is None and (packet := self._packets.next()) is not None:
            self._take(packet)
        return self._request

    def take_rest(self) -> bytes:
        """The bytes after the request that came with it: the pack begins here."""
        assert self._request is not None, "the request is not complete"
        return self._packets.take_rest()

    def _take(self, packet: bytes | Flush | Delim | ResponseEnd) -> None:
        draft = self._draft
        if isinstance(packet, Flush):
            self._end_of_part()
        elif not isinstance(packet, bytes):
            raise WrongRequest("protocol error: a delimiter among the commands")
        elif draft.in_options:
            _take_option(draft, text_of(packet))
        else:
            _take_line(draft, packet)

    def _end_of_part(self) -> None:
        draft = self._draft
        if draft.commands and not draft.in_options and b"push-options" in draft.capabilities:
            draft.in_options = True
            return
        self._request = PushRequest(
            commands=tuple(draft.commands),
            capabilities=draft.capabilities,
            shallows=tuple(draft.shallows),
            options=tuple(draft.options),
        )


def _take_line(draft: _Draft, packet: bytes) -> None:
    draft.bytes_read += len(packet) + 4
    if draft.bytes_read > COMMAND_BYTES_MAX:
        raise WrongRequest(f"the commands are longer than {COMMAND_BYTES_MAX} bytes")
    line = text_of(packet)
    if line.startswith(b"shallow "):
        draft.shallows.append(object_in(line, b"shallow"))
        if len(draft.shallows) > SHALLOWS_MAX:
            raise WrongRequest(f"more than {SHALLOWS_MAX} shallow commits")
        return
    said, nul, capabilities = line.partition(b"\0")
    if said == b"push-cert":
        raise WrongRequest("signed pushes are not supported here: push without --signed")
    if nul:
        _take_capabilities(draft, capabilities)
    _take_command(draft, text_of(said))


def _take_capabilities(draft: _Draft, said: bytes) -> None:
    """They stand behind the first command, after a NUL; only there."""
    if draft.commands or b"\0" in said:
        raise WrongRequest("protocol error: capabilities that do not follow the first command")
    draft.capabilities = frozenset(said.split())
    for word in draft.capabilities:
        if word.startswith(b"object-format=") and word != b"object-format=sha1":
            raise WrongRequest(f"unsupported object format: {shown(word)}; this repository uses sha1")


def _take_command(draft: _Draft, line: bytes) -> None:
    found = _COMMAND.match(line)
    if found is None:
        raise WrongRequest(f"protocol error: expected old/new/ref, got {shown(line)}")
    if len(found[3]) > REF_NAME_BYTES_MAX:
        raise WrongRequest(f"a ref name is longer than {REF_NAME_BYTES_MAX} bytes: {shown(found[3])}")
    draft.commands.append(RefCommand(_oid(found[1]), _oid(found[2]), RefName(found[3])))
    if len(draft.commands) > COMMANDS_MAX:
        raise WrongRequest(f"more than {COMMANDS_MAX} ref updates in one push")


def _oid(digits: bytes) -> Oid:
    """One string for all zeros: a push of many new refs has as many of them."""
    return ZERO_OID if digits == _ZEROS else oid(digits)


def _take_option(draft: _Draft, option: bytes) -> None:
    if len(option) > OPTION_BYTES_MAX:
        raise WrongRequest(f"a push option is longer than {OPTION_BYTES_MAX} bytes")
    if b"\0" in option or b"\n" in option:
        raise WrongRequest(f"a push option holds a line feed or a NUL: {shown(option)}")
    draft.options.append(option)
    if len(draft.options) > OPTIONS_MAX:
        raise WrongRequest(f"more than {OPTIONS_MAX} push options")
