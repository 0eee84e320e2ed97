"""What a repository is before and after something that must not change it.

before = standing_of(node, "ada/engine")
something bad
check_unharmed(node, before)
"""

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.node import Node
from support.process_tree import wait_until_quiet

_OF_REPOSITORY = {
    "refs": "SELECT name, oid FROM ledger_ref WHERE repository_id = ? ORDER BY name",
    "changes": "SELECT version, hash FROM ledger_change WHERE repository_id = ? ORDER BY version",
    "intents": "SELECT id FROM ledger_upload_intent WHERE repository_id = ? ORDER BY id",
    "packs": "SELECT pack_id FROM ledger_repository_pack WHERE repository_id = ? ORDER BY pack_id",
}
_PROJECT = """
SELECT p.repository_id, r.uid FROM projects_project p JOIN ledger_repository r ON r.id = p.repository_id
WHERE p.full_path_lower = ?
"""


@dataclass(frozen=True)
class Standing:
    """Everything durable that belongs to one repository."""

    path: str
    ledger: dict[str, list[Any]]
    files: list[str]
    """Packs in the object store and what belongs to them. Journal records may be written later."""
    log_lines: int = field(compare=False)
    """How many lines the node had logged by then."""


def standing_of(node: Node, path: str) -> Standing:
    with closing(sqlite3.connect(f"file:{node.data}/mainstay.db?mode=ro", uri=True, timeout=10)) as database:
        repository_id, uid = database.execute(_PROJECT, (path.lower(),)).fetchone()
        ledger = {
            name: database.execute(query, (repository_id,)).fetchall()
            for name, query in _OF_REPOSITORY.items()
        }
    objects = node.data / "objects"
    _wait_until_empty(objects / "journal" / uid / "prepared")
    packs = objects / "repositories" / uid
    files = sorted(str(file.relative_to(packs)) for file in packs.rglob("*") if file.is_file())
    return Standing(path, ledger, files, len(node.log_lines()))


def check_unharmed(node: Node, before: Standing) -> None:
    """Nothing changed, nothing is left over, nobody works any more, and the node serves."""
    wait_until_quiet(node)
    assert standing_of(node, before.path) == before
    assert node.get("/-/readiness")[0] == 200
    since = node.log_lines()[before.log_lines :]
    crashes = [line for line in since if line.get("level") in {"error", "critical"}]
    assert crashes == []


def _wait_until_empty(directory: Path, *, within_s: float = 10.0) -> None:
    """Records of pushes under way go soon after the push."""
    deadline_s = time.monotonic() + within_s
    while left := [file for file in directory.rglob("*") if file.is_file()]:
        assert time.monotonic() < deadline_s, f"still there: {left}"
        time.sleep(0.02)
