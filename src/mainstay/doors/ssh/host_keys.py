"""The keys by which clients recognise this server: made once, a shared secret, equal on every node.

Ed25519, and RSA of 3072 bits for old clients. No ECDSA: the NIST curves fail the audits that we want to
pass, and no client needs them that could not use one of the others.
"""

from collections.abc import Sequence
from typing import Protocol

import asyncssh

from mainstay.foundation.errors import Unavailable
from mainstay.foundation.logs import get_logger

log = get_logger()

_RSA_BITS = 3072
_KINDS = ("ssh-ed25519", "ssh-rsa")


class UnusableHostKey(Unavailable):
    """What is kept as a host key is none; starting with another would frighten every client."""


class HostKeyStore(Protocol):
    """Texts by name, kept for the whole installation."""

    def get(self, name: str) -> str | None: ...

    def put_if_absent(self, name: str, value: str) -> str:
        """Keep `value` unless there is one; return the one that is kept. Two nodes get the same answer."""
        ...


def host_keys_from(store: HostKeyStore) -> list[asyncssh.SSHKey]:
    """The host keys, made now if this is the first start. Blocks."""
    return [_host_key(store, kind) for kind in _KINDS]


def public_lines(keys: Sequence[asyncssh.SSHKey]) -> list[str]:
    """As `known_hosts` and `ssh-keyscan` write them, without the host name."""
    return [key.export_public_key("openssh").decode().strip() for key in keys]


def _host_key(store: HostKeyStore, kind: str) -> asyncssh.SSHKey:
    name = f"ssh_host_key/{kind}"
    kept = store.get(name)
    if kept is None:
        kept = store.put_if_absent(name, _new_key(kind))
        log.info("ssh.host_key_made", kind=kind)
    try:
        return asyncssh.import_private_key(kept)
    except asyncssh.KeyImportError as error:
        raise UnusableHostKey(f"the host key {name!r} in the database cannot be read: {error}") from error


def _new_key(kind: str) -> str:
    key = (
        asyncssh.generate_private_key(kind)
        if kind == "ssh-ed25519"
        else asyncssh.generate_private_key(kind, key_size=_RSA_BITS)
    )
    return key.export_private_key("openssh").decode()
