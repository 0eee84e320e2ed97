"""The limits of the door for other sites."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SitesSettings:
    """Per process."""

    objects_max: int = 64
    """Objects on their way at the same time."""
    listings_max: int = 2
    polls_max: int = 256
    """Sites that wait for something new."""
    wait_s_max: int = 20
    """How long one of them waits."""
    silence_s_max: float = 60.0
    """How long a site may take nothing of what is sent to it."""
    body_s_max: float = 10.0
    body_bytes_max: int = 64 * 1024
    piece_bytes: int = 1 << 20
    """Read from the store at a time."""
    listed_at_once: int = 1000
