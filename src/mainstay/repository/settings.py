"""Settings of the Git service."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositorySettings:
    """What a push or a fetch may cost."""

    quarantine: Path
    """Half pushes live here; wiped when the node starts. On the file system of the object directory, a
    pack enters the store by a hard link."""
    pack_gib_max: int = 10
    """The largest pack a push may bring."""
    pack_objects_max: int = 20_000_000
    """The most objects a push may bring: memory of index-pack grows with what the header announces."""
    child_memory_mib: int = 192
    """Private memory a git process may use, besides some 300 bytes for each object of a pushed pack."""
    push_cpu_s: int = 10
    """Seconds of computing that a pushed pack may take to unpack, besides `push_cpu_s_per_mib` for each MiB
    of it. Honest packs take a tenth of a second per MiB; a long chain of large deltas takes minutes."""
    push_cpu_s_per_mib: int = 4
    fetch_memory_mib: int = 4096
    """Private memory that a fetch's git processes may use each: packing a large repository for the first
    time needs about 1 KiB per object."""
    fetch_s_max: float = 4 * 3600
    """A fetch that takes longer is ended."""
    fetches_max: int = 64
    """Fetches that may run at once in this process; more wait."""
    pushes_max: int = 64
    """Pushes that may run at once in this process; more wait."""
    wait_s_max: float = 30.0
    """How long a fetch or push waits for its turn before it is told to come back later."""
    keepalive_s: float = 5.0
    """A silent push says that it is alive this often, so that no proxy gives it up."""
    hold_s: float = 0.0
    """How long a push waits for a database that is away."""
    threads: int = 16
    """Threads for what blocks: ledger, object store, short git processes."""
    reachable_objects_max: int = 10_000_000
    """Above this many objects, a fetch of something that is no tip is refused instead of looked for."""
