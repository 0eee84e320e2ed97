"""From the text of a setting to its value, and back. Raises `Invalid` with a sentence that helps."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import quote, urlsplit

from mainstay.cluster.softstate import location_of
from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import Secret
from mainstay.provision.traffic.records import Record, parse_record
from mainstay.storage.objects.location import parse_location

Networks = tuple[IPv4Network | IPv6Network, ...]

Role = Literal["web", "git", "ssh", "worker"]
DoorName = Literal["http", "https", "ssh"]

MANAGED = "managed"
"""As the database: a PostgreSQL server that the node runs itself."""
_PORT_MAX = 65535
_NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_HOST_NAME = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?){1,32}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > _PORT_MAX:
        raise Invalid(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    bare = host.removeprefix("[").removesuffix("]")
    if ":" in bare and bare == host:
        raise Invalid(f"{text!r}: put an IPv6 address in brackets, such as [::1]:8080")
    return Address(bare or "0.0.0.0", int(port))  # noqa: S104 - ":8080" is an explicit wish to listen everywhere


def address_or_none(text: str) -> Address | None:
    return address(text) if text else None


def address_of_name_server(text: str) -> Address | None:
    """HOST or HOST:PORT; name servers listen on 53."""
    if not text:
        return None
    has_port = text.endswith("]") is False and (text.count(":") == 1 or text.startswith("["))
    return address(text if has_port else f"[{text.strip('[]')}]:53" if ":" in text else f"{text}:53")


def file_or_none(text: str) -> Path | None:
    """An absolute path, because a node may be started anywhere."""
    if text and not Path(text).is_absolute():
        raise Invalid(f"{text!r} is not an absolute path")
    return Path(text) if text else None


def dns_records(text: str) -> tuple[Record, ...]:
    """Records with commas between."""
    return tuple(parse_record(part) for part in text.split(",") if part.strip())


def roles(text: str) -> frozenset[Role]:
    given = {part.strip() for part in text.split(",")}
    known = set(get_args(Role))
    if given == {"all"}:
        return frozenset(known)
    if unknown := given - known:
        raise Invalid(
            f"{', '.join(sorted(unknown)) or 'nothing'}: roles are {', '.join(get_args(Role))} or all"
        )
    return frozenset(cast("set[Role]", given))


def doors(text: str) -> frozenset[DoorName]:
    given = {part.strip() for part in text.split(",")}
    if unknown := given - set(get_args(DoorName)):
        raise Invalid(f"{', '.join(sorted(unknown)) or 'nothing'}: doors are {', '.join(get_args(DoorName))}")
    return frozenset(cast("set[DoorName]", given))


def node_name(text: str) -> str:
    if text and not _NODE_NAME.fullmatch(text):
        raise Invalid(f"{text!r}: a node name has letters, digits, dots and dashes, at most 63")
    return text


def host(text: str) -> str:
    """A name or an address without a port."""
    if text and not (_HOST_NAME.fullmatch(text) or _is_ip(text)):
        raise Invalid(f"{text!r} is neither a host name nor an address")
    return text


def labels(text: str) -> tuple[str, ...]:
    """Words with commas between, sorted."""
    given = sorted({part.strip() for part in text.split(",")} - {""})
    if wrong := [each for each in given if not _NODE_NAME.fullmatch(each)]:
        raise Invalid(f"{wrong[0]!r}: a label has letters, digits, dots and dashes, at most 63")
    return tuple(given)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def database_url(text: str) -> str:
    if text == MANAGED:
        return text
    scheme = urlsplit(text).scheme
    if scheme == "sqlite":
        if not text.startswith("sqlite:///") or text == "sqlite:///":
            raise Invalid(f"{text!r}: write sqlite:///ABSOLUTE/PATH (three slashes)")
        return text
    if scheme in ("postgresql", "postgres"):
        return text
    raise Invalid(f"a database is sqlite:///PATH, postgresql://… or managed, not {scheme or text!r}")


def object_store(text: str) -> str:
    if "://" not in text and text:
        return f"file://{quote(str(Path(text).absolute()))}"
    parse_location(text)
    return text


def redis_url(text: str) -> str:
    if text:
        location_of(text)
    return text


def external_url(text: str) -> str:
    if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
        raise Invalid(f"{text!r} is not http://HOST or https://HOST")
    return text.rstrip("/")


def networks(text: str) -> Networks:
    """Addresses and CIDR blocks with commas between."""
    return tuple(_network(part.strip()) for part in text.split(",") if part.strip())


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise Invalid(f"{text!r} is not an address or a block such as 10.0.0.0/16") from None


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
            raise Invalid(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def whole_number_or_auto(least: int, most: int) -> Callable[[str], int | None]:
    """None for `auto`, which somebody else works out."""
    number = whole_number(least, most)

    def read(text: str) -> int | None:
        return None if text == "auto" else number(text)

    return read


def words(*known: str) -> Callable[[str], frozenset[str]]:
    """Any of the words, with commas between; none: nothing."""

    def read(text: str) -> frozenset[str]:
        given = frozenset(part.strip() for part in text.split(",") if part.strip())
        if unknown := given - set(known):
            raise Invalid(f"{', '.join(sorted(unknown))}: choose from {', '.join(known)}")
        return given

    return read


def one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise Invalid(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def text_of(value: object) -> str:
    """The inverse of all of these."""
    if isinstance(value, Secret):
        return value.reveal()
    if value is None:
        return ""
    if isinstance(value, tuple | frozenset):
        return ",".join(sorted(map(str, value)) if isinstance(value, frozenset) else map(str, value))
    return str(value)
