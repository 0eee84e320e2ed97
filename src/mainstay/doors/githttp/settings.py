"""Limits of Git over HTTP. Every wait and every body has one."""

from dataclasses import dataclass

_MIB = 1024 * 1024
_GIB = 1024 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHttpSettings:
    """Git over HTTP."""

    push_bytes_max: int = 10 * _GIB
    """The largest body of a push, after gzip; 0 means no limit."""
    fetch_request_bytes_max: int = 64 * _MIB
    """The largest list of wants and haves, after gzip."""
    requests_max: int = 64
    """Git requests that this process serves at a time; more wait in line."""
    requests_per_address_max: int = 48
    """Of these, how many may be for one address, so that one stranger cannot keep everybody out."""
    waiting_max: int = 256
    """Requests in that line; more are answered 503 at once."""
    waiting_s_max: float = 15.0
    """Longest stay in that line before a 503."""
    idle_s_max: float = 60.0
    """Longest silence of a client in the middle of a body, sent or received."""
    body_bytes_per_s_min: int = 1024
    """A body slower than this on average, after `idle_s_max`, is cut."""
    hold_s: float = 0.0
    """How long a request waits at its beginning for a database that is away."""
    held_max: int = 48
    """Requests that wait so; more are answered 503 at once."""
    gate_threads: int = 8
    """Threads that ask the database who may."""
    realm: str = "Mainstay"
