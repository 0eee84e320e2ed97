"""Versions N and N+1 run side by side: migrations only expand, unless the floor says otherwise.

The rules and the recipe are in docs/develop/schema.md.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
from django.db import migrations, models
from django.db.models import NOT_PROVIDED

from architecture.house import SOURCE
from mainstay.cluster.schema import CURRENT, FLOOR, RELEASES

_ROOMS = {
    "accounts": "mainstay.product.accounts",
    "cluster": "mainstay.cluster",
    "instance": "mainstay.ops.instance",
    "jobs": "mainstay.jobs",
    "ledger": "mainstay.storage.ledger",
    "projects": "mainstay.product.projects",
}

CONTRACTS: dict[tuple[str, str], int] = {}
"""Migrations that take something away, and the floor from which on nobody uses it any more."""


def migrations_of(room: str) -> dict[str, ModuleType]:
    """By name, in order."""
    package = importlib.import_module(f"{_ROOMS[room]}.migrations")
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
    return {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}


def narrowing(operation: object) -> str | None:
    """Why a program of the release before could not live with this; None when it can."""
    if isinstance(operation, migrations.CreateModel | migrations.AddIndex):
        return None
    if isinstance(operation, migrations.AlterModelOptions | migrations.AlterModelManagers):
        return None
    if isinstance(operation, migrations.AddField):
        return _narrowing_field(operation)
    if isinstance(operation, migrations.SeparateDatabaseAndState):
        return next(filter(None, map(narrowing, operation.database_operations)), None)
    if isinstance(operation, migrations.RunPython | migrations.RunSQL):
        return (
            None
            if getattr(operation, "hints", {}).get("expands")
            else f"{_kind(operation)} must say hints={{'expands': True}}"
        )
    return f"{_kind(operation)} takes away or narrows"


def _narrowing_field(operation: migrations.AddField) -> str | None:
    """An INSERT of the older program does not name the column: the database must know what to put there."""
    field = operation.field
    fills_itself = (
        field.null or field.db_default is not NOT_PROVIDED or isinstance(field, models.ManyToManyField)
    )
    if not fills_itself:
        return f"{operation.name}: a new column may be empty or has a db_default"
    return (
        f"{operation.name}: a unique column refuses what the older program writes" if field.unique else None
    )


def _kind(operation: object) -> str:
    return type(operation).__name__


def later_operations() -> Iterator[tuple[str, str, object]]:
    for room in _ROOMS:
        for name, module in migrations_of(room).items():
            if not module.Migration.initial:
                for operation in module.Migration.operations:
                    yield room, name, operation


def test_every_room_with_migrations_is_watched() -> None:
    found = {
        str(path.parent.relative_to(SOURCE.parent)).replace("/", ".")
        for path in SOURCE.rglob("migrations/__init__.py")
    }
    assert found == {f"{room}.migrations" for room in _ROOMS.values()}


def test_migrations_only_expand_unless_the_floor_is_raised() -> None:
    narrow = [
        f"{room} {name}: {why}"
        for room, name, operation in later_operations()
        if (why := narrowing(operation)) and CONTRACTS.get((room, name), CURRENT + 1) > FLOOR
    ]
    assert narrow == []


def test_the_newest_release_names_the_last_migrations() -> None:
    """A new migration belongs to the release that is not out yet: say so in `cluster.schema.RELEASES`."""
    last = {room: list(migrations_of(room))[-1] for room in _ROOMS}
    assert RELEASES[CURRENT] == last


def test_a_release_takes_nothing_back() -> None:
    for release in range(2, CURRENT + 1):
        before, after = RELEASES[release - 1], RELEASES[release]
        assert all(after[room] >= name for room, name in before.items())


FIELD = models.IntegerField()
EXPANDING = [
    migrations.AddField("node", "x", models.IntegerField(null=True)),
    migrations.AddField("node", "x", models.IntegerField(db_default=0)),
    migrations.AddIndex("node", models.Index(fields=["name"], name="x")),
    migrations.CreateModel("thing", [("id", models.AutoField(primary_key=True))]),
    migrations.RunSQL("UPDATE x SET y = 1", hints={"expands": True}),
    migrations.SeparateDatabaseAndState(database_operations=[], state_operations=[]),
]
NARROWING = [
    migrations.AddField("node", "x", FIELD),
    migrations.AddField("node", "x", models.IntegerField(default=0)),
    migrations.AddField("node", "x", models.IntegerField(null=True, unique=True)),
    migrations.RemoveField("node", "x"),
    migrations.RenameField("node", "x", "y"),
    migrations.AlterField("node", "x", FIELD),
    migrations.DeleteModel("node"),
    migrations.RenameModel("node", "machine"),
    migrations.AlterModelTable("node", "machine"),
    migrations.RemoveIndex("node", "x"),
    migrations.AddConstraint("node", models.UniqueConstraint(fields=["x"], name="x")),
    migrations.RunSQL("DROP TABLE x"),
    migrations.SeparateDatabaseAndState(database_operations=[migrations.RemoveField("node", "x")]),
]


@pytest.mark.parametrize("operation", EXPANDING, ids=_kind)
def test_what_expands_passes(operation: object) -> None:
    assert narrowing(operation) is None


@pytest.mark.parametrize("operation", NARROWING, ids=_kind)
def test_what_narrows_is_found(operation: object) -> None:
    assert narrowing(operation)
