"""Shared secrets, the hand-over of master keys, and join tokens, in every kind of database."""

import json
import sqlite3
import threading
from pathlib import Path

import pytest

from mainstay.cluster import rotation, rpc_tokens
from mainstay.cluster.joining import Bundle, TokenRefused, make_token, parse_token, redeem, unseal
from mainstay.cluster.keyring import KeyFile, KeyRing, SecretUnreadable, new_key, read_keys, write_keys
from mainstay.cluster.schema import Release, record, release_of
from mainstay.cluster.secrets import Secrets, WrongMasterKey, found, master_key_id, reach_master, secrets_in
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import Database

HOUR_MS = 3_600_000


class Machine:
    """A data directory with master keys, and the secrets as it sees them."""

    def __init__(self, database: Database, data: Path, keyring: KeyRing) -> None:
        data.mkdir()
        write_keys(data, keyring)
        self.data = data
        self.keys = KeyFile(data)
        self.secrets = Secrets(database, self.keys, ManualClock())


@pytest.fixture
def founder(database: Database, tmp_path: Path) -> Machine:
    keyring = KeyRing([new_key()])
    found(database, keyring, now_ms=1)
    return Machine(database, tmp_path / "founder", keyring)


@pytest.fixture
def member(database: Database, founder: Machine, tmp_path: Path) -> Machine:
    return Machine(database, tmp_path / "member", founder.secrets.ring)


# Secrets
def test_a_secret_is_kept_once_and_read_by_all(founder: Machine, member: Machine) -> None:
    assert founder.secrets.get("name") is None
    assert founder.secrets.put_if_absent("name", "first") == "first"
    assert member.secrets.put_if_absent("name", "second") == "first"
    member.secrets.put("name", "third")
    assert founder.secrets.get("name") == "third"


def test_only_names_can_be_listed_and_nothing_is_in_plain_text(founder: Machine, database: Database) -> None:
    founder.secrets.put("name", "a text that nobody may see")
    facts = {fact.name: fact.key_id for fact in founder.secrets.names()}
    assert facts == {"master": founder.secrets.ring.newest_id, "name": founder.secrets.ring.newest_id}
    with database.read() as tx:
        assert "nobody may see" not in str(tx.rows("SELECT * FROM cluster_secret"))


def test_the_first_key_is_the_key_of_the_database(founder: Machine, database: Database) -> None:
    other = KeyRing([new_key()])
    assert found(database, other, now_ms=2) == founder.secrets.ring.newest_id == master_key_id(database)
    with pytest.raises(WrongMasterKey, match=f"has master key {master_key_id(database)}, this node has"):
        reach_master(database, other, founder.keys)


def test_a_stranger_with_a_copy_of_the_database_reads_nothing(
    founder: Machine, database: Database, tmp_path: Path
) -> None:
    founder.secrets.put("name", "value")
    stranger = Machine(database, tmp_path / "stranger", KeyRing([new_key()]))
    with pytest.raises(WrongMasterKey):
        stranger.secrets.get("name")


def test_a_row_under_another_name_is_refused(founder: Machine, database: Database) -> None:
    founder.secrets.put("one", "value")
    with database.write() as tx:
        tx.execute("UPDATE cluster_secret SET name = 'two' WHERE name = 'one'")
    with pytest.raises(SecretUnreadable):
        founder.secrets.get("two")


# Rotating the master key
def rotate(machine: Machine, database: Database) -> rotation.Rotated:
    return rotation.rotate_master(database, machine.secrets, machine.keys, now_ms=5)


def test_a_running_node_picks_a_new_master_key_up_by_itself(
    founder: Machine, member: Machine, database: Database
) -> None:
    member.secrets.put("name", "value")
    made = make_token(database, founder.secrets, by="ada", ttl_ms=HOUR_MS)
    done = rotate(founder, database)
    assert (done.before, done.after) == (member.secrets.ring.newest_id, master_key_id(database))
    assert done.wrapped == 3, "the master's own row, the secret, the token"
    assert read_keys(founder.data).newest_id == done.after
    assert {fact.key_id for fact in founder.secrets.names() if "after" not in fact.name} == {done.after}
    assert member.secrets.get("name") == "value"
    assert read_keys(member.data).newest_id == done.after, "and its file has it, for its next start"
    token = parse_token(made.text.reveal())
    bundle = Bundle(new_ulid(), member.secrets.ring, {})
    sealed = redeem(database, member.secrets, bundle, token_id=token.id, proof=token.proof, at="")
    assert unseal(token, sealed).keyring.newest_id == done.after


def test_a_node_that_was_away_for_several_rotations_follows_the_trail(
    founder: Machine, member: Machine, database: Database
) -> None:
    for _ in range(3):
        rotate(founder, database)
    founder.secrets.put("name", "value")
    assert member.secrets.get("name") == "value"
    assert read_keys(member.data).newest_id == master_key_id(database)


def test_after_the_end_of_a_rotation_an_old_key_leads_nowhere(
    founder: Machine, member: Machine, database: Database
) -> None:
    rotate(founder, database)
    assert rotation.forget_trail(database, founder.secrets) == 1
    founder.secrets.put("name", "value")
    with pytest.raises(WrongMasterKey):
        member.secrets.get("name")
    assert founder.secrets.get("name") == "value"


def test_what_a_slow_node_wrapped_by_the_old_key_is_not_lost(
    founder: Machine, member: Machine, database: Database
) -> None:
    assert member.secrets.ring.ids
    rotate(founder, database)
    member.secrets.put("late", "value")
    assert founder.secrets.get("late") == "value"
    rotation.forget_trail(database, founder.secrets)
    facts = {fact.name: fact.key_id for fact in founder.secrets.names()}
    assert facts["late"] == master_key_id(database)


def test_of_two_rotations_at_once_one_is_told(
    founder: Machine, member: Machine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member decides on what it saw before the founder was done."""
    stale = member.secrets.refresh()
    rotate(founder, database)
    monkeypatch.setattr(member.secrets, "refresh", lambda: stale)
    with pytest.raises(WrongMasterKey, match="at this moment"):
        rotate(member, database)
    monkeypatch.undo()
    assert member.secrets.refresh().newest_id == master_key_id(database)


def test_a_database_from_an_older_backup_still_finds_its_key(founder: Machine, database: Database) -> None:
    before = founder.secrets.ring
    rotate(founder, database)
    with database.write() as tx:
        tx.execute("DELETE FROM cluster_secret")
    found(database, before, now_ms=1)
    assert founder.secrets.refresh().newest_id == before.newest_id


# Tokens between nodes
def test_two_rpc_tokens_are_valid_at_once(founder: Machine, member: Machine) -> None:
    first = rpc_tokens.token_pair(founder.secrets).current.reveal()
    assert rpc_tokens.token_pair(member.secrets).accepts(first)
    rpc_tokens.rotate(founder.secrets, now_ms=0)
    second = rpc_tokens.token_pair(founder.secrets).current.reveal()
    theirs = rpc_tokens.token_pair(member.secrets)
    assert second != first
    assert theirs.accepts(first)
    assert theirs.accepts(second)
    assert not theirs.accepts("")
    assert not theirs.accepts("unknown")
    rpc_tokens.rotate(founder.secrets, now_ms=ManualClock().now_ms() + 61_000)
    theirs = rpc_tokens.token_pair(member.secrets)
    assert not theirs.accepts(first)
    assert theirs.accepts(second)


def test_rotating_twice_within_a_minute_is_refused(founder: Machine) -> None:
    now_ms = ManualClock().now_ms()
    rpc_tokens.rotate(founder.secrets, now_ms=now_ms)
    with pytest.raises(rpc_tokens.TooSoon, match="within the last minute"):
        rpc_tokens.rotate(founder.secrets, now_ms=now_ms + 1000)


# Join tokens
def test_a_token_lets_one_machine_in_once(founder: Machine, database: Database) -> None:
    bundle = Bundle(new_ulid(), founder.secrets.ring, {"external_url": "https://git.example.org"})
    made = make_token(database, founder.secrets, by="ada", ttl_ms=HOUR_MS)
    token = parse_token(made.text.reveal())
    sealed = redeem(database, founder.secrets, bundle, token_id=token.id, proof=token.proof, at="10.0.0.7")
    assert unseal(token, sealed).settings == bundle.settings
    with pytest.raises(TokenRefused):
        redeem(database, founder.secrets, bundle, token_id=token.id, proof=token.proof, at="10.0.0.8")
    with database.read() as tx:
        assert tx.rows("SELECT used_from FROM cluster_join_token") == [("10.0.0.7",)]
        assert token.secret.hex() not in json.dumps(
            [list(map(str, r)) for r in tx.rows("SELECT * FROM cluster_join_token")]
        )


def test_unknown_used_expired_and_wrong_are_told_in_the_same_words(
    founder: Machine, database: Database
) -> None:
    bundle = Bundle(new_ulid(), founder.secrets.ring, {})

    def refusal(token_id: str, proof: str) -> str:
        with pytest.raises(TokenRefused) as refused:
            redeem(database, founder.secrets, bundle, token_id=token_id, proof=proof, at="")
        return str(refused.value)

    expired, good = (
        parse_token(make_token(database, founder.secrets, by="ada", ttl_ms=HOUR_MS).text.reveal())
        for _ in range(2)
    )
    with database.write() as tx:
        tx.execute("UPDATE cluster_join_token SET expires_ms = 1 WHERE id = ?", (expired.id,))
    said = {
        refusal(expired.id, expired.proof),
        refusal(new_ulid(), good.proof),
        refusal(good.id, "0" * 64),
        refusal(good.id, "short"),
        refusal("' OR 1=1 --", good.proof),
    }
    assert len(said) == 1
    assert "unknown, used or expired" in said.pop()
    assert redeem(database, founder.secrets, bundle, token_id=good.id, proof=good.proof, at="")


def test_of_many_machines_with_one_token_one_gets_in(founder: Machine, database: Database) -> None:
    bundle = Bundle(new_ulid(), founder.secrets.ring, {})
    token = parse_token(make_token(database, founder.secrets, by="ada", ttl_ms=HOUR_MS).text.reveal())
    start, outcomes = threading.Barrier(5), []

    def try_it() -> None:
        start.wait(20)
        try:
            redeem(database, founder.secrets, bundle, token_id=token.id, proof=token.proof, at="")
            outcomes.append("in")
        except TokenRefused:
            outcomes.append("refused")

    threads = [threading.Thread(target=try_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["in", "refused", "refused", "refused", "refused"]


@pytest.mark.parametrize("ttl_ms", [0, -1, 8 * 24 * HOUR_MS])
def test_a_token_lives_neither_for_ever_nor_not_at_all(
    founder: Machine, database: Database, ttl_ms: int
) -> None:
    with pytest.raises(Invalid, match="7 days"):
        make_token(database, founder.secrets, by="ada", ttl_ms=ttl_ms)


def test_old_tokens_are_forgotten(founder: Machine, database: Database) -> None:
    make_token(database, founder.secrets, by="ada", ttl_ms=HOUR_MS)
    with database.write() as tx:
        tx.execute("UPDATE cluster_join_token SET expires_ms = 1")
    kept = make_token(database, founder.secrets, by="ada", ttl_ms=HOUR_MS)
    with database.read() as tx:
        assert tx.rows("SELECT id FROM cluster_join_token") == [(kept.id,)]


# The release of the tables
def test_the_release_is_written_down_and_never_falls(database: Database) -> None:
    assert release_of(database) is None
    for made, expected in [((3, 2), (3, 2)), ((5, 4), (5, 4)), ((4, 3), (5, 4))]:
        record(database, program=Release(*made))
        assert release_of(database) == Release(*expected)


def test_a_database_without_tables_has_no_release(tmp_path: Path) -> None:
    from mainstay.storage.database.sqlite import SqliteDatabase

    sqlite3.connect(tmp_path / "empty.db").close()
    empty = SqliteDatabase(tmp_path / "empty.db")
    assert release_of(empty) is None
    empty.close()


class Away:
    """A database that nobody reaches."""

    dialect = "sqlite"

    def read(self) -> None:
        raise Unavailable("the database is away")

    write = read


def test_what_was_read_once_is_there_while_the_database_is_away(founder: Machine, database: Database) -> None:
    here = secrets_in(database, founder.data, ManualClock())
    away = secrets_in(Away(), founder.data, ManualClock())
    here.put("name", "value")
    with pytest.raises(Unavailable):
        away.get("name")
    assert here.get("name") == "value"
    assert here.ensure("made here", lambda: "fresh") == away.get("made here") == "fresh"
    assert away.get("name") == away.ensure("name", lambda: "another") == "value"
    for file in (founder.data / "keys" / "remembered").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert b"value" not in file.read_bytes()
    with pytest.raises(Unavailable):
        away.put("name", "other")


def test_when_the_key_is_lost_a_new_one_starts_over_without_the_secrets(
    founder: Machine, member: Machine, database: Database
) -> None:
    founder.secrets.put("name", "value")
    make_token(database, founder.secrets, by="ada", ttl_ms=HOUR_MS)
    before = founder.secrets.ring
    assert rotation.start_over(database, founder.keys, now_ms=9) == 2
    assert founder.secrets.refresh().newest_id == master_key_id(database) != before.newest_id
    assert founder.secrets.get("name") is None
    with pytest.raises(WrongMasterKey):
        member.secrets.refresh()
