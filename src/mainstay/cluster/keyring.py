"""The master keys of a cluster: `DATA/keys/master.key`, the same on every node.

One key per line, newest first, so that a new one can take over while the old one still opens what it
wrapped. What is wrapped (AES-256-GCM) is bound to a name: one secret cannot be passed off as another.

Not here: what is wrapped and where it is kept (`secrets`).
"""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from mainstay.foundation.errors import Conflict, Invalid, NotFound
from mainstay.foundation.private_files import make_private_directory, replace_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_FORMAT = "v1"
_NONCE_BYTES = 12
KEYS_MAX: Final = 64
"""Lines of the file; older keys are of no use to anybody."""


class MasterKeyMissing(NotFound):
    """There is no master key in the data directory."""


class MasterKeyUnreadable(Invalid):
    """The file with the master keys is not what it should be."""


class SecretUnreadable(Conflict):
    """What the database keeps as a secret was not wrapped by a key of ours, or was changed."""


class KeyRing:
    """Master keys, newest first. Immutable."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise MasterKeyUnreadable(f"a master key has {KEY_BYTES} bytes, and there is at least one")
        self._keys = {key_id_of(key): key for key in keys}

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    @property
    def newest_id(self) -> str:
        return next(iter(self._keys))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys themselves: for the file, and for a machine that joins."""
        return tuple(self._keys.values())

    def headed_by(self, key: bytes) -> "KeyRing":
        """The same keys with `key` as the newest."""
        return KeyRing([key, *(each for each in self._keys.values() if each != key)])

    def headed_by_id(self, key_id: str) -> "KeyRing":
        """The same keys with the one of this id, which is among them, as the newest."""
        return self.headed_by(self._keys[key_id])

    def wrap(self, name: str, plain: bytes) -> str:
        """`plain` under the newest key, readable only as the secret `name`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _cipher(self._keys[self.newest_id]).encrypt(nonce, plain, _bound(name))
        return f"{_FORMAT}.{self.newest_id}.{urlsafe_b64encode(nonce + sealed).decode()}"

    def unwrap(self, name: str, wrapped: str) -> bytes:
        """What was wrapped as `name`. Raises `SecretUnreadable`."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - a start that reads no secret is quicker

        key = self._keys.get(key_id_in(wrapped))
        if key is None:
            raise SecretUnreadable(f"secret {name!r} is wrapped by master key {key_id_in(wrapped)}")
        try:
            content = urlsafe_b64decode(wrapped.rpartition(".")[2])
            return _cipher(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], _bound(name))
        except (InvalidTag, ValueError) as error:
            raise SecretUnreadable(f"secret {name!r} was changed, or belongs to another name") from error


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def key_id_of(key: bytes) -> str:
    """A name for the key that says nothing about it: it has 256 random bits."""
    return sha256(b"mainstay master key\0" + key).hexdigest()[:16]


def key_id_in(wrapped: str) -> str:
    """Which key wraps this. Raises `SecretUnreadable` for what is no wrapped secret."""
    form, _, rest = wrapped.partition(".")
    key_id, dot, _ = rest.partition(".")
    if form != _FORMAT or not dot:
        raise SecretUnreadable(f"a secret of a form this version does not know: {form[:8]!r}")
    return key_id


def key_file(data: Path) -> Path:
    return data / "keys" / "master.key"


def read_keys(data: Path) -> KeyRing:
    """The keys of this data directory. Raises `MasterKeyMissing`, `MasterKeyUnreadable`."""
    file = key_file(data)
    try:
        lines = file.read_text("ascii").split()
    except FileNotFoundError:
        raise MasterKeyMissing(f"there is no master key in {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MasterKeyUnreadable(f"cannot read {file}: {error}") from error
    try:
        return KeyRing([urlsafe_b64decode(line) for line in lines[:KEYS_MAX]])
    except (ValueError, MasterKeyUnreadable) as error:
        raise MasterKeyUnreadable(f"{file} does not hold master keys: {error}") from error


def write_keys(data: Path, keyring: KeyRing) -> None:
    """Replace the file, whole and durable: when this returns, a power cut does not take the keys."""
    make_private_directory(key_file(data).parent)
    lines = [urlsafe_b64encode(key) + b"\n" for key in keyring.keys[:KEYS_MAX]]
    replace_file(key_file(data), b"".join(lines), durable=True)


class KeyStore(Protocol):
    """Where a node keeps its master keys."""

    def read(self) -> KeyRing: ...

    def write(self, keyring: KeyRing) -> None: ...


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys in a data directory."""

    data: Path

    def read(self) -> KeyRing:
        return read_keys(self.data)

    def write(self, keyring: KeyRing) -> None:
        write_keys(self.data, keyring)


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see `unwrap`

    return AESGCM(key)


def _bound(name: str) -> bytes:
    return b"mainstay secret\0" + name.encode()
