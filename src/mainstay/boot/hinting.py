"""Hints over Redis, as the settings say: who sends them in each process, and who listens in the worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mainstay.boot.settings import NodeSettings
from mainstay.cluster.belonging import remembered_instance
from mainstay.cluster.hints import Hints, Listener, NoHints, Sender
from mainstay.cluster.softstate import location_of


def hints_of(settings: NodeSettings) -> Hints:
    """What this process tells hints to. It connects when there is something to tell, or at `start`."""
    if not settings.redis_url:
        return NoHints()
    return Sender(location_of(settings.redis_url), channel=channel_of(settings))


@contextmanager
def listening(settings: NodeSettings, *, wake: Callable[[], None]) -> Iterator[None]:
    """Call `wake` for every hint, for the length of the block."""
    if not settings.redis_url:
        yield
        return
    listener = Listener(location_of(settings.redis_url), channel=channel_of(settings), wake=wake)
    listener.start()
    try:
        yield
    finally:
        listener.close()


def channel_of(settings: NodeSettings) -> str:
    """Channels do not belong to a numbered database: two instances on one Redis must differ by name."""
    return f"mainstay:{remembered_instance(settings.data) or 'new'}:outbox"
