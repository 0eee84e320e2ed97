"""A round of uploads ends as one, also when it fails."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Unavailable
from mainstay.storage.objects.memory import MemoryStore
from mainstay.storage.upload import PackFiles, Uploads
from support.ledgers import a_pack


class FailsAtThePack(MemoryStore):
    """Takes the index only after the pack has failed."""

    def __init__(self) -> None:
        super().__init__()
        self.has_failed = threading.Event()

    def put(self, key: str, source: Path) -> None:
        if key.endswith(".pack"):
            self.has_failed.set()
            raise Unavailable("the store is away")
        assert self.has_failed.wait(10)
        super().put(key, source)


def test_when_one_file_fails_the_others_have_ended_before_anybody_hears_of_it(tmp_path: Path) -> None:
    pack, objects = a_pack(), FailsAtThePack()
    files = {ending: tmp_path / ending for ending in ("pack", "idx")}
    for path in files.values():
        path.write_bytes(b"content")
    with ThreadPoolExecutor(2) as threads:
        uploads = Uploads(ledger=cast("Any", None), objects=objects, clock=ManualClock(), threads=threads)
        with pytest.raises(Unavailable, match="the store is away"):
            uploads.store([PackFiles(pack, files)])
        assert objects.size_bytes(f"{pack.key}.idx") == 7
