"""What every database promises to the rooms above it."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.storage.database import ConstraintBroken, Database, LocalDatabase, Transaction, WouldWait
from mainstay.storage.database.opening import open_database
from mainstay.storage.database.postgresql import PostgresqlDatabase
from mainstay.storage.database.sqlite import SqliteDatabase
from support.databases import migrated_sqlite

EVENT = "INSERT INTO ledger_event (topic, payload, at_ms, attempts, due_ms) VALUES (?, ?, ?, ?, ?)"


def add_event(tx: Transaction, topic: str) -> None:
    tx.execute(EVENT, (topic, "{}", 1, 0, 1))


def topics(database: Database) -> list[str]:
    with database.read() as tx:
        return [topic for (topic,) in tx.rows("SELECT topic FROM ledger_event ORDER BY id")]


def test_a_block_that_ends_commits(database: Database) -> None:
    with database.write() as tx:
        add_event(tx, "one")
    assert topics(database) == ["one"]


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        _add_and_fail(tx)
    assert topics(database) == []
    with database.write() as tx:
        add_event(tx, "two")
    assert topics(database) == ["two"]


def _add_and_fail(tx: Transaction) -> None:
    add_event(tx, "one")
    raise ZeroDivisionError


def test_statements_say_how_many_rows_they_changed(database: Database) -> None:
    with database.write() as tx:
        add_event(tx, "one")
        add_event(tx, "two")
        assert tx.execute("UPDATE ledger_event SET attempts = ? WHERE topic = ?", (3, "two")) == 1
        assert tx.execute("DELETE FROM ledger_event WHERE attempts > ?", (5,)) == 0


def test_returning_gives_rows(database: Database) -> None:
    with database.write() as tx:
        found = tx.row(f"{EVENT} RETURNING topic, attempts", ("one", "{}", 1, 4, 1))
        assert found == ("one", 4)
        assert tx.row("SELECT 1 FROM ledger_event WHERE topic = ?", ("none",)) is None


def test_bytes_and_null_come_back_as_they_went_in(database: Database) -> None:
    raw = bytes(range(256))
    with database.write() as tx:
        tx.execute(
            "INSERT INTO ledger_ref (repository_id, name, oid, peeled) VALUES (1, ?, ?, ?)", (raw, b"", None)
        )
        assert tx.row("SELECT name, oid, peeled FROM ledger_ref") == (raw, b"", None)


def test_percent_signs_are_only_letters(database: Database) -> None:
    with database.write() as tx:
        add_event(tx, "100%s")
        assert tx.rows("SELECT topic FROM ledger_event WHERE topic LIKE '100%' AND attempts = ?", (0,)) == [
            ("100%s",)
        ]


@pytest.mark.parametrize("count", [0, 3, 2000])
def test_many_inserts_everything_in_order(database: Database, count: int) -> None:
    with database.write() as tx:
        tx.many(EVENT, ((f"topic {i}\t\\N", "{}", i, 0, 1) for i in range(count)))
    assert topics(database) == [f"topic {i}\t\\N" for i in range(count)]


def test_many_updates(database: Database) -> None:
    with database.write() as tx:
        tx.many(EVENT, [(str(i), "{}", i, 0, 1) for i in range(5)])
        tx.many("UPDATE ledger_event SET attempts = ? WHERE topic = ?", [(7, "1"), (8, "3")])
        assert tx.rows("SELECT attempts FROM ledger_event ORDER BY id") == [(0,), (7,), (0,), (8,), (0,)]


@pytest.mark.parametrize("count", [1, 1000])
def test_a_broken_constraint_is_a_conflict_and_nothing_stays(database: Database, count: int) -> None:
    rows = [(1, b"name %d" % i, b"x", None) for i in range(count)]
    with pytest.raises(ConstraintBroken), database.write() as tx:
        tx.many(
            "INSERT INTO ledger_ref (repository_id, name, oid, peeled) VALUES (?, ?, ?, ?)", [*rows, rows[0]]
        )
    with database.read() as tx:
        assert tx.rows("SELECT * FROM ledger_ref") == []


def test_a_foreign_key_is_checked_at_the_end(database: Database) -> None:
    naming = "INSERT INTO ledger_repository_pack (repository_id, pack_id, added_version) VALUES (?, ?, ?)"
    with pytest.raises(ConstraintBroken), database.write() as tx:
        tx.execute(naming, (99, "nothing", 1))
    with database.read() as tx:
        assert tx.rows("SELECT * FROM ledger_repository_pack") == []


def test_writing_in_a_read_is_an_error_and_changes_nothing(database: Database) -> None:
    with pytest.raises(Exception, match=r"read-only|readonly"), database.read() as tx:
        add_event(tx, "one")
    assert topics(database) == []


def test_a_read_sees_one_moment(database: Database) -> None:
    if isinstance(database, SqliteDatabase) and database.path == ":memory:":
        return  # one transaction at a time: nothing can happen during a read
    with database.read() as tx:
        assert tx.rows("SELECT topic FROM ledger_event") == []
        with ThreadPoolExecutor(1) as other:
            other.submit(lambda: _write_one(database, "later")).result()
        assert tx.rows("SELECT topic FROM ledger_event") == []
    assert topics(database) == ["later"]


def _write_one(database: Database, topic: str) -> None:
    with database.write() as tx:
        add_event(tx, topic)


def test_writers_of_many_threads_lose_nothing(database: Database) -> None:
    _write_one(database, "counter")

    def increment() -> None:
        for _ in range(20):
            with database.write() as tx:
                tx.execute("UPDATE ledger_event SET attempts = attempts + 1 WHERE topic = ?", ("counter",))

    with ThreadPoolExecutor(8) as threads:
        for task in [threads.submit(increment) for _ in range(8)]:
            task.result()
    with database.read() as tx:
        assert tx.row("SELECT attempts FROM ledger_event") == (160,)


def test_readers_and_writers_of_many_threads_do_not_disturb_each_other(database: Database) -> None:
    stop = threading.Event()

    def read_until_stopped() -> int:
        turns = 0
        while not stop.is_set():
            topics(database)
            turns += 1
        return turns

    with ThreadPoolExecutor(5) as threads:
        readers = [threads.submit(read_until_stopped) for _ in range(4)]
        for i in range(30):
            _write_one(database, str(i))
        stop.set()
        assert all(reader.result() > 0 for reader in readers)
    assert len(topics(database)) == 30


def test_only_a_database_on_this_machine_is_read_without_waiting(database: Database) -> None:
    assert isinstance(database, LocalDatabase) is (database.dialect == "sqlite")


@pytest.fixture
def file(tmp_path: Path, sqlite_template: Path) -> Iterator[SqliteDatabase]:
    database = migrated_sqlite(sqlite_template, tmp_path / "mainstay.db")
    yield database
    database.close()


def test_without_waiting_all_reads_of_a_block_see_one_snapshot(file: SqliteDatabase) -> None:
    _write_one(file, "before")
    with file.without_waiting():
        assert topics(file) == ["before"]
        with ThreadPoolExecutor(1) as threads:
            threads.submit(_write_one, file, "meanwhile").result()
        assert topics(file) == ["before"]
    assert topics(file) == ["before", "meanwhile"]


def test_without_waiting_one_cannot_read_in_memory(sqlite_template: Path) -> None:
    database = migrated_sqlite(sqlite_template, ":memory:")
    with pytest.raises(WouldWait), database.without_waiting():
        pass
    database.close()


def test_without_waiting_a_closed_database_is_unavailable(file: SqliteDatabase) -> None:
    assert _topics_without_waiting(file) == []
    file.close()
    with pytest.raises(Unavailable):
        _topics_without_waiting(file)


def test_without_waiting_every_block_sees_what_was_committed_before_it(file: SqliteDatabase) -> None:
    for count in range(3):
        with file.without_waiting():
            assert len(topics(file)) == count
        _write_one(file, "another")


def test_without_waiting_nobody_writes(file: SqliteDatabase) -> None:
    with pytest.raises(WouldWait), file.without_waiting():
        _write_one(file, "hasty")
    assert topics(file) == []
    _write_one(file, "afterwards")
    assert topics(file) == ["afterwards"]


def test_without_waiting_a_writer_is_not_waited_for(file: SqliteDatabase) -> None:
    with ThreadPoolExecutor(1) as threads, file.write() as tx:
        add_event(tx, "unseen")
        assert threads.submit(_topics_without_waiting, file).result(timeout=10) == []
    assert _topics_without_waiting(file) == ["unseen"]


def test_without_waiting_a_lock_on_the_whole_file_is_not_waited_for(file: SqliteDatabase) -> None:
    _topics_without_waiting(file)
    holder = sqlite3.connect(file.path, isolation_level=None)
    file.close()  # the other connections must be gone before one can have the file for itself
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    again = SqliteDatabase(file.path, busy_timeout_s=3600)
    with pytest.raises(WouldWait, match="locked"):
        _topics_without_waiting(again)
    holder.close()
    assert _topics_without_waiting(again) == []
    again.close()


def _topics_without_waiting(database: LocalDatabase) -> list[str]:
    with database.without_waiting():
        return topics(database)


def test_a_closed_database_is_unavailable(database: Database) -> None:
    topics(database)
    database.close()
    with pytest.raises(Unavailable):
        topics(database)
    with pytest.raises(Unavailable), database.write():
        pass


def test_a_url_says_which_database() -> None:
    opened = open_database("sqlite:///some/where%20else.db")
    assert isinstance(opened, SqliteDatabase)
    assert opened.path == "/some/where else.db"
    with pytest.raises(Invalid, match="mysql"):
        open_database("mysql://example")
    for nothing in ("", "sqlite://", "/path/only"):
        with pytest.raises(Invalid):
            open_database(nothing)


def test_a_url_of_several_hosts_goes_to_the_one_that_writes(postgres_url: str) -> None:
    away = postgres_url.replace("@", "@127.0.0.1:1,")
    opened = open_database(away)
    assert isinstance(opened, PostgresqlDatabase)
    assert topics(opened) == []
    opened.close()
