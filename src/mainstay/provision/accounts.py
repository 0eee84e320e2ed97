"""Who runs servers that refuse to be root, and a directory that he may enter."""

import os
import pwd
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.errors import NotFound

_OTHERS_MAY_ENTER = 0o001


class NoAccount(NotFound):
    """Root has nobody to run PostgreSQL as."""


@dataclass(frozen=True, slots=True)
class Account:
    """A system user without rights."""

    name: str
    uid: int
    gid: int

    def setpriv_options(self) -> list[str]:
        return [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]


def server_account() -> Account | None:
    """None unless we are root: then PostgreSQL's user, or nobody."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NoAccount("PostgreSQL does not run as root, and there is no user postgres or nobody")


def directory_for(account: Account | None, wanted: Path) -> Path:
    """`wanted`, or a temporary directory when the account cannot get there; made, and owned by the account.

    The caller removes it.
    """
    if account is None:
        wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
        return wanted
    if _may_pass(wanted.parent):
        wanted.mkdir(exist_ok=True, mode=0o700)
        chosen = wanted
    else:
        chosen = Path(tempfile.mkdtemp(prefix="mainstay-database-"))
    os.chown(chosen, account.uid, account.gid)
    return chosen


def write_private(file: Path, text: str, account: Account | None) -> None:
    """A file with secrets, readable for the account (or for us) only."""
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)
    if account is not None:
        os.chown(file, account.uid, account.gid)


def _may_pass(directory: Path) -> bool:
    """Whether anybody may go through it and all above it."""
    resolved = directory.resolve()
    return all(each.stat().st_mode & _OTHERS_MAY_ENTER for each in (resolved, *resolved.parents))
