"""The first administrator: `root`, with a random password in a file that does not stay.

`DATA/initial_root_password` is readable by the owner only. It goes away with the first change of root's
password, or a day after it was written.
"""

import os
from contextlib import suppress
from pathlib import Path

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.logs import get_logger
from mainstay.product.accounts.models import User
from mainstay.product.accounts.secrets import new_password
from mainstay.product.accounts.services import create_user, set_password
from mainstay.product.accounts.settings import DEFAULTS, AccountsSettings
from mainstay.product.accounts.writing import Taken, writing

log = get_logger()

_FILE = "initial_root_password"
ROOT = "root"


def first_start(
    data_directory: Path,
    *,
    password: str | None = None,
    clock: Clock = SYSTEM,
    settings: AccountsSettings = DEFAULTS,
) -> str | None:
    """Create `root` when there is nobody yet, and return their password; None on every later start.

    The file is written before the user is committed: a crash in between leaves a file that the next start
    replaces, never a user whose password nobody knows.
    """
    if User.objects.exists():
        return None
    chosen = password or new_password()
    try:
        with writing(taken="root"):
            create_user(
                username=ROOT,
                name="Administrator",
                password=chosen,
                is_admin=True,
                clock=clock,
                settings=settings,
            )
            if password is None:
                _write_secretly(data_directory / _FILE, chosen)
    except Taken:
        # Another node made root at the same moment, and printed its password there.
        return None
    log.info("accounts.root_created", data_directory=str(data_directory))
    return chosen


def forget_initial_password(
    data_directory: Path, now_ms: int, *, settings: AccountsSettings = DEFAULTS
) -> bool:
    """Remove the file when root's password was changed or the file is a day old; say whether it went."""
    path = data_directory / _FILE
    try:
        written_ms = int(path.stat().st_mtime * 1000)
    except FileNotFoundError:
        return False
    old = now_ms - written_ms > settings.initial_password_s * 1000
    if not old and not _changed_since_creation():
        return False
    path.unlink(missing_ok=True)
    log.info("accounts.initial_password_forgotten", because="a day has passed" if old else "it was changed")
    return True


def change_password(
    user: User,
    password: str,
    *,
    data_directory: Path,
    clock: Clock = SYSTEM,
    settings: AccountsSettings = DEFAULTS,
) -> None:
    """`set_password`, and the file of root's first password goes at once."""
    set_password(user, password, clock=clock, settings=settings)
    if user.username == ROOT:
        forget_initial_password(data_directory, clock.now_ms(), settings=settings)


def _changed_since_creation() -> bool:
    root = User.objects.filter(username_lower=ROOT).first()
    return root is None or root.password_changed_at_ms > root.created_at_ms


def _write_secretly(path: Path, password: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        path.unlink()
    # O_EXCL: whoever prepared a file or a link of that name does not get to read the password.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
        file.flush()
        os.fsync(file.fileno())
