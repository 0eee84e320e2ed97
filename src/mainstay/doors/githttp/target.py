"""Which repository and which service a request means: strict, pure, decoded exactly once.

Anything that two readers of the same address could understand differently is refused here: empty and dotted
segments, encoded slashes, control characters, a second `service`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import parse_qsl, unquote_to_bytes

from mainstay.foundation.errors import Invalid, NotAllowed, NotFound
from mainstay.git.protocol.services import Service
from mainstay.product.projects.admission import project_path

_BYTES_MAX = 4096
_QUERY_FIELDS_MAX = 16
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_HIDDEN_BORDER = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)


class Endpoint(StrEnum):
    """The last part of the address."""

    ADVERTISEMENT = "info/refs"
    UPLOAD_PACK = "git-upload-pack"
    RECEIVE_PACK = "git-receive-pack"


class MalformedAddress(Invalid):
    """The address can be read in more than one way, or in none."""


class DumbProtocol(NotAllowed):
    """A client that asks for plain files, as Git did before 2010."""


class UnknownService(NotAllowed):
    """`service=` names something that is not one of Git's two services."""


@dataclass(frozen=True, slots=True)
class Target:
    path: str
    """Full path of the project, such as `ada/engine`; without `.git`."""
    endpoint: Endpoint
    service: Service


def claims(raw_path: bytes) -> bool:
    """Is this address Git's? Cheap: asked for every request of the node.

    `/-/` begins the web's own pages of a project, where a file may well be called `info/refs`.
    """
    return (
        raw_path.endswith((b"/info/refs", b"/git-upload-pack", b"/git-receive-pack"))
        and b"/-/" not in raw_path
        and not raw_path.startswith(b"/api/")
    )


@lru_cache(maxsize=1024)
def parse_target(raw_path: bytes, query: bytes) -> Target:
    """Read an address as it came over the wire. Raises `Invalid`, `NotFound` or `NotAllowed`.

    Pure, and asked the same again and again, so the last answers are remembered.
    """
    if len(raw_path) > _BYTES_MAX or len(query) > _BYTES_MAX:
        raise MalformedAddress(f"the address is longer than {_BYTES_MAX} bytes")
    path, endpoint = _split(raw_path)
    return Target(project_path(_decoded(path)), endpoint, _service_of(endpoint, query))


def _decoded(raw_path: bytes) -> str:
    """Decode once, and only what cannot move a border between segments."""
    if not raw_path.startswith(b"/"):
        raise MalformedAddress("the address does not begin with '/'")
    if _BROKEN_ESCAPE.search(raw_path) or _HIDDEN_BORDER.search(raw_path):
        raise MalformedAddress("the address has an escape that is broken, or hides a separator")
    try:
        return unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedAddress("the address is not UTF-8") from None


def _split(raw_path: bytes) -> tuple[bytes, Endpoint]:
    for endpoint in Endpoint:
        tail = b"/" + endpoint.value.encode()
        if raw_path.endswith(tail):
            return raw_path[: -len(tail)], endpoint
    raise NotFound("no such address")


def _service_of(endpoint: Endpoint, query: bytes) -> Service:
    asked = _services_asked(query)
    if len(asked) > 1:
        raise MalformedAddress("the query names more than one service")
    if endpoint is not Endpoint.ADVERTISEMENT:
        return _service_of_post(endpoint, asked)
    if not asked:
        raise DumbProtocol("this server speaks only the smart HTTP protocol; use git 1.6.6 or newer")
    if asked[0] not in set(Service):
        raise UnknownService("unknown service; there are git-upload-pack and git-receive-pack")
    return Service(asked[0])


def _service_of_post(endpoint: Endpoint, asked: list[str]) -> Service:
    if asked and asked[0] != endpoint.value:
        raise MalformedAddress("the query names another service than the address")
    return Service(endpoint.value)


def _services_asked(query: bytes) -> list[str]:
    try:
        fields = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_QUERY_FIELDS_MAX,
            errors="strict",
        )
    except ValueError:
        raise MalformedAddress("the query cannot be read") from None
    return [value for name, value in fields if name == "service"]
