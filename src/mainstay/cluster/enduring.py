"""For threads that must go on whatever happens in one of their turns."""

from collections.abc import Iterator
from contextlib import contextmanager

from mainstay.foundation.errors import MainstayError, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import get_logger

log = get_logger()


@contextmanager
def bugs_as_outages(event: str) -> Iterator[None]:
    """A bug in the block is logged with its trace as `event`, and comes out as `Unavailable`."""
    try:
        yield
    except (MainstayError, OutcomeUnknown):
        raise
    except Exception as bug:
        log.exception(event)
        raise Unavailable(f"{type(bug).__name__}: {bug}") from bug
