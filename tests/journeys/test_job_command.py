"""`mainstay job`: what an operator does about jobs that failed too often."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from support.node import Node

NAME = "of-a-version-to-come"
"""No worker knows it, so that the running node leaves it alone."""


def put_job(node: Node, *, dead: bool) -> int:
    with closing(sqlite3.connect(node.data / "mainstay.db", timeout=30)) as database, database:
        cursor = database.execute(
            "INSERT INTO jobs_job (name, payload, due_ms, attempts, max_attempts, again, dead, last_error)"
            " VALUES (?, '{}', 1000, 10, 10, 0, ?, 'the object store was away')",
            (NAME, dead),
        )
        return int(cursor.lastrowid or 0)


@pytest.fixture
def failed(node: Node) -> Iterator[int]:
    yield put_job(node, dead=True)
    with closing(sqlite3.connect(node.data / "mainstay.db", timeout=30)) as database, database:
        database.execute("DELETE FROM jobs_job WHERE name = ?", (NAME,))


def listed(node: Node, *arguments: str) -> dict[int, str]:
    rows = json.loads(node.run("job", "list", *arguments, "--json").stdout)
    return {row["id"]: row["state"] for row in rows}


def test_a_failed_job_is_seen_and_revived(node: Node, failed: int) -> None:
    assert listed(node, "--state", "failed") == {failed: "failed"}
    shown = node.run("job", "list").stdout
    assert "the object store was away" in shown
    revived = json.loads(node.run("job", "revive", str(failed), "--json").stdout)
    assert [(row["id"], row["state"], row["attempts"]) for row in revived] == [(failed, "waiting", 0)]
    again = node.run("job", "revive", str(failed))
    assert again.returncode == 0, "twice is the same as once"
    assert listed(node, "--state", "failed") == {}
    assert listed(node, "--state", "waiting")[failed] == "waiting"


def test_all_that_failed_are_revived_at_once(node: Node, failed: int) -> None:
    other = put_job(node, dead=True)
    said = node.run("job", "revive", "--all-failed").stdout.splitlines()
    assert said == [f"job {each} ({NAME}) is tried again" for each in (failed, other)]
    assert node.run("job", "revive", "--all-failed").stdout == "nothing has failed\n"


def test_a_failed_job_is_given_up_and_no_other(node: Node, failed: int) -> None:
    waiting = put_job(node, dead=False)
    said = node.run("job", "forget", str(failed), str(waiting)).stdout.splitlines()
    assert said == [f"job {failed} ({NAME}) is given up", f"job {waiting} ({NAME}) is left alone"]
    assert failed not in listed(node)
    assert waiting in listed(node)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("revive", "{failed}", "999999999"), 4, "there is no job 999999999"),
        (("forget", "999999999"), 4, "there is no job 999999999"),
        (("revive",), 2, "name jobs by their ids, or say --all-failed"),
        (("revive", "--all-failed", "{failed}"), 2, "name jobs by their ids, or say --all-failed"),
        (("revive", "seven"), 2, "'seven' is not a valid integer"),
        (("list", "--state", "dead"), 2, "'dead' is not one of"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    node: Node, failed: int, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = node.run("job", *[word.format(failed=failed) for word in arguments], check=False)
    assert done.returncode == code
    assert sentence in done.stderr
    assert listed(node, "--state", "failed") == {failed: "failed"}
