"""Where things are in the data directory."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from mainstay.cache.boots import forget_other_boots
from mainstay.foundation.boots import boot_id
from mainstay.foundation.errors import Unavailable


class DataDirectoryUnusable(Unavailable):
    """The data directory cannot be made or written to."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths only; nothing is touched by asking."""

    data: Path

    @property
    def run(self) -> Path:
        """Sockets, pid files and state of the running node; worthless when it is not running."""
        return self.data / "run"

    @property
    def quarantine(self) -> Path:
        """Half pushes; wiped at every start."""
        return self.data / "quarantine"

    @property
    def scratch(self) -> Path:
        """A directory for each process that works on files; see `boot.scratch`."""
        return self.data / "scratch"

    @property
    def cache(self) -> Path:
        """May be deleted at any time."""
        return self.data / "cache"

    @property
    def web_socket(self) -> Path:
        return self.run / "web.sock"

    @property
    def database(self) -> Path:
        """The PostgreSQL server that this node runs itself, with `database_url = managed`."""
        return self.data / "postgresql"

    @property
    def database_sockets(self) -> Path:
        return self.run / "postgresql"

    @property
    def feed(self) -> Path:
        """What the object store got, in order, where there are other sites."""
        return self.data / "feed"

    @property
    def sites(self) -> Path:
        """What other sites have acknowledged."""
        return self.run / "sites"

    @property
    def metrics(self) -> Path:
        return self.run / "metrics"

    @property
    def state(self) -> Path:
        """What the supervisor last wrote about the node."""
        return self.run / "state.json"

    @property
    def pid(self) -> Path:
        return self.run / "serve.pid"

    @property
    def initial_root_password(self) -> Path:
        return self.data / "initial_root_password"


def make_directories(layout: Layout) -> None:
    """Make what is missing, for this user only. Raises `DataDirectoryUnusable`."""
    try:
        for directory in (layout.data, layout.run):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataDirectoryUnusable(
            f"cannot use {layout.data} as data directory: {error.strerror}"
        ) from error


def wipe_leftovers(layout: Layout) -> None:
    """Remove what an earlier run left and nobody needs: half pushes, the numbers of dead processes, and what
    a power cut may have left half-written in the cache.

    Call it only under the lock of the data directory.
    """
    for directory in (layout.quarantine, layout.metrics):
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
    forget_other_boots(layout.cache, boot_id())
    layout.web_socket.unlink(missing_ok=True)
