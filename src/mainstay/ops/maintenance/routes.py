"""What an HTTP request is about: the tables. Pure.

Paths are compared as they came over the wire: an address that is written in another way than a client writes
it is not in the table, and what is not in the table is a write unless its method only looks.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from mainstay.ops.maintenance.decisions import Deed

DeedOf = Callable[[str, bytes, bytes], Deed]
"""Of method, raw path and query."""

_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_ANY = "ANY"

_TABLE: tuple[tuple[str, re.Pattern[bytes], Deed], ...] = tuple(
    (methods, re.compile(pattern), deed)
    for methods, pattern, deed in (
        ("ANY", rb"/api/v4/maintenance", Deed.SWITCH),
        ("GET HEAD POST PUT", rb"/api/v4/application/settings", Deed.SWITCH),
        ("POST PUT PATCH", rb"/admin/application_settings(/[a-z_]+)?", Deed.SWITCH),
        ("GET HEAD", rb"/-/assets/[\w.-]+", Deed.SWITCH),
        ("POST DELETE", rb"/users/sign_(in|out)", Deed.SIGN_IN),
        ("POST", rb"/oauth/token", Deed.SIGN_IN),
        ("POST", rb"/admin/session(/destroy)?", Deed.SIGN_IN),
        ("POST", rb"/[^?]+/-/compare", Deed.SIGN_IN),
        ("ANY", rb"/api/v4/internal/.+", Deed.SIGN_IN),
        ("ANY", rb"/admin/sidekiq(/.*)?", Deed.SIGN_IN),
        ("ANY", rb"/admin/geo(/.*)?", Deed.SIGN_IN),
        ("ANY", rb"/api/v4/geo_replication(/.*)?", Deed.SIGN_IN),
    )
)
"""GitLab's own list, so that what works there in read-only mode works here; the first line and the third are
ours. The first row that fits counts."""


@lru_cache(maxsize=1024)
def deed_of_request(method: str, raw_path: bytes, query: bytes = b"") -> Deed:  # noqa: ARG001 - as `DeedOf`
    """Of pages and the API."""
    path = raw_path.removesuffix(b"/")
    for methods, pattern, deed in _TABLE:
        if (methods == _ANY or method in methods.split()) and pattern.fullmatch(path):
            return deed
    return Deed.LOOK if method in _LOOKING else Deed.WRITE


def deed_of_git(_method: str, raw_path: bytes, query: bytes) -> Deed:
    """Of the three addresses of Git's smart protocol; a push is told at its first question."""
    if raw_path.endswith(b"/git-receive-pack"):
        return Deed.PUSH
    if raw_path.endswith(b"/info/refs") and b"git-receive-pack" in unquote_to_bytes(query):
        return Deed.PUSH
    return Deed.FETCH


def never_closed(_method: str, _raw_path: bytes, _query: bytes) -> Deed:
    """Of doors for machines that must hear how it is: probes, metrics, nodes that join."""
    return Deed.SWITCH
