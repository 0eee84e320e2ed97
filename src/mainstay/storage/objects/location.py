"""Where objects are, as an operator writes it.

    /var/lib/mainstay/objects                          a directory
    file:///var/lib/mainstay/objects                   the same
    s3://bucket/prefix?region=eu-central-1             S3
    s3://bucket?endpoint=https://s3.example.org        anything that speaks like S3
    gs://bucket/prefix   az://container/prefix         Google, Azure
    memory://                                          for tests: gone with the process

Other options go after the `?` by the names obstore gives them, such as `virtual_hosted_style_request=true`
or `server_side_encryption=aws:kms`. Credentials never: they come from the usual places of each cloud
(`AWS_*` variables, instance or container role), so that the location can be shown and logged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from mainstay.foundation.errors import Invalid
from mainstay.storage.objects.keys import checked_prefix

_CLOUDS = ("s3", "gs", "az")
_SECRET_WORDS = ("secret", "password", "token", "access_key", "account_key", "sas")


class BadLocation(Invalid):
    """The text does not say where objects are."""


@dataclass(frozen=True, slots=True)
class DirectoryLocation:
    path: Path


@dataclass(frozen=True, slots=True)
class MemoryLocation:
    pass


@dataclass(frozen=True, slots=True)
class CloudLocation:
    scheme: str
    bucket: str
    prefix: str
    options: Mapping[str, str] = field(default_factory=dict)
    allow_http: bool = False
    """Only when the endpoint itself says `http:`, as a server on this machine may."""

    @property
    def shown(self) -> str:
        """For people and logs."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")


def parse_location(text: str) -> DirectoryLocation | MemoryLocation | CloudLocation:
    """Return the location that `text` names. Raises `BadLocation`."""
    if "://" not in text:
        return _directory(text)
    try:
        parts = urlsplit(text)
    except ValueError as problem:
        raise BadLocation(f"object store: {problem}") from problem
    if parts.scheme == "file":
        return _directory(_file_path(parts))
    if parts.scheme == "memory":
        return MemoryLocation()
    if parts.scheme in _CLOUDS:
        return _cloud(parts)
    raise BadLocation(f"object store: {parts.scheme!r} is none of file, s3, gs, az, memory")


def _directory(path: str) -> DirectoryLocation:
    if not path or "\0" in path:
        raise BadLocation(f"object store: {path!r} is not a directory")
    return DirectoryLocation(Path(path))


def _file_path(parts: SplitResult) -> str:
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise BadLocation("object store: write file:///absolute/path, with three slashes")
    return unquote(parts.path)


def _cloud(parts: SplitResult) -> CloudLocation:
    if not parts.netloc or "@" in parts.netloc:
        raise BadLocation(f"object store: {parts.scheme}:// needs a bucket, and no credentials")
    prefix = checked_prefix(unquote(parts.path).strip("/"))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if not value:
            raise BadLocation(f"object store: option {name!r} has no value")
        if any(word in name.lower() for word in _SECRET_WORDS):
            raise BadLocation(f"object store: {name!r} does not belong in a location, which gets logged")
    if parts.scheme == "s3":
        options = _s3_options(options)
    allow_http = options.get("endpoint", "").startswith("http:")
    return CloudLocation(parts.scheme, parts.netloc, prefix, options, allow_http)


def _s3_options(options: dict[str, str]) -> dict[str, str]:
    """Every body carries its sha256, unless the operator says `checksum_algorithm=none`."""
    if options.get("checksum_algorithm") == "none":
        return {name: value for name, value in options.items() if name != "checksum_algorithm"}
    return {"checksum_algorithm": "sha256", **options}
