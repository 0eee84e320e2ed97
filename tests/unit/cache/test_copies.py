"""Copies of repositories on a node: what a full, a refusing and a vanishing cache do to them."""

import errno
import os
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pathlib import Path
from typing import cast

import pytest

from mainstay.cache import copies as room
from mainstay.cache.copies import CacheUnusable, Copies
from mainstay.cache.settings import CacheSettings
from mainstay.foundation.clock import ManualClock
from mainstay.storage.ledger import Ledger, Pack
from mainstay.storage.objects.memory import MemoryStore
from support.ledgers import a_pack

FILE_BYTES = 1000
PACK = b"x" * FILE_BYTES
SIDE_FILE = PACK[20:] + sha1(PACK[20:]).digest()


@dataclass
class Manifests:
    """What copies ask a ledger: one manifest per repository, all at version 1."""

    packs_of: dict[int, list[Pack]] = field(default_factory=dict)

    def repository(self, repository_id: int) -> "Manifests.Named":
        return self.Named(f"uid-{repository_id}")

    def packs(self, repository_id: int) -> tuple[int, int, list[Pack]]:
        return 1, 1, self.packs_of[repository_id]

    @dataclass
    class Named:
        uid: str


@dataclass
class Node:
    """A node whose cache may keep nothing; what is in use stays all the same."""

    directory: Path
    manifests: Manifests
    store: MemoryStore
    copies: Copies

    def add(self, *repository_ids: int) -> Pack:
        """A pack that these repositories share."""
        pack = a_pack(sha256=sha256(PACK).hexdigest(), size_bytes=FILE_BYTES)
        for ending, content in {"pack": PACK, "idx": SIDE_FILE}.items():
            self.store.put_bytes(f"{pack.key}.{ending}", content)
        for repository_id in repository_ids:
            self.manifests.packs_of.setdefault(repository_id, []).append(pack)
        return pack

    def read(self, *repository_ids: int) -> None:
        for repository_id in repository_ids:
            with self.copies.pinned(repository_id):
                pass

    def pack_files(self) -> int:
        return sum(path.suffix in {".pack", ".idx"} for path in self.directory.rglob("*") if path.is_file())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    clock = ManualClock()
    manifests, store = Manifests(), MemoryStore(clock=clock)
    settings = CacheSettings(directory=tmp_path, size_gib_max=0)
    copies = Copies(settings, ledger=cast("Ledger", manifests), objects=store, clock=clock)
    return Node(tmp_path, manifests, store, copies)


def open_pins() -> int:
    links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(link.readlink().name == "pin" for link in links)


def test_a_file_that_no_copy_links_is_evicted_too(node: Node) -> None:
    made = node.directory / "made"
    made.write_bytes(b"x" * FILE_BYTES)
    node.copies.packs.adopt("of-a-push", {"pack": made})
    assert node.copies.evict() == FILE_BYTES
    assert not list(node.copies.packs.directory.iterdir())
    assert node.copies.evict() == 0


def test_a_pack_of_two_repositories_counts_once_and_when_the_last_lets_go(node: Node) -> None:
    node.add(1, 2)
    node.read(1, 2)
    with node.copies.pinned(2) as copy:
        assert node.copies.evict() == 0, "the other copy has the same files"
        assert len(list((copy.objects / "pack").iterdir())) == 2
        node.copies.evict()
        assert len(list((copy.objects / "pack").iterdir())) == 2
    assert node.copies.evict() == 2 * FILE_BYTES
    assert node.pack_files() == 0


def test_a_copy_that_goes_while_eviction_looks_is_no_error(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.add(1)
    node.read(1)
    (pin,) = node.directory.rglob("pin")
    monkeypatch.setattr(Path, "glob", lambda *_: iter([pin, pin.with_name("gone")]))
    assert node.copies.evict() == 2 * FILE_BYTES


def test_a_full_disk_is_said_in_words_and_leaves_no_pin(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.add(1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", full)
        with pytest.raises(CacheUnusable, match="No space left"), node.copies.pinned(1):
            pass
    assert open_pins() == 0
    node.read(1)


@pytest.mark.parametrize("step", ["_make_bare", "_link_packs", "_pack_files"])
def test_a_cache_deleted_at_any_step_is_made_again(
    node: Node, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    node.add(1)
    superseded = node.directory / "copies" / "uid-1" / "0"
    superseded.mkdir(parents=True)
    original, calls = getattr(room, step), []

    def vanish_once(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise FileNotFoundError(errno.ENOENT, "the cache was deleted")
        return original(*arguments)

    monkeypatch.setattr(room, step, vanish_once)
    with node.copies.pinned(1) as copy:
        assert len(list((copy.objects / "pack").iterdir())) == 2
        assert open_pins() == 1
    assert len(calls) > 1
    assert open_pins() == 0
