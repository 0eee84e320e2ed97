"""Settings of the cache."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Local copies of repositories. Everything under `directory` may be deleted at any time."""

    directory: Path
    size_gib_max: int = 50
    """Above this the copies used longest ago are deleted first."""
    refs_in_memory_max: int = 1_000_000
    """Refs kept in memory for listings, over all repositories, per process."""
    responses_gib_max: int = 2
    """Answers to repeated fetches kept on disk, per process."""
