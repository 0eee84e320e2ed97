"""One small object that may change, and only from what was read: a register with compare-and-swap.

For the lease of the witness, which needs what a directory cannot give: a store that refuses a write because
somebody else has written meanwhile. Stores in a bucket do so by a condition on the object's ETag. Not all
that speak like S3 honour it, and one that does not would overwrite silently: `prove` tries it.

Requests are not repeated here and end soon: whoever holds a lease has a deadline, and repeats by himself.
"""

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

from mainstay.foundation.errors import Conflict, Invalid
from mainstay.foundation.ids import new_ulid
from mainstay.storage.objects import StoreAway
from mainstay.storage.objects.keys import checked_key
from mainstay.storage.objects.location import CloudLocation, DirectoryLocation, parse_location

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

CONTENT_BYTES_MAX: Final = 16 * 1024
REQUEST_S_MAX: Final = 3


class Changed(Conflict):
    """Somebody else has written since the version was read, or before this write was the first."""


class NoConditions(Invalid):
    """The store does not refuse what it must refuse, so nothing can be decided in it."""


class Register(Protocol):
    """Raises `StoreAway` when it does not answer: a write may then have happened or not."""

    def read(self) -> tuple[bytes, str] | None:
        """The content and its version; None: nothing was written yet."""
        ...

    def write(self, content: bytes, version: str | None) -> str:
        """Replace what was read as `version` (None: nothing). The new version. Raises `Changed`."""
        ...

    def prove(self) -> None:
        """Try on another object whether conditions are honoured. Raises `NoConditions`."""
        ...


class MemoryRegister:
    """For tests."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._content: bytes | None = None

    def read(self) -> tuple[bytes, str] | None:
        with self._lock:
            return None if self._content is None else (self._content, str(self._count))

    def write(self, content: bytes, version: str | None) -> str:
        with self._lock:
            if version != (None if self._content is None else str(self._count)):
                raise Changed("the register was written meanwhile")
            self._count += 1
            self._content = content
            return str(self._count)

    def prove(self) -> None:
        return


class CloudRegister:
    """In a bucket."""

    def __init__(self, location: CloudLocation, key: str) -> None:
        from mainstay.storage.objects.cloud import open_for_leases  # noqa: PLC0415 - only its users pay for it

        self._key = checked_key(key)
        self._store: S3Store | GCSStore | AzureStore = open_for_leases(location, seconds_max=REQUEST_S_MAX)

    def read(self) -> tuple[bytes, str] | None:
        import obstore  # noqa: PLC0415 - same
        from obstore.exceptions import BaseError  # noqa: PLC0415 - same

        try:
            found = obstore.get(self._store, self._key)
            version = found.meta["e_tag"]
            content = found.bytes().to_bytes()
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise StoreAway("the object store does not answer (cannot read the lease)") from error
        if version is None:
            raise NoConditions("the object store gives its objects no ETag")
        return content[: CONTENT_BYTES_MAX + 1], version

    def write(self, content: bytes, version: str | None) -> str:
        assert len(content) <= CONTENT_BYTES_MAX, "a lease is small"
        return self._put(self._key, content, version)

    def prove(self) -> None:
        import obstore  # noqa: PLC0415 - same

        key = f"{self._key}-trial-{new_ulid().lower()}"
        first = self._put(key, b"one", None)
        try:
            self._must_refuse(key, None)
            second = self._put(key, b"two", first)
            self._must_refuse(key, first)
            if second == first:
                raise NoConditions("the object store gives two contents one ETag")
        finally:
            with suppress(FileNotFoundError):
                obstore.delete(self._store, key)

    def _must_refuse(self, key: str, version: str | None) -> None:
        try:
            self._put(key, b"late", version)
        except Changed:
            return
        raise NoConditions(
            "the object store overwrites an object although it was told not to: it cannot be a witness,"
            " `mainstay witness serve` can"
        )

    def _put(self, key: str, content: bytes, version: str | None) -> str:
        if version is None:
            return self._put_if(key, content, None)
        try:
            return self._put_if(key, content, version)
        except Changed:
            # Some (Ceph) compare the condition letter by letter with an ETag that has no quotes. Asking both
            # ways is safe: each is a condition that only this version meets.
            if version.strip('"') == version:
                raise
            return self._put_if(key, content, version.strip('"'))

    def _put_if(self, key: str, content: bytes, version: str | None) -> str:
        import obstore  # noqa: PLC0415 - same
        from obstore.exceptions import (  # noqa: PLC0415 - same
            AlreadyExistsError,
            BaseError,
            PreconditionError,
        )

        try:
            done = obstore.put(
                self._store,
                key,
                content,
                mode="create" if version is None else {"e_tag": version},
                use_multipart=False,
            )
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            raise Changed("the lease was written meanwhile") from error
        except BaseError as error:
            raise StoreAway("the object store does not answer (cannot write the lease)") from error
        if done["e_tag"] is None:
            raise NoConditions("the object store gives its objects no ETag")
        return done["e_tag"]


def open_register(url: str, key: str) -> Register:
    """The register `key` in the store at `url`. Raises `Invalid` where there can be none."""
    location = parse_location(url)
    if isinstance(location, DirectoryLocation):
        raise NoConditions(
            f"{location.path} is a directory, which cannot hold a lease: it takes a write that comes too late"
            " like any other. Name a bucket, or run `mainstay witness serve` on a third machine"
        )
    return CloudRegister(location, key) if isinstance(location, CloudLocation) else MemoryRegister()
