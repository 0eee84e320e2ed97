"""What is where in the directory of a server, and which of it may be half-made.

The data directory is one rename away from what it is made of, so a killed `initdb` or base backup is never
taken for data. A replacement is made beside the data it replaces:

    data.making            what a program is filling; thrown away by the next one
    data.fresh             complete, not in place yet
    data                   what the server runs on
    data.replaced          what it ran on before; goes when the fresh one is in place
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.errors import Conflict
from mainstay.foundation.private_files import sync_directory
from mainstay.provision.accounts import Account

STANDBY_SIGNAL = "standby.signal"


class NoData(Conflict):
    """There is no data directory yet."""


class Unfinished(Conflict):
    """The data was being brought onto another server's history when that was broken off."""


class CannotEnter(Conflict):
    """The account that runs the server may not pass through a directory above its own."""


@dataclass(frozen=True, slots=True)
class Places:
    """Paths only, but for what `settle` and `prepare` do."""

    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def making(self) -> Path:
        return self.directory / "data.making"

    @property
    def fresh(self) -> Path:
        return self.directory / "data.fresh"

    @property
    def replaced(self) -> Path:
        return self.directory / "data.replaced"

    @property
    def rewinding(self) -> Path:
        """There from the first to the last moment of a rewind."""
        return self.directory / "rewinding"

    @property
    def wishes(self) -> Path:
        return self.directory / "wishes.json"

    @property
    def configuration(self) -> Path:
        return self.directory / "server.conf"

    @property
    def own_configuration(self) -> Path:
        """What an operator adds; never written here."""
        return self.directory / "local.conf"

    @property
    def rules(self) -> Path:
        return self.directory / "rules.conf"

    @property
    def identities(self) -> Path:
        return self.directory / "identities.conf"

    @property
    def logs(self) -> Path:
        """The server's own, one file for each day of the week."""
        return self.directory / "log"

    @property
    def start_log(self) -> Path:
        return self.directory / "start.log"

    @property
    def tool_log(self) -> Path:
        return self.directory / "tool.log"

    @property
    def certificates(self) -> Path:
        return self.directory / "tls"

    @property
    def certificate(self) -> Path:
        return self.certificates / "certificate.pem"

    @property
    def key(self) -> Path:
        return self.certificates / "key.pem"

    @property
    def authority(self) -> Path:
        return self.certificates / "authority.pem"

    @property
    def runner_lock(self) -> Path:
        """Held by the process that starts the server whenever it is down."""
        return self.directory / "runner.lock"

    @property
    def hold_lock(self) -> Path:
        """Held by whoever starts it or needs it down."""
        return self.directory / "hold.lock"

    @property
    def is_standby(self) -> bool:
        """Whether the next start is one of a standby. PostgreSQL removes the mark when it is promoted."""
        return (self.data / STANDBY_SIGNAL).exists()

    def prepare(self, account: Account | None) -> None:
        """Make the directories, the account's own. Raises `CannotEnter`."""
        for each in (self.directory, self.logs, self.certificates):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            if account is not None:
                os.chown(each, account.uid, account.gid)
        if account is not None:
            refuse_closed_way(self.directory.parent, account)

    def settle(self) -> None:
        """Finish a replacement that was broken off between its renames."""
        if self.fresh.exists():
            self.put_in_place()
        elif self.replaced.exists() and not self.data.exists():
            self.replaced.rename(self.data)
        shutil.rmtree(self.replaced, ignore_errors=True)

    def put_in_place(self) -> None:
        """Make what is in `fresh` the data. May be broken off and repeated at any point."""
        if self.data.exists():
            shutil.rmtree(self.replaced, ignore_errors=True)
            self.data.rename(self.replaced)
        self.fresh.rename(self.data)
        self.rewinding.unlink(missing_ok=True)
        sync_directory(self.directory)
        shutil.rmtree(self.replaced, ignore_errors=True)

    def clear_making(self) -> None:
        shutil.rmtree(self.making, ignore_errors=True)

    def require_data(self) -> None:
        """Raises `NoData`, `Unfinished`."""
        if not self.data.exists():
            raise NoData(f"{self.directory} has no database yet")
        if self.rewinding.exists():
            raise Unfinished(
                f"the database in {self.directory} was being brought onto the history of another server,"
                " which was broken off: repeat it, or take a new copy"
            )

    def major_version(self) -> int:
        """Of the data. Raises `NoData`."""
        try:
            return int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            raise NoData(f"{self.directory} has no database yet") from None


def refuse_closed_way(directory: Path, account: Account) -> None:
    """Raises `CannotEnter`, naming the first directory that the account may not pass through."""
    for each in reversed((directory.resolve(), *directory.resolve().parents)):
        facts = each.stat()
        bit = 0o100 if facts.st_uid == account.uid else 0o010 if facts.st_gid == account.gid else 0o001
        if not facts.st_mode & bit:
            raise CannotEnter(
                f"PostgreSQL runs as {account.name}, who may not enter {each}: choose a data directory that"
                " others may pass through to, such as one in /srv or /var/lib, or do not run as root"
            )
