"""The limits of the door for other sites."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SitesSettings:
    """Per process."""

    objects_max: int = 64
    """Objects on their way at the same time."""
    bundled_max: int = 64
    """Small objects in one answer, and how small they are."""
    bundled_bytes_max: int = 256 * 1024
    listings_max: int = 2
    polls_max: int = 256
    """Sites that wait for something new."""
    wait_s_max: int = 20
    """How long one of them waits."""
    gather_s: float = 0.05
    """How long news is gathered for a site that nobody waits for: one answer costs less than ten."""
    silence_s_max: float = 60.0
    """How long a site may take nothing of what is sent to it."""
    body_s_max: float = 10.0
    body_bytes_max: int = 64 * 1024
    piece_bytes: int = 1 << 20
    """Read from the store at a time."""
    listed_at_once: int = 1000
