"""A replica's store: what is missing comes from the primary, once, whole, or with a clear word."""

from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from mainstay.foundation.errors import Unavailable
from mainstay.storage.feed.pulled import PulledStore
from mainstay.storage.objects import NoSuchObject
from mainstay.storage.objects.memory import MemoryStore


class Primary:
    """Counts what is asked for; `gate` holds downloads back."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = objects
        self.downloads: list[str] = []
        self.away = False
        self.gate = Event()
        self.gate.set()

    def download(self, key: str, target: Path) -> None:
        self.downloads.append(key)
        assert self.gate.wait(30)
        if self.away:
            target.write_bytes(b"hal")
            raise Unavailable("the primary does not answer")
        if key not in self.objects:
            raise NoSuchObject(key)
        target.write_bytes(self.objects[key])


@pytest.fixture
def primary() -> Primary:
    return Primary(a=b"one", b=b"two")


@pytest.fixture
def inner() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(primary: Primary, inner: MemoryStore, tmp_path: Path) -> PulledStore:
    return PulledStore(inner, tmp_path, lambda: primary)


def test_what_is_missing_comes_and_stays(
    store: PulledStore, primary: Primary, inner: MemoryStore, tmp_path: Path
) -> None:
    assert store.get_bytes("a", start=1) == b"ne"
    store.fetch("b", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"two"
    assert store.get_bytes("a") == b"one"
    assert primary.downloads == ["a", "b"]
    assert inner.get_bytes("a") == b"one"
    assert [file.name for file in tmp_path.iterdir()] == ["b"]


def test_what_nobody_has_is_not_found(store: PulledStore, tmp_path: Path) -> None:
    with pytest.raises(NoSuchObject):
        store.get_bytes("c")
    with pytest.raises(NoSuchObject):
        store.fetch("c", tmp_path / "c")


def test_a_primary_that_is_away_is_said_and_leaves_nothing(
    store: PulledStore, primary: Primary, inner: MemoryStore, tmp_path: Path
) -> None:
    primary.away = True
    with pytest.raises(Unavailable, match="does not answer"):
        store.get_bytes("a")
    assert not list(tmp_path.iterdir())
    assert inner.size_bytes("a") is None
    primary.away = False
    assert store.get_bytes("a") == b"one"


def test_a_primary_asks_nobody(inner: MemoryStore, tmp_path: Path) -> None:
    store = PulledStore(inner, tmp_path, lambda: None)
    with pytest.raises(NoSuchObject):
        store.get_bytes("a")
    store.put_bytes("a", b"mine")
    assert store.get_bytes("a") == b"mine"


def test_many_who_ask_at_once_cost_one_download(store: PulledStore, primary: Primary) -> None:
    primary.gate.clear()
    together = Barrier(5)
    answers: list[bytes] = []

    def ask() -> None:
        together.wait(30)
        answers.append(store.get_bytes("a"))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    together.wait(30)
    primary.gate.set()
    for thread in threads:
        thread.join(30)
    assert answers == [b"one"] * 4
    assert primary.downloads == ["a"]
