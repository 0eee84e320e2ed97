"""What was decreed, as it is kept in the database and known in each process. Values and pure questions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from mainstay.foundation.clock import iso8601
from mainstay.foundation.errors import Invalid

MESSAGE_CHARS_MAX = 500
EXCEPTIONS_MAX = 100
HOLD_S_MAX = 30
"""A push waits no longer than this for a planned failover; then it is refused."""


class Mode(StrEnum):
    OFF = "off"
    READ_ONLY = "read-only"
    """Everybody may look and fetch; nobody may change anything."""
    FULL = "full"
    """Closed, but for the addresses that are excepted."""


class BadMessage(Invalid):
    """The message cannot be shown by git, in a header and on a page alike."""


class BadException(Invalid):
    """Not an address or a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """The decree. Times are of the database's clock."""

    mode: Mode = Mode.OFF
    """From `starts_ms` on; until then it is announced."""
    message: str = ""
    allow: tuple[str, ...] = ()
    """Networks for which there is no maintenance."""
    starts_ms: int = 0
    by: str = ""
    hold_until_ms: int | None = None
    """Set while a planned failover lets writes wait; past it they are refused, until they are released."""

    def mode_at(self, now_ms: int) -> Mode:
        return self.mode if self.starts_ms <= now_ms else Mode.OFF

    def is_announced_at(self, now_ms: int) -> bool:
        """Whether it is scheduled and has not begun."""
        return self.mode is not Mode.OFF and self.starts_ms > now_ms

    def is_quiet_at(self, now_ms: int) -> bool:
        """Whether workers leave all work that can wait."""
        return self.hold_until_ms is not None or self.mode_at(now_ms) is not Mode.OFF

    def excepts(self, address: str) -> bool:
        return bool(self.allow) and _is_within(address, self.allow)


OPEN = Maintenance()


def checked_message(text: str) -> str:
    """One line of at most `MESSAGE_CHARS_MAX` printable characters. Raises `BadMessage`."""
    message = text.strip()
    if len(message) > MESSAGE_CHARS_MAX:
        raise BadMessage(f"the message is longer than {MESSAGE_CHARS_MAX} characters")
    if not message.isprintable():
        raise BadMessage("the message has a line break or a control character")
    return message


def checked_exceptions(texts: Sequence[str]) -> tuple[str, ...]:
    """Each in its plain form. Raises `BadException`; a network with host bits is a mistake, not a guess."""
    if len(texts) > EXCEPTIONS_MAX:
        raise BadException(f"there are more than {EXCEPTIONS_MAX} exceptions")
    return tuple(dict.fromkeys(str(_network(text)) for text in texts))


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise BadException(f"{text!r} is not an address or a network such as 10.1.0.0/16: {error}") from error


@lru_cache(maxsize=4096)
def _is_within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    plain = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(plain in ip_network(network) for network in networks)


def as_text(state: Maintenance) -> str:
    return json.dumps(asdict(state))


def from_text(text: str | None) -> Maintenance:
    """Fields that a newer version may have added are left out."""
    if text is None:
        return OPEN
    kept: dict[str, Any] = json.loads(text)
    known = {name: kept[name] for name in Maintenance.__dataclass_fields__ if name in kept}
    return Maintenance(**{**known, "mode": Mode(known["mode"]), "allow": tuple(known["allow"])})


def banner_of(state: Maintenance, now_ms: int) -> dict[str, str] | None:
    """What people should be told: that it is coming, or that it is here. A hold is over before one reads."""
    if state.mode is Mode.OFF:
        return None
    return {
        "state": "scheduled" if state.is_announced_at(now_ms) else "on",
        "mode": state.mode.value,
        "message": state.message,
        "starts_at": iso8601(state.starts_ms),
    }
