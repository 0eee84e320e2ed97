"""The failpoints as the program itself lists them, and which of them a push passes where."""

import json
import os
import subprocess
import sys
from functools import lru_cache

COMPACTION = "swap."
"""The points of this room are on the way of a compaction only."""

ELSEWHERE = ("epochs.", "move.", "promotion.", "replica.", "sites.", "witness.")
"""Rooms whose points neither a push nor a compaction passes: their own tests make them fail there."""

ONLY_ON = {
    "objects.file_written": "directory",
    "objects.file_synced": "directory",
    "objects.linked": "directory",
    "objects.uploaded": "s3",
}
"""Points that one kind of object store has; all others are passed on every kind."""


@lru_cache(maxsize=1)
def declared() -> tuple[str, ...]:
    """What `mainstay debug failpoints --json` lists, but for the rooms `ELSEWHERE`."""
    done = subprocess.run(
        [sys.executable, "-m", "mainstay", "debug", "failpoints", "--json"],
        env={name: value for name, value in os.environ.items() if not name.startswith("MAINSTAY_")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    names = (point["name"] for point in json.loads(done.stdout))
    return tuple(name for name in names if not name.startswith(ELSEWHERE))


def on_a_push(store: str) -> list[str]:
    """Every declared point that a push must pass on this kind of store (`directory` or `s3`).

    A new point is in here by itself: when no push passes it, its test fails until this module says where
    it is passed.
    """
    return [
        name for name in declared() if not name.startswith(COMPACTION) and ONLY_ON.get(name, store) == store
    ]


def on_a_compaction(store: str) -> list[str]:
    """Every declared point that a compaction must pass."""
    return [name for name in declared() if name.startswith(COMPACTION)] + of_the_store(store)


def of_the_store(store: str) -> list[str]:
    """The points of the object store itself, passed for each object."""
    return [name for name in declared() if ONLY_ON.get(name) == store]
