"""Which label a repository asks for: one row for each that asks for one.

A label is for warmth, so the rows may be lost: then the repository is served by whoever is preferred.
"""

import re
from collections.abc import Sequence

from mainstay.foundation.errors import Invalid
from mainstay.storage.database import Database

_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
DEFAULT = "default"
"""What the API calls it when a repository asks for none."""


class BadLabel(Invalid):
    """Not a placement label."""


def label_of(database: Database, repository_id: int) -> str:
    """The label that a repository asks for; empty: none."""
    with database.read() as tx:
        row = tx.row("SELECT label FROM cluster_placement WHERE repository_id = ?", (repository_id,))
    return str(row[0]) if row else ""


def labels_of(database: Database, repository_ids: Sequence[int]) -> dict[int, str]:
    """The labels of those that ask for one."""
    if not repository_ids:
        return {}
    marks = ", ".join("?" * len(repository_ids))
    with database.read() as tx:
        rows = tx.rows(
            f"SELECT repository_id, label FROM cluster_placement WHERE repository_id IN ({marks})",  # noqa: S608 - question marks only
            tuple(repository_ids),
        )
    return {int(number): str(label) for number, label in rows}


def place(database: Database, repository_id: int, label: str) -> None:
    """Ask for a label from now on; empty or `default`: for none. Raises `BadLabel`."""
    if label in ("", DEFAULT):
        with database.write() as tx:
            tx.execute("DELETE FROM cluster_placement WHERE repository_id = ?", (repository_id,))
        return
    if not _LABEL.match(label):
        raise BadLabel(f"{label!r} is no label: use up to 63 of a-z, 0-9, dot, dash and underscore")
    with database.write() as tx:
        tx.execute(
            "INSERT INTO cluster_placement (repository_id, label) VALUES (?, ?)"
            " ON CONFLICT (repository_id) DO UPDATE SET label = excluded.label",
            (repository_id, label),
        )
