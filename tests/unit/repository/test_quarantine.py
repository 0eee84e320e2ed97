"""Quarantines that nobody works in any more."""

import os
from pathlib import Path

from mainstay.foundation.clock import ManualClock
from mainstay.repository.quarantine import remove_forgotten

_HOUR_S = 3600


def test_only_what_is_older_than_any_push_is_removed(tmp_path: Path) -> None:
    clock = ManualClock()
    now_s = clock.now_ms() / 1000
    for name, hours in (("at-work", 1), ("slow", 23), ("forgotten", 25)):
        (tmp_path / name / "pack").mkdir(parents=True)
        (tmp_path / name / "pack" / "half.pack").write_bytes(b"half")
        os.utime(tmp_path / name, (now_s - hours * _HOUR_S,) * 2)
    assert remove_forgotten(tmp_path, clock) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at-work", "slow"]
    assert remove_forgotten(tmp_path / "not-there", clock) == 0
