"""Public SSH keys as people paste them: read strictly, kept in one form, known by their fingerprint."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from mainstay.foundation.errors import Invalid

_TYPES = frozenset(
    {
        "ssh-ed25519",
        "sk-ssh-ed25519@openssh.com",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "ssh-rsa",
    }
)
_RSA_BITS_MIN = 2048
_RSA_BITS_MAX = 16384
_CHARACTERS_MAX = 16 * 1024
_WORDS_MIN = 2


class BadSshKey(Invalid):
    """Not a public key that we take; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    line: str
    """Type and base64 without the comment."""
    fingerprint: str
    """`SHA256:` and 43 characters, as `ssh-keygen -l` prints it."""
    comment: str


def parse_public_key(text: str) -> PublicKey:
    """Read one line of an OpenSSH public key file. Raises `BadSshKey`."""
    line = text.strip()
    if len(line) > _CHARACTERS_MAX or "\n" in line or "\r" in line or "\0" in line:
        raise BadSshKey("a public key is one line, such as the content of ~/.ssh/id_ed25519.pub")
    words = line.split(None, 2)
    if "PRIVATE" in line or len(words) < _WORDS_MIN:
        raise BadSshKey("this is not a public key; paste the content of the file that ends in .pub")
    kind, encoded, comment = words[0], words[1], words[2] if len(words) > _WORDS_MIN else ""
    _check_kind(kind)
    blob = _blob_of(kind, encoded)
    canonical = f"{kind} {base64.b64encode(blob).decode('ascii')}"
    _check_strength(canonical)
    return PublicKey(line=canonical, fingerprint=fingerprint_of(blob), comment=comment.strip())


def fingerprint_of(blob: bytes) -> str:
    """The fingerprint of a key in wire format."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def fingerprint_of_line(kind: str, encoded: str) -> str:
    """The fingerprint of an offered key, as sshd's `%t` and `%k` hand it over."""
    return fingerprint_of(_blob_of(kind, encoded))


def _check_kind(kind: str) -> None:
    if kind == "ssh-dss":
        raise BadSshKey("DSA keys are too weak; make a new key with 'ssh-keygen -t ed25519'")
    if kind not in _TYPES:
        raise BadSshKey(
            f"a key may not begin with {kind[:60]!r}: no options, certificates or other types; "
            "it begins with ssh-ed25519, ecdsa-sha2-nistp256 (384, 521), ssh-rsa or an sk- type"
        )


def _blob_of(kind: str, encoded: str) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise BadSshKey("the key is damaged: its second word is not base64") from None
    name = kind.encode("ascii", "replace")
    # The blob names its own type; a line whose two names differ is not what it says it is.
    if not blob.startswith(len(name).to_bytes(4) + name):
        raise BadSshKey("the key is damaged: its two parts are of different types")
    return blob


def _check_strength(canonical: str) -> None:
    try:
        key = load_ssh_public_key(canonical.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadSshKey("the key is damaged: it cannot be read") from error
    if isinstance(key, rsa.RSAPublicKey) and not _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX:
        raise BadSshKey(
            f"an RSA key needs {_RSA_BITS_MIN} to {_RSA_BITS_MAX} bits, this one has {key.key_size}; "
            "better make a new key with 'ssh-keygen -t ed25519'"
        )
