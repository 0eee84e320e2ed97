"""What a server was asked to be, kept beside its data: whoever starts it next starts it the same way.

Whether it is a primary or a standby is not here: its data says that.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mainstay.foundation.errors import Invalid
from mainstay.foundation.private_files import sync_directory
from mainstay.provision.accounts import Account

WAL_KEPT_BYTES: Final = 10 * 1024**3
"""How much a replica that is away may miss and still catch up: so much of the log is kept for it."""
_NAME_MAX = 63
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where replicas reach this server, by TLS."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The primary that a standby follows."""

    host: str
    port: int
    site: str
    """Who we are there: the common name of our certificate, and the name of our stream."""
    name: str = ""
    """What its certificate must be made out to; empty: any certificate of the authority will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """PEM files. The certificate must be good for servers and for clients."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    listen: Listen | None = None
    """None: nobody reaches it but by the socket."""
    sites: tuple[str, ...] = ()
    """Who may follow, by the common names of their certificates."""
    synchronous: tuple[str, ...] = ()
    """Whose answer each commit waits for: all of them."""
    upstream: Upstream | None = None
    """Whom to follow while it is a standby."""
    delay_s: int = 0
    """How far a delayed standby stays behind."""
    replay_until_ms: int | None = None
    """A standby stops before the first commit after this time."""
    wal_kept_bytes: int = WAL_KEPT_BYTES


def slot_of(site: str) -> str:
    """The replication slot of a site: its name in the letters that slots may have."""
    check_site(site)
    return f"site_{site.lower().replace('-', '_').replace('.', '_')}"[:_NAME_MAX]


def check_site(site: str) -> None:
    """Names go into files that PostgreSQL reads. Raises `Invalid`."""
    if not 0 < len(site) <= _NAME_MAX or set(site) - _NAME_CHARACTERS:
        raise Invalid(f"{site!r}: a site's name has up to {_NAME_MAX} letters, digits, dots and dashes")


def read_wishes(file: Path) -> Wishes:
    """What was last written; nothing special when nothing was."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return Wishes()
    listen, upstream = kept["listen"], kept["upstream"]
    return Wishes(
        listen=Listen(**listen) if listen else None,
        sites=tuple(kept["sites"]),
        synchronous=tuple(kept["synchronous"]),
        upstream=Upstream(**upstream) if upstream else None,
        delay_s=kept["delay_s"],
        replay_until_ms=kept["replay_until_ms"],
        wal_kept_bytes=kept["wal_kept_bytes"],
    )


def write_wishes(file: Path, wishes: Wishes, account: Account | None) -> None:
    for site in (*wishes.sites, *wishes.synchronous):
        check_site(site)
    write_whole(file, json.dumps(asdict(wishes), indent=1).encode(), account)


def write_whole(file: Path, content: bytes, account: Account | None) -> None:
    """Replace a file at once, for the account (or us) only; it survives a power cut."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
        out.write(content)
        out.flush()
        os.fsync(descriptor)
    fresh.replace(file)
    sync_directory(file.parent)
