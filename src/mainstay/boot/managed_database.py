"""The process that runs the node's own PostgreSQL, where the setting is `database_url = managed`.

It makes the database the first time, starts the server, and starts it again at once when it ends, whoever
ended it. While another process has the server down to change its role, it waits for that. On SIGTERM it
stops the server, so it must be the last that is told to stop; when it is killed the server stops by itself.
"""

import os
import pwd
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from mainstay.boot import child
from mainstay.boot.exits import exit_code_of
from mainstay.boot.layout import Layout, make_directories
from mainstay.boot.state import DATABASE
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.logs import get_logger
from mainstay.provision.accounts import Account, server_account
from mainstay.provision.postgresql import BeingChanged, Server

log = get_logger()

_POLL_S = 0.1
_START_S_MAX = 3600.0
"""After a crash it reads its log, and a replica what it missed; that ends, and a restart would begin anew."""
_STOP_S_MAX = 80.0
_PASS_THROUGH = 0o710


class _Stop(BaseException):
    """SIGTERM came."""


def server_of(data: Path, *, tell: Callable[[str], None] = lambda _line: None) -> Server:
    """The server of the node in this data directory, running or not."""
    layout = Layout(data)
    make_directories(layout)
    account = _account_for(data)
    if account is not None:
        _let_through(layout, account)
    return Server(layout.database, layout.database_sockets, account=account, tell=tell)


def main() -> None:
    """Until SIGTERM."""
    try:
        settings = child.begin(DATABASE)
        server = server_of(settings.data)
        signal.signal(signal.SIGTERM, _stop)
        run(server, say_ready=child.say_ready)
    except MainstayError as error:
        log.error("boot.process_failed", error=str(error))  # noqa: TRY400 - a known error, no trace
        sys.exit(exit_code_of(error))


def run(server: Server, *, say_ready: Callable[[], None]) -> None:
    """Have it up, whatever happens to it, until somebody raises in here. Stopped at the end."""
    try:
        if not server.exists:
            server.create()
        _launch(server)
        say_ready()
        while True:
            if server.exit_code() is not None or not server.is_running():
                log.warning("database.ended", code=server.exit_code())
                _launch(server)
            time.sleep(_POLL_S)
    except _Stop:
        log.info("database.stopping")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.retire("fast", within_s=_STOP_S_MAX)


def _launch(server: Server) -> None:
    while True:
        try:
            server.launch(within_s=_START_S_MAX)
        except BeingChanged as error:
            log.info("database.waited_for_change", because=str(error))
            continue
        log.info("database.started", pid=server.pid(), url=server.url())
        return


def _account_for(data: Path) -> Account | None:
    """Root runs the server of a service as the user of that service, who owns the directory."""
    owner = data.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        entry = pwd.getpwuid(owner)
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return server_account()


def _let_through(layout: Layout, account: Account) -> None:
    """Root keeps the data directory to itself; the account that runs the server may pass, but not look."""
    for directory in (layout.data, layout.run):
        if directory.stat().st_uid == os.geteuid():
            os.chown(directory, -1, account.gid)
            directory.chmod(_PASS_THROUGH)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stop


if __name__ == "__main__":
    main()
