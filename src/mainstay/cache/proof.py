"""Is a file of the cache what it should be? It is read whole and compared with what it says of itself.

A pack has the size and the SHA-256 that the ledger knows. Its side-files end with a SHA-1 of all before it.
Git checks neither when it serves: it copies parts of packs to its clients as they are.
"""

import hashlib
from io import BufferedReader
from pathlib import Path

from mainstay.storage.ledger import Pack

_READ_BYTES = 1 << 20
_TRAILER_BYTES = 20

NEEDED = ("pack", "idx")
"""Without the other side-files a repository is slower to read, and no more."""


def is_sound(path: Path, ending: str, pack: Pack) -> bool:
    """Raises `FileNotFoundError`; a file that cannot be read is not sound."""
    try:
        with path.open("rb") as stream:
            return _is_the_pack(stream, pack) if ending == "pack" else _ends_with_its_checksum(stream)
    except FileNotFoundError:
        raise
    except OSError:
        return False


def _is_the_pack(stream: BufferedReader, pack: Pack) -> bool:
    size_bytes = stream.seek(0, 2)
    stream.seek(0)
    return size_bytes == pack.size_bytes and hashlib.file_digest(stream, "sha256").hexdigest() == pack.sha256


def _ends_with_its_checksum(stream: BufferedReader) -> bool:
    left = stream.seek(0, 2) - _TRAILER_BYTES
    stream.seek(0)
    digest = hashlib.sha1(usedforsecurity=False)
    while left > 0 and (chunk := stream.read(min(_READ_BYTES, left))):
        digest.update(chunk)
        left -= len(chunk)
    return left == 0 and stream.read() == digest.digest()
