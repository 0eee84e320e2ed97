"""The configuration of a server of ours says what was wished, and only sites by name get in."""

from pathlib import Path

import pytest

from mainstay.foundation.errors import Invalid
from mainstay.provision.postgresql import Listen, PostgresqlMissing, Upstream, slot_of
from mainstay.provision.postgresql.configuration import (
    configuration,
    identities,
    quoted,
    rules,
    sizes_of_primary,
    standby_names,
)
from mainstay.provision.postgresql.places import Places
from mainstay.provision.postgresql.wishes import Wishes, read_wishes, write_wishes

GIB = 1024**3


def lines_of(wishes: Wishes, *, memory: int = 8 * GIB, least: dict[str, int] | None = None) -> set[str]:
    text = configuration(
        Places(Path("/srv/it's")), wishes, sockets=Path("/srv/run"), memory=memory, least=least
    )
    return set(text.splitlines())


def test_without_replicas_only_the_socket_answers() -> None:
    lines = lines_of(Wishes())
    assert "listen_addresses = ''" in lines
    assert not any(line.startswith(("ssl", "primary_conninfo")) for line in lines)
    assert "data_directory = '/srv/it''s/data'" in lines
    assert "hostssl" not in rules(Wishes(sites=("b",)))
    assert "trust" not in rules(Wishes()) + rules(Wishes(listen=Listen(host="::", port=1), sites=("b",)))


def test_a_site_gets_in_by_its_certificate_and_commits_wait_for_all_that_are_named() -> None:
    wishes = Wishes(listen=Listen(host="0.0.0.0", port=7000), sites=("b", "c-1"), synchronous=("b", "c-1"))
    lines = lines_of(wishes)
    assert {"ssl = 'on'", "port = 7000", """synchronous_standby_names = 'FIRST 2 ("b", "c-1")'"""} <= lines
    assert 'sites "c-1" replication' in identities(wishes, users=["git"])
    assert standby_names([]) == ""


def test_a_standby_has_at_least_the_sizes_of_its_primary() -> None:
    control = {"max_connections setting": "900", "max_locks_per_xact setting": "64", "other": "x"}
    lines = lines_of(Wishes(), least=sizes_of_primary(control))
    assert "max_connections = 900" in lines
    assert "max_locks_per_transaction = 128" in lines


def test_a_delay_gives_way_to_a_moment() -> None:
    upstream = Upstream(host="192.0.2.1", port=7000, site="b", name="a")
    delayed = lines_of(Wishes(upstream=upstream, delay_s=60))
    assert "recovery_min_apply_delay = '60s'" in delayed
    assert any("verify-full" in line and "hostaddr=192.0.2.1" in line for line in delayed)
    exact = lines_of(Wishes(upstream=upstream, delay_s=60, replay_until_ms=0))
    assert "recovery_target_time = '1970-01-01T00:00:00.000+00'" in exact
    assert not any(line.startswith("recovery_min_apply_delay") for line in exact)


def test_memory_is_a_modest_part_and_has_limits() -> None:
    assert "shared_buffers = '32768kB'" in lines_of(Wishes(), memory=GIB // 8)
    assert "shared_buffers = '2097152kB'" in lines_of(Wishes(), memory=1024 * GIB)


def test_wishes_are_kept_whole_and_names_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "wishes.json"
    assert read_wishes(file) == Wishes()
    wishes = Wishes(
        listen=Listen(host="::1", port=7000),
        sites=("b",),
        synchronous=("b",),
        upstream=Upstream(host="h", port=1, site="b"),
        delay_s=3,
        replay_until_ms=4,
        wal_kept_bytes=5,
    )
    write_wishes(file, wishes, None)
    assert read_wishes(file) == wishes
    with pytest.raises(Invalid):
        write_wishes(file, Wishes(sites=('b"\nhost all all all trust',)), None)
    assert slot_of("01ARZ3-x.y") == "site_01arz3_x_y"


def test_text_cannot_leave_its_quotes_and_a_missing_program_names_its_package() -> None:
    assert quoted("a'b\\c") == "'a''b\\\\c'"
    assert "postgresql-17" in str(PostgresqlMissing(17, [15]))
