"""Files that hold a secret: read only when nobody else can read them.

A TSIG key is in the file that `tsig-keygen NAME` prints, its name and algorithm included. Keys for Route 53
are in a file as the AWS tools keep them: `aws_access_key_id = …`, `aws_secret_access_key = …`.
"""

import configparser
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.errors import Invalid
from mainstay.foundation.logs import Secret

_BYTES_MAX = 8192
_KEY = re.compile(
    r'\s*key\s+"?(?P<name>[A-Za-z0-9._-]{1,255})"?\s*\{'
    r'(?=[^}]*algorithm\s+"?(?P<algorithm>[a-zA-Z0-9.-]{1,64})"?\s*;)'
    r'(?=[^}]*secret\s+"(?P<secret>[A-Za-z0-9+/=]{1,2048})"\s*;)[^}]*\}\s*;\s*'
)
_COMMENT = re.compile(r'(?s)("[^"]*")|/\*.*?\*/|(?://|#)[^\n]*')
_ALGORITHMS = ("hmac-sha256", "hmac-sha512", "hmac-sha384", "hmac-sha224", "hmac-sha1")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class BadSecretFile(Invalid):
    """The file cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class TsigKey:
    """Who we are to a name server."""

    name: str
    algorithm: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Who we are to AWS."""

    id: str
    secret: Secret


def problem_of(file: Path) -> str:
    """Why this file may not hold a secret; empty when it may."""
    try:
        status = file.stat()
    except OSError as error:
        return f"cannot look at {file}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return f"{file} is not a file"
    if status.st_mode & _OTHERS:
        return f"others can read {file}: chmod 600 it"
    return ""


def read_tsig_key(file: Path) -> TsigKey:
    """Raises `BadSecretFile`, without any of the content in its message."""
    found = _KEY.fullmatch(_without_comments(_read(file)))
    if found is None:
        raise BadSecretFile(f"{file} holds no TSIG key; make one with `tsig-keygen NAME > {file}`")
    algorithm = found["algorithm"].lower().removesuffix(".")
    if algorithm not in _ALGORITHMS:
        raise BadSecretFile(f"{file}: the algorithm {algorithm!r} is none of {', '.join(_ALGORITHMS)}")
    return TsigKey(found["name"], algorithm, Secret(found["secret"]))


def read_access_key(file: Path) -> AccessKey:
    """The first section that has both lines. Raises `BadSecretFile`."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_read(file))
    except configparser.Error:
        # Its own message would quote the lines.
        raise BadSecretFile(f"{file} is not a file of AWS credentials: begin it with [default]") from None
    for section in parser.sections():
        key, secret = parser[section].get("aws_access_key_id"), parser[section].get("aws_secret_access_key")
        if key and secret:
            return AccessKey(key, Secret(secret))
    raise BadSecretFile(f"{file} has no section with aws_access_key_id and aws_secret_access_key")


def _read(file: Path) -> str:
    if problem := problem_of(file):
        raise BadSecretFile(problem)
    try:
        with file.open(encoding="ascii") as text:
            return text.read(_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSecretFile(f"cannot read {file}: {type(error).__name__}") from None


def _without_comments(text: str) -> str:
    """Quoted parts stay as they are: a secret may hold two slashes."""
    return _COMMENT.sub(lambda match: match[1] or "", text)
