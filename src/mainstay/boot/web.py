"""The web process: Django under granian, on a Unix socket for the data plane only.

granian forks one worker from a small parent; the worker opens its own stores, so no connection is shared.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings

from mainstay.boot import child
from mainstay.boot.git import api_tools
from mainstay.boot.layout import Layout
from mainstay.boot.wsgi import Wsgi, load_application
from mainstay.foundation.settings import export_to_children

_SOCKET_MODE = 0o600
_BACKLOG = 256
_KILL_AFTER_S = 8


def main() -> None:
    settings = child.begin("web")
    run = Layout(settings.data).run
    os.chdir(run)  # the path of a Unix socket has 107 bytes at most; a relative one always fits
    socket = Layout(settings.data).web_socket.relative_to(run)
    socket.unlink(missing_ok=True)
    server = _server(socket, threads=settings.web_threads)
    export_to_children("PARENT_PID", str(os.getpid()))  # for the worker, this process is the parent
    server.serve(target_loader=_load, wrap_loader=False)


def _server(socket: Path, *, threads: int) -> Any:
    return Granian(
        "mainstay.boot.web",
        uds=socket,
        uds_permissions=_SOCKET_MODE,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=threads,
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        log_enabled=False,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        workers_kill_timeout=_KILL_AFTER_S,
        respawn_failed_workers=False,
        process_name="mainstay-web",
    )


_worker = ExitStack()
"""Keeps the stores of the worker open until its process ends."""


def _load() -> Wsgi:
    """In the worker: open everything, and hand Django to granian."""
    from mainstay.boot import compose, urls  # noqa: PLC0415 - granian's parent stays small

    stores = _worker.enter_context(child.begun("web"))
    tools = _worker.enter_context(api_tools(stores))
    urls.open_doors(compose.api_kit(stores, tools))
    application = load_application()
    child.say_ready()
    return application


if __name__ == "__main__":
    main()
