"""`mainstay db move`: everything from SQLite to PostgreSQL, and then the node uses that.

The order makes it repeatable after any end: the target is filled and proved while the node still has its
SQLite file; `DATA/moved.json` is the moment after which it uses PostgreSQL; only then the file is renamed.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mainstay.boot import parsing, setup_django
from mainstay.boot.layout import Layout
from mainstay.boot.locks import pid_lock
from mainstay.boot.managed_database import server_of
from mainstay.boot.migrate import migrate, migration_lock
from mainstay.boot.moved import read_move, sqlite_file, write_move
from mainstay.boot.settings import NodeSettings
from mainstay.boot.stores import export
from mainstay.foundation.clock import SYSTEM, iso8601
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.foundation.failpoints import declare, failpoint
from mainstay.ops.moving.move import Moved, Plan, move, plan
from mainstay.ops.moving.source import files_of, opened_source
from mainstay.ops.moving.target import TargetAway, opened_target
from mainstay.storage.database.opening import open_database

SWITCHED = declare("move.switched", "the node uses the target, and the source still has its old name")

_SPACE_FACTOR = 3
"""What PostgreSQL needs for the same rows, its log included, against SQLite."""

Tell = Callable[[str], None]


class NotOnSqlite(Conflict):
    """There is nothing to move."""


class NoRoom(Unavailable):
    """The disk would be full before the move is done."""


def look(settings: NodeSettings, to: str) -> Plan:
    """What a move would do; changes nothing, and may be asked beside a running node."""
    with opened_source(_source_of(settings), shut=False) as source:
        found = plan(source)
    if to == parsing.MANAGED:
        _refuse_full_disk(settings.data, found)
    return found


def move_database(settings: NodeSettings, to: str, *, tell: Tell) -> tuple[Moved, Path]:
    """Do it; what was moved, and where the SQLite file is now. Raises `AlreadyRunning` beside a node."""
    layout, target_url = Layout(settings.data), parsing.database_url(to)
    if target_url.startswith("sqlite"):
        raise NotOnSqlite("the target must be PostgreSQL: `managed`, or postgresql://…")
    with pid_lock(layout.pid):
        _finish_earlier(settings)
        file = _source_of(settings)
        look(settings, to)
        with (
            opened_source(file) as source,
            _running(settings, target_url, tell=tell) as url,
            opened_target(url) as target,
        ):
            done = move(
                source, target, make_tables=lambda: _make_tables(settings, url), clock=SYSTEM, tell=tell
            )
            write_move(settings.data, file, target_url)
            failpoint(SWITCHED)
            target.unmark()
        return done, _set_aside(file)


def _source_of(settings: NodeSettings) -> Path:
    """The SQLite file. Raises `NotOnSqlite`."""
    if not settings.database_url.startswith("sqlite:"):
        raise NotOnSqlite("the node uses PostgreSQL already; there is nothing to move")
    return sqlite_file(settings.database_url)


def _finish_earlier(settings: NodeSettings) -> None:
    """A move that was broken off after its moment: only names are left to change."""
    moved = read_move(settings.data)
    if moved is None or settings.database_url.startswith("sqlite:"):
        return
    if (settings.data / moved.source).exists():
        aside = _set_aside(settings.data / moved.source)
        try:
            with (
                _running(settings, moved.target, tell=lambda _line: None) as url,
                opened_target(url) as target,
            ):
                target.unmark()
        except TargetAway as error:
            raise NotOnSqlite(
                f"the node was moved to PostgreSQL, which does not answer now: {error}"
            ) from error
        raise NotOnSqlite(f"the node was moved to PostgreSQL already; its SQLite file is now {aside}")


@contextmanager
def _running(settings: NodeSettings, target_url: str, *, tell: Tell) -> Iterator[str]:
    """The target, answering; a managed one runs for the length of the block."""
    if target_url != parsing.MANAGED:
        yield target_url
        return
    server = server_of(settings.data, tell=tell)
    tell("starting PostgreSQL")
    server.create()
    with server:
        yield server.url()


def _make_tables(settings: NodeSettings, url: str) -> None:
    """Empty ones, of this version."""
    export(replace(settings, database_url=url))
    setup_django()
    from django.db import connections  # noqa: PLC0415 - needs `setup_django` first

    database = open_database(url)
    try:
        with migration_lock(database):
            migrate(database)
    finally:
        connections.close_all()
        database.close()


def _refuse_full_disk(data: Path, found: Plan) -> None:
    free, wanted = shutil.disk_usage(data).free, found.size_bytes * _SPACE_FACTOR
    if free < wanted:
        raise NoRoom(f"{data} has {free >> 20} MiB free, and the move takes up to {wanted >> 20} MiB")


def _set_aside(file: Path) -> Path:
    """Keep it under another name, with what SQLite has beside it."""
    stamp = iso8601(SYSTEM.now_ms()).replace(":", "").replace(".", "")
    aside = file.with_name(f"{file.name}.moved-{stamp}")
    for now, then in zip(files_of(file), files_of(aside), strict=True):
        if now.exists():
            now.rename(then)
    return aside
