"""Passwords: argon2id, one cost for known and unknown users, and a short memory of what fitted.

A Git client sends the password with every request, and a hash costs tens of milliseconds on purpose. So a
process remembers for a minute that *this password fits this hash*, under a keyed hash that is worthless
outside the process. A changed password is another hash; whether the user is blocked is not remembered.
"""

import hashlib
import hmac
import secrets
import threading
from functools import lru_cache

import argon2

from mainstay.foundation.clock import SYSTEM, Clock
from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.product.accounts.secrets import PREFIXES
from mainstay.product.accounts.settings import AccountsSettings

_CHARACTERS_MAX = 128
_REMEMBERED_MAX = 10_000
_WAIT_FOR_TURN_S = 10.0


class WeakPassword(Invalid):
    """The password may not be used; the message says why."""


class TooBusy(Unavailable):
    """More sign-ins at once than this process may hash."""


def check_password(password: str, *, username: str, settings: AccountsSettings) -> None:
    """Raise `WeakPassword` unless `password` may become the password of `username`."""
    if len(password) < settings.password_characters_min:
        raise WeakPassword(
            f"the password is too short: at least {settings.password_characters_min} characters"
        )
    if len(password) > _CHARACTERS_MAX:
        raise WeakPassword(f"the password is too long: at most {_CHARACTERS_MAX} characters")
    if password.lower() == username.lower() or len(set(password)) == 1:
        raise WeakPassword("the password is too easy to guess")
    if password.startswith(PREFIXES):
        raise WeakPassword("the password looks like a token")


def hash_of(password: str, settings: AccountsSettings) -> str:
    return _hasher(settings).hash(_bytes(password))


def needs_rehash(password_hash: str, settings: AccountsSettings) -> bool:
    """Whether the hash was made with other costs than today's."""
    return _hasher(settings).check_needs_rehash(password_hash)


class Passwords:
    """Checks passwords for one process."""

    def __init__(self, settings: AccountsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._turns = threading.BoundedSemaphore(settings.password_checks_max)
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def fits(self, password: str, password_hash: str) -> bool:
        """Whether `password` made `password_hash`. An empty hash costs as much and fits nothing."""
        if not password_hash or len(password) > _CHARACTERS_MAX:
            self._compute(_unfitting_hash(self._settings), "")
            return False
        label = self._label(password, password_hash)
        if self._remembers(label):
            return True
        if not self._compute(password_hash, password):
            return False
        self._remember(label)
        return True

    def _compute(self, password_hash: str, password: str) -> bool:
        if not self._turns.acquire(timeout=_WAIT_FOR_TURN_S):
            raise TooBusy("too many sign-ins at once")
        try:
            return _hasher(self._settings).verify(password_hash, _bytes(password))
        except argon2.exceptions.VerifyMismatchError:
            return False
        finally:
            self._turns.release()

    def _label(self, password: str, password_hash: str) -> bytes:
        both = password_hash.encode() + b"\0" + _bytes(password)
        return hmac.digest(self._key, both, hashlib.sha256)

    def _remembers(self, label: bytes) -> bool:
        return self._remembered.get(label, 0.0) > self._clock.monotonic_s()

    def _remember(self, label: bytes) -> None:
        with self._lock:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[label] = self._clock.monotonic_s() + self._settings.verified_password_s


@lru_cache(maxsize=8)
def passwords_of(settings: AccountsSettings) -> Passwords:
    """The one checker of this process for these settings."""
    return Passwords(settings, SYSTEM)


@lru_cache(maxsize=8)
def _hasher(settings: AccountsSettings) -> argon2.PasswordHasher:
    return argon2.PasswordHasher(
        time_cost=settings.argon2_passes,
        memory_cost=settings.argon2_memory_kib,
        parallelism=settings.argon2_lanes,
    )


@lru_cache(maxsize=8)
def _unfitting_hash(settings: AccountsSettings) -> str:
    """A hash of today's cost that no password fits, for users who do not exist."""
    return _hasher(settings).hash(secrets.token_bytes(32))


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")
