"""Objects in S3 and whatever speaks like it, Google Cloud Storage or Azure, through obstore.

Small objects are put in one request that fails when the key is taken (`If-None-Match: *`), so of many
racing writers one wins. Large ones go up in parts, for which no portable such condition exists: the key is
looked up first, and keys are unique per upload anyway. Either way a reader sees all or nothing, and every
body carries a sha256 that the store checks.

Every request has an end, so that a push fails within 30 s when the store is away: 5 s to connect, 20 s
without a byte, and no retry begins after 8 s. What then still fails is `StoreAway`; the log has the details,
which are not for those who push.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.storage.objects import CONTENT_BYTES_MAX, KeyTaken, NoSuchObject, StoreAway, StoredObject
from mainstay.storage.objects.keys import checked_key, checked_prefix, folder_of
from mainstay.storage.objects.location import CloudLocation

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

log = get_logger()

UPLOADED: Final = declare(
    "objects.uploaded", "the cloud acknowledged the object; the caller does not know yet"
)

SINGLE_PUT_BYTES_MAX: Final = 8 << 20
"""Up to this an object is put in one conditional request, from memory."""

_PART_BYTES = 8 << 20
_PARTS_MAX = 9_000
_CONCURRENT_REQUESTS = 8

_CLIENT: "ClientConfig" = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "300s"}
_RETRIES: "RetryConfig" = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=8),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=3),
        "base": 2,
    },
}


class CloudStore:
    """Objects in one bucket, under one prefix. Safe for use from several threads."""

    def __init__(self, location: CloudLocation) -> None:
        self._location = location
        self._store = _open(location)

    def put(self, key: str, source: Path) -> None:
        size = source.stat().st_size
        if size <= SINGLE_PUT_BYTES_MAX:
            self.put_bytes(key, source.read_bytes())
            return
        checked_key(key)
        present = self._size(key)
        if present is not None:
            self._settle_taken(key, present, source)
            return
        with self._errors("store", key):
            obstore.put(
                self._store,
                key,
                source,
                use_multipart=True,
                chunk_size=max(_PART_BYTES, -(-size // _PARTS_MAX)),
                max_concurrency=_CONCURRENT_REQUESTS,
            )
        failpoint(UPLOADED)
        self._check_arrived(key, size)

    def put_bytes(self, key: str, content: bytes) -> None:
        assert len(content) <= CONTENT_BYTES_MAX, "large content comes from a file"
        checked_key(key)
        with self._errors("store", key):
            try:
                obstore.put(self._store, key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # Perhaps by ourselves: a request that is repeated because its answer was lost meets its
                # own object.
                taken = True
            else:
                taken = False
        if taken and self.get_bytes(key) != content:
            raise KeyTaken(f"object {key!r}: other bytes are stored under this key")
        failpoint(UPLOADED)

    def get_bytes(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        assert start >= 0, "a range starts inside the object"
        checked_key(key)
        if length is None and start == 0:
            with self._errors("read", key):
                return obstore.get(self._store, key).bytes().to_bytes()
        try:
            return self._range(key, start, length)
        except Unavailable as problem:
            # Stores answer a range behind the end with an error of no particular kind.
            if isinstance(problem.__cause__, GenericError) and start >= (self.size_bytes(key) or 0):
                return b""
            raise

    def fetch(self, key: str, target: Path) -> None:
        size = self.size_bytes(key)
        if size is None:
            raise NoSuchObject(f"object {key!r} is not in the store")
        temporary = target.with_name(f".tmp-{new_ulid()}")
        try:
            self._download(key, temporary, size)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def size_bytes(self, key: str) -> int | None:
        size = self._size(checked_key(key))
        if size is None:
            # To a HEAD request a missing bucket looks like a missing object. A listing tells them apart.
            self._check_bucket()
        return size

    def delete(self, key: str) -> None:
        checked_key(key)
        try:
            with self._errors("delete", key):
                obstore.delete(self._store, key)
        except NoSuchObject:
            self._check_bucket()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        folder = folder_of(checked_prefix(prefix))
        with self._errors("list", prefix):
            for chunk in obstore.list(self._store, prefix=folder or None, chunk_size=1000):
                for found in chunk:
                    if found["path"].startswith(prefix):
                        modified_ms = int(found["last_modified"].timestamp() * 1000)
                        yield StoredObject(found["path"], found["size"], modified_ms)

    def _size(self, key: str) -> int | None:
        try:
            with self._errors("look at", key):
                return obstore.head(self._store, key)["size"]
        except NoSuchObject:
            return None

    def _range(self, key: str, start: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        with self._errors("read", key):
            if length is not None:
                return obstore.get_range(self._store, key, start=start, length=length).to_bytes()
            return obstore.get(self._store, key, options={"range": {"offset": start}}).bytes().to_bytes()

    def _download(self, key: str, path: Path, size: int) -> None:
        """Fill a new file by ranges, several at a time: one stream of S3 is slower than any disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            with ThreadPoolExecutor(_CONCURRENT_REQUESTS, thread_name_prefix="fetch") as threads:
                parts = [
                    threads.submit(self._copy_range, key, descriptor, start, min(_PART_BYTES, size - start))
                    for start in range(0, size, _PART_BYTES)
                ]
                try:
                    for part in parts:
                        part.result()
                except BaseException:
                    threads.shutdown(cancel_futures=True)
                    raise
        finally:
            os.close(descriptor)

    def _copy_range(self, key: str, descriptor: int, start: int, length: int) -> None:
        content = memoryview(self._range(key, start, length))
        if len(content) != length:
            raise Unavailable(f"object {key!r}: the store sent {len(content)} of {length} bytes at {start}")
        while content:
            try:
                written = os.pwrite(descriptor, content, start)
            except OSError as problem:
                raise Unavailable(f"cannot write a fetched object here: {problem.strerror}") from problem
            content, start = content[written:], start + written

    def _check_arrived(self, key: str, size: int) -> None:
        arrived = self._size(key)
        if arrived != size:
            raise Unavailable(f"object {key!r}: stored {size} bytes, but the store has {arrived}")

    def _check_bucket(self) -> None:
        with self._errors("look at", self._location.shown):
            for _ in obstore.list(self._store, prefix="instance.json", chunk_size=1):
                break

    def _settle_taken(self, key: str, present_bytes: int, source: Path) -> None:
        """A large key is taken: fine when by equal bytes."""
        if present_bytes == source.stat().st_size:
            with source.open("rb") as reader:
                starts = range(0, present_bytes, _PART_BYTES)
                if all(self._range(key, start, _PART_BYTES) == reader.read(_PART_BYTES) for start in starts):
                    return
        raise KeyTaken(f"object {key!r}: other bytes are stored under this key")

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        """Turn what obstore can say into our families. Its own messages stay in the chained cause."""
        where = f"cannot {doing} {key!r} in {self._location.shown}"
        try:
            yield
        except FileNotFoundError as problem:
            if doing == "store" or "NoSuchBucket" in str(problem):
                raise Unavailable(f"{where}: the bucket does not exist", retry_after_s=30) from problem
            raise NoSuchObject(f"object {key!r} is not in the store") from problem
        except (PermissionDeniedError, UnauthenticatedError) as problem:
            raise Unavailable(f"{where}: the store refuses our credentials", retry_after_s=30) from problem
        except BaseError as problem:
            log.warning("objects.request_failed", doing=doing, key=key, because=_reason_of(problem))
            raise StoreAway(f"the object store does not answer (cannot {doing} {key!r})") from problem


def open_for_leases(location: CloudLocation, *, seconds_max: int) -> S3Store | GCSStore | AzureStore:
    """A store whose requests end soon and are not repeated: for `register`, whose users have deadlines."""
    limit = f"{seconds_max}s"
    client: ClientConfig = {"connect_timeout": limit, "read_timeout": limit, "timeout": limit}
    return _open(location, client, {**_RETRIES, "max_retries": 0})


def _open(
    location: CloudLocation, client: "ClientConfig" = _CLIENT, retries: "RetryConfig" = _RETRIES
) -> S3Store | GCSStore | AzureStore:
    common: dict[str, Any] = {
        "prefix": location.prefix or None,
        "client_options": {**client, "allow_http": location.allow_http},
        "retry_config": retries,
        "config": location.options,
    }
    try:
        if location.scheme == "gs":
            return GCSStore(location.bucket, **common)
        if location.scheme == "az":
            return AzureStore(location.bucket, **common)
        return S3Store(location.bucket, **common)
    except BaseError as problem:
        raise Invalid(f"object store {location.shown}: {_reason_of(problem)}") from problem


def _reason_of(problem: BaseError) -> str:
    """The first line of what obstore says: the others are its own debugging."""
    return str(problem).partition("\n")[0].partition("Debug source")[0].strip()[:300]
