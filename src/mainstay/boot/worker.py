"""The worker process: jobs, schedules, the outbox, and the chores of this node.

On a replica there are no jobs and no schedules; only the cache of this node is looked after.
"""

import signal
import threading
from collections.abc import Callable, Mapping

from django import db

from mainstay.boot import child
from mainstay.boot.chores import Chores, pauses
from mainstay.boot.git import git_tools
from mainstay.boot.hinting import listening
from mainstay.boot.maintenance import looking_out
from mainstay.boot.station import stationed
from mainstay.boot.stores import Stores
from mainstay.cluster.station import Station
from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import MainstayError, OutcomeUnknown
from mainstay.foundation.logs import get_logger
from mainstay.jobs.worker import Worker
from mainstay.ops import backlog
from mainstay.ops.maintenance.lookout import Lookout

log = get_logger()

_CHORES_EVERY_S = 60.0


def main() -> None:
    with (
        child.begun("worker") as stores,
        git_tools(stores) as tools,
        looking_out(stores) as lookout,
        stationed(stores.settings) as station,
    ):
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
        chores = Chores(stores, tools)
        beside = threading.Thread(
            target=_do_until,
            args=(stop, lambda: _chores_of_this_node(stores, chores, station)),
            name="chores",
            daemon=True,
        )
        beside.start()
        child.say_ready()
        worker = _worker(stores, chores, lookout, station)
        with listening(stores.settings, wake=worker.wake):
            worker.run(stop)
        if not station.now.is_passive:
            _try("finish", chores.finish)


def _worker(stores: Stores, chores: Chores, lookout: Lookout, station: Station) -> Worker:
    return Worker(
        database=stores.database,
        ledger=stores.ledger,
        handlers=chores.handlers,
        event_handlers=chores.event_handlers,
        periodics=chores.periodics,
        clock=SYSTEM,
        after_each=db.connections.close_all,
        is_paused=pauses(lookout),
        rests=lambda: station.now.is_passive,
    )


def _chores_of_this_node(
    stores: Stores, chores: Chores, station: Station
) -> Mapping[str, Callable[[], object]]:
    """What is to be done now, by what the site is now."""
    if station.now.is_passive:
        return chores.of_this_machine
    noting = {"note_backlog": lambda: backlog.note(stores.database, SYSTEM)}
    return {**chores.of_this_machine, **chores.of_this_node, **noting}


def _do_until(stop: threading.Event, chores: Callable[[], Mapping[str, Callable[[], object]]]) -> None:
    """Do all chores once a minute. One that fails is done again in a minute."""
    while not stop.is_set():
        for name, chore in chores().items():
            _try(name, chore)
        db.connections.close_all()
        stop.wait(_CHORES_EVERY_S)


def _try(name: str, chore: Callable[[], object]) -> None:
    try:
        chore()
    except (MainstayError, OutcomeUnknown, db.Error, OSError) as error:
        log.warning("worker.chore_failed", name=name, because=str(error))


if __name__ == "__main__":
    main()
