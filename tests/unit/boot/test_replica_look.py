"""What a machine finds out about itself before it becomes a replica, and what PostgreSQL's files say."""

from pathlib import Path

import pytest

from mainstay.boot.replica import not_packs, progress_of
from mainstay.boot.replica_look import clock_off_ms, directory_state, free_bytes
from mainstay.boot.replicating import database_address, database_listen, forks_in, position, wants_look
from mainstay.boot.settings import assemble
from mainstay.boot.site_lines import claim_in
from mainstay.cluster.sites.puller_state import Behind, PullerState
from mainstay.foundation.errors import Unavailable
from mainstay.ops.sites.memory import Memory
from mainstay.storage.database.fence import Claim


@pytest.mark.parametrize(
    ("theirs_ms", "off_ms"), [(1_000, 0), (1_500, 0), (2_000, 0), (900, 100), (2_300, -300)]
)
def test_a_clock_is_off_only_by_what_the_way_of_the_answer_does_not_explain(
    theirs_ms: int, off_ms: int
) -> None:
    assert clock_off_ms(theirs_ms, asked_ms=1_000, answered_ms=2_000) == off_ms


def test_a_directory_with_a_node_is_occupied_and_one_of_a_replica_is_repaired(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert directory_state(data) == ("empty", "")
    data.mkdir()
    (data / "run").mkdir()
    assert directory_state(data) == ("empty", "")
    (data / "objects").mkdir()
    assert directory_state(data) == ("occupied", "it has objects of a node")
    Memory(data).note_adding({"primary_id": "X"})
    assert directory_state(data) == ("ours", "")


def test_free_room_is_that_of_the_first_directory_that_exists(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there") > 0


def test_the_database_listens_on_the_port_after_that_of_sites_unless_said_otherwise(tmp_path: Path) -> None:
    facts = {"sites": "192.0.2.7:7443", "database_url": "managed"}
    assert str(database_listen(assemble(tmp_path, [facts]))) == "192.0.2.7:7444"
    assert database_address(assemble(tmp_path, [facts])) == "192.0.2.7:7444"
    chosen = assemble(tmp_path, [{**facts, "database_listen": "0.0.0.0:5999", "node_address": "db.example"}])
    assert database_address(chosen) == "db.example:5999"
    assert database_address(assemble(tmp_path, [{"sites": "192.0.2.7:7443"}])) == ""


def test_a_history_says_where_each_timeline_was_left() -> None:
    text = "1\t0/3000148\tno recovery target specified\n\n2\t1/A\tno recovery target specified\n"
    assert forks_in(text) == {1: 0x3000148, 2: (1 << 32) + 10}
    assert forks_in("") == {}
    assert position("0/3000148") == 0x3000148


def test_only_a_machine_that_says_so_is_only_looking() -> None:
    assert wants_look({"look": True})
    assert not wants_look({"look": "yes"})
    assert not wants_look({"id": "X"})
    assert not wants_look(None)


def test_what_another_site_says_of_its_epoch_is_read_strictly() -> None:
    assert claim_in(None) is None
    said = {"epoch": 2, "site": "X", "name": "berlin", "url": ""}
    assert claim_in(said) == Claim(2, "X", "berlin", "")
    with pytest.raises(Unavailable):
        claim_in({"epoch": "two"})


def test_a_cache_takes_packs_when_they_are_asked_for() -> None:
    assert not_packs("journal/x/000000000001.json")
    assert not not_packs("repositories/x/packs/y.pack")


def test_progress_says_what_came_and_what_is_left() -> None:
    state = PullerState(
        phase="comparing",
        compared=10,
        pulled=3,
        received_bytes=2**20,
        behind={"packs": Behind(2, 2**21, 0.0)},
    )
    assert progress_of(state) == "10 compared, 3 copied (1.0 MiB), 2 known to be left (2.0 MiB)"
