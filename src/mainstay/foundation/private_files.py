"""Small files that only the node may read: replaced whole, never half there."""

import os
from pathlib import Path

_OWNER_ONLY = 0o600
_ROOT = 0


def replace_file(file: Path, content: bytes, *, durable: bool = False) -> None:
    """Put `content` in the place of the file; when `durable`, a power cut does not take it back.

    What root writes beside a service, as an administrator does, belongs to the owner of the directory:
    otherwise the service could not read it at its next start.
    """
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as out:
        _give_to_owner_of(file.parent, descriptor)
        out.write(content)
        out.flush()
        if durable:
            os.fsync(descriptor)
    fresh.replace(file)
    if durable:
        sync_directory(file.parent)


def make_private_directory(directory: Path) -> None:
    """Make it for the owner of the directory that it is in; nothing happens when it is there."""
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _give_to_owner_of(directory.parent, descriptor)
    finally:
        os.close(descriptor)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _give_to_owner_of(directory: Path, descriptor: int) -> None:
    if os.geteuid() == _ROOT:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
