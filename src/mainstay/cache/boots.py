"""After the machine went down, nothing in the cache is believed.

Packs are not synced when they enter the cache: it may be deleted at any time, so syncing would buy nothing
but a slower push. A power cut can therefore leave a file under its name without its bytes, and such a pack
would break every fetch and every push of its repository. So each boot of the machine starts afresh.
"""

from pathlib import Path

from mainstay.foundation.ids import new_ulid

_DISTRUSTED = ("copies", "packs")


def forget_other_boots(directory: Path, boot: str) -> bool:
    """Put aside what an earlier boot left in the cache; the next eviction deletes it. Whether there was any.

    Call it before anybody uses the cache.
    """
    note = directory / "boot_id"
    if note.exists() and note.read_text() == boot:
        return False
    left = [path for path in (directory / name for name in _DISTRUSTED) if path.exists()]
    trash = directory / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    for path in left:
        path.rename(trash / new_ulid())
    note.write_text(boot)
    return bool(left)
