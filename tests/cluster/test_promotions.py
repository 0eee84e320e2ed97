"""Promotions one after the other, in ways of chance. More of them: `python -m support.promotions`."""

from pathlib import Path

import pytest

from support import promotions
from support.long import only_long
from support.managed import roomy_path

__all__ = ["roomy_path"]


@only_long
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("managed-postgresql")
@pytest.mark.parametrize("seed", [1, 2])
def test_after_each_everything_acknowledged_is_there(roomy_path: Path, seed: int) -> None:
    pair = promotions.run(roomy_path, count=4, seed=seed)
    assert pair.epoch == 5
    assert len(pair.pushed) > 8
