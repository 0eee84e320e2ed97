"""Maintenance mode in the processes of a node: how each keeps up with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from mainstay.boot.stores import Stores
from mainstay.cluster.reading_line import open_reading_line
from mainstay.foundation.clock import SYSTEM
from mainstay.ops.maintenance import switch
from mainstay.ops.maintenance.lookout import LINE_LIMIT_S, Lookout


def lookout_of(stores: Stores) -> Lookout:
    """On a line of its own: a pool that is full of waiting pushes must not keep the news out.

    A replica reads the decree of its primary, which came with the database.
    """
    line = open_reading_line(stores.settings.database_url, limit_s=LINE_LIMIT_S)
    return Lookout(lambda: switch.look(line), clock=SYSTEM, close=line.close)


@contextmanager
def looking_out(stores: Stores, *, briefly: bool = False) -> Iterator[Lookout]:
    """For the length of the block. `briefly`: for one conversation, which is not worth a line of its own."""
    of_one = Lookout(lambda: switch.look(stores.database), clock=SYSTEM)
    lookout = of_one if briefly else lookout_of(stores)
    lookout.start()
    try:
        yield lookout
    finally:
        lookout.stop()
