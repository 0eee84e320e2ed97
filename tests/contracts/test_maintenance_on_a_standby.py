"""A replica knows the decree of its primary: it came with the database, and is read in every role."""

from pathlib import Path
from uuid import uuid4

import pytest

from mainstay.cluster.reading_line import ReadingLine, open_reading_line
from mainstay.foundation.errors import Unavailable
from mainstay.ops.maintenance import switch
from mainstay.ops.maintenance.state import Mode
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.databases import migrate
from support.postgres_pair import Pair
from support.servers import wait_until

pytestmark = [pytest.mark.xdist_group("postgres-pair"), pytest.mark.timeout(180)]


def test_a_replica_enters_maintenance_with_its_primary(pair: Pair, tmp_path: Path) -> None:
    name = f"test_{uuid4().hex[:12]}"
    pair.primary.do(f'CREATE DATABASE "{name}"')
    migrate(tmp_path, pair.primary.url(name))
    primary = PostgresqlDatabase(pair.primary.url(name))
    line = open_reading_line(pair.standby.url(name), limit_s=5)
    try:
        assert wait_for(line, Mode.OFF).state.by == ""
        switch.turn_on(primary, mode=Mode.READ_ONLY, by="ada", message="new disks")
        seen = wait_for(line, Mode.READ_ONLY)
        assert (seen.state.by, seen.state.message) == ("ada", "new disks")
        primary.close()
        pair.standby.promote()
        assert wait_for(line, Mode.READ_ONLY).state == seen.state, "a promotion changes nothing about it"
    finally:
        line.close()
        primary.close()


def wait_for(line: ReadingLine, mode: Mode) -> switch.Seen:
    seen: list[switch.Seen] = []

    def is_there() -> bool:
        try:
            seen.append(switch.look(line))
        except Unavailable:
            return False
        return seen[-1].state.mode is mode

    wait_until(is_there, timeout_s=30, what=f"mode {mode}")
    return seen[-1]
