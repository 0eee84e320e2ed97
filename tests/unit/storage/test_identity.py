"""The marker of a store: written once, read always, and judged before anything else happens."""

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.storage.identity import (
    KEY,
    Marker,
    StoreEmptied,
    WrongStore,
    check_owner,
    read_marker,
    write_marker,
)
from mainstay.storage.objects.memory import MemoryStore

OURS, THEIRS = "01JD6Q9Z4M8W3N5V7X2Y1B0CDE", "01JD6Q9Z4M8W3N5V7X2Y1B0CDF"


def test_a_fresh_store_has_no_marker() -> None:
    assert read_marker(MemoryStore()) is None


def test_a_marker_is_written_once() -> None:
    objects, clock = MemoryStore(), ManualClock()
    first = write_marker(objects, OURS, clock=clock)
    clock.advance(60)
    assert write_marker(objects, OURS, clock=clock) == first
    assert write_marker(objects, THEIRS, clock=clock) == first
    assert read_marker(objects) == first == Marker(OURS, ManualClock().now_ms())


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"instance": "x", "created_ms": 1, "format": 1}'])
def test_an_unreadable_marker_is_not_overlooked(content: bytes) -> None:
    objects = MemoryStore()
    objects.put_bytes(KEY, content)
    with pytest.raises(WrongStore):
        read_marker(objects)


@pytest.mark.parametrize(
    ("found", "is_new", "refusal"),
    [
        (None, True, None),
        (Marker(OURS, 1), False, None),
        (Marker(OURS, 1), True, None),
        (None, False, "is its disk mounted"),
        (Marker(THEIRS, 1), True, "rebuild-db"),
        (Marker(THEIRS, 1), False, f"belongs to instance {THEIRS}"),
    ],
)
def test_whose_store_it_is(found: Marker | None, is_new: bool, refusal: str | None) -> None:
    if refusal is None:
        check_owner(found, OURS, is_new_database=is_new)
        assert found is None or found.instance == OURS
        return
    with pytest.raises((Conflict, Unavailable), match=refusal) as refused:
        check_owner(found, OURS, is_new_database=is_new)
    assert isinstance(refused.value, StoreEmptied if found is None else WrongStore)
