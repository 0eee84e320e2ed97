"""From a location to a store that is ready for use."""

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.storage.objects import ObjectStore
from mainstay.storage.objects.directory import DirectoryStore
from mainstay.storage.objects.location import CloudLocation, DirectoryLocation, parse_location
from mainstay.storage.objects.memory import MemoryStore


def open_object_store(url: str, *, clock: Clock = SYSTEM) -> ObjectStore:
    """Open the store at `url`, in the forms of `location`. A directory is made if it is not there.

    A cloud is not asked anything yet, so this succeeds while it is away. Raises `Invalid`, `Unavailable`.
    """
    location = parse_location(url)
    if isinstance(location, DirectoryLocation):
        return DirectoryStore(location.path, clock=clock)
    if isinstance(location, CloudLocation):
        from mainstay.storage.objects.cloud import CloudStore  # noqa: PLC0415 - only its users pay for it

        return CloudStore(location)
    return MemoryStore(clock=clock)
