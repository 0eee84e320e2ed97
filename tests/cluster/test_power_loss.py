"""Power goes while people push, and what was not synced is gone: no acknowledged push is (matrix row 4).

The control takes `fsync` away from the same node, and the same judge must see the loss.
"""

import os
from pathlib import Path

import pytest

from support.chaos import power
from support.chaos.power_cuts import PowerCuts, suffer_power_cuts
from support.long import only_long
from support.servers import skip_missing

NO_SYNC = "import os\nos.fsync = os.fdatasync = lambda descriptor: None\n"


@pytest.fixture(autouse=True)
def _disks() -> None:
    if reason := power.why_not():
        skip_missing("a disk that can lose power", reason)


@pytest.mark.timeout(240)
def test_a_power_cut_loses_no_acknowledged_push(tmp_path: Path) -> None:
    assert suffer_power_cuts(tmp_path, cuts=1, seed=1) == []


@only_long
@pytest.mark.timeout(240)
def test_the_judge_sees_what_a_node_without_sync_loses(tmp_path: Path) -> None:
    crutch = tmp_path / "crutch"
    crutch.mkdir()
    (crutch / "sitecustomize.py").write_text(NO_SYNC)
    with power.Disk(tmp_path / "disk") as disk:
        world = PowerCuts(disk, seed=1)
        try:
            world.begin()
            world.node.stop()
            paths = [str(crutch), *filter(None, [os.environ.get("PYTHONPATH")])]
            world.node.environment["PYTHONPATH"] = os.pathsep.join(paths)
            world.node.start()
            world.cut(after=12)
            assert world.findings() != [], "packs that nobody synced are still there"
        finally:
            world.node.kill()
