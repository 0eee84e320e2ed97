"""Damage on a node's disk: nobody is served a wrong object or told a lie, and the cache heals by itself.

As disks and power cuts do it: bits flip, files are cut short, files keep their names and lose their bytes.
"""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.cache import mending
from mainstay.cache.scrub import Scrub
from mainstay.foundation.errors import Unavailable
from mainstay.git.objectnames import ZERO_OID
from mainstay.git.protocol.pktline import DELIM, FLUSH, encode
from mainstay.storage.objects.memory import MemoryStore
from support.databases import migrated_sqlite
from support.desk import Desk, a_commit, opened_desk
from support.raw_push import commit, push_request, tree

SIDE = "refs/heads/side"
TRIALS = 40
SIZE_BYTES = 100_000


@pytest.fixture
def desk(sqlite_template: Path, tmp_path: Path) -> Iterator[Desk]:
    database = migrated_sqlite(sqlite_template, ":memory:")
    with opened_desk(database, tmp_path / "desk", size_bytes=SIZE_BYTES) as desk:
        fetch_all(desk)
        yield desk
    database.close()


def fetch_all(desk: Desk) -> bytes:
    """What somebody who clones hears."""
    wants = encode(f"want {desk.tip}\n".encode())
    return desk.fetch(encode(b"command=fetch\n") + DELIM + wants + encode(b"done\n") + FLUSH)


def is_right(heard: bytes, place: Path) -> bool:
    """Whether a client's git takes it: every object is unpacked and hashed."""
    pack, rest = b"", heard
    while len(rest) > 4:
        length = max(4, int(rest[:4], 16))
        if rest[4:5] == b"\x01":
            pack += rest[5:length]
        rest = rest[length:]
    subprocess.run(["git", "init", "--quiet", "--bare", str(place)], check=True)
    arguments = ["git", "-C", str(place), "index-pack", "--stdin", "--strict"]
    return subprocess.run(arguments, input=pack, capture_output=True, check=False).returncode == 0


def files(desk: Desk, ending: str) -> list[Path]:
    """Those of the copy, which share their bytes with the node's store of packs."""
    return sorted((desk.directory / "cache" / "copies").rglob(f"*.{ending}"))


def damage(path: Path, how: str, *, at: int | None = None) -> None:
    """In place, so that every hard link has it."""
    content = bytearray(path.read_bytes())
    with path.open("r+b") as stream:
        path.chmod(0o600)
        if how == "emptied":
            stream.truncate(0)
        elif how == "cut short":
            stream.truncate(len(content) // 2)
        else:
            where = len(content) // 2 if at is None else at
            stream.seek(where)
            stream.write(bytes([content[where] ^ 1]))


def borrowing_push(desk: Desk) -> bytes:
    """A commit upon what is there."""
    top = tree({"more": a_commit(b"more")[0], "sub": a_commit(b"more")[1]})
    made = commit(top, desk.tip, "More.")
    return push_request([(SIDE, ZERO_OID, made.oid)], [*a_commit(b"more")[:2], top, made])


@pytest.mark.parametrize("ending", ["pack", "idx"])
@pytest.mark.parametrize("how", ["emptied", "cut short", "flipped"])
def test_a_fetch_gets_it_right_at_the_second_try_at_the_latest(
    desk: Desk, tmp_path: Path, ending: str, how: str
) -> None:
    whole = files(desk, ending)[0].read_bytes()
    damage(files(desk, ending)[0], how)
    try:
        heard = fetch_all(desk)
    except Unavailable:
        heard = b""
    if not is_right(heard, tmp_path / "first"):
        assert is_right(fetch_all(desk), tmp_path / "second")
    assert files(desk, ending)[0].read_bytes() == whole


@pytest.mark.parametrize("ending", ["pack", "idx"])
@pytest.mark.parametrize("how", ["emptied", "cut short", "flipped"])
def test_a_pusher_is_not_blamed_and_gets_through_at_the_second_try_at_the_latest(
    desk: Desk, ending: str, how: str
) -> None:
    damage(files(desk, ending)[0], how)
    said = desk.push(borrowing_push(desk))
    if f"ok {SIDE}".encode() not in said:
        assert b"copy of the repository was damaged and has been replaced: try again; nothing changed" in said
        assert b"unpacker error" not in said
        assert b"missing necessary" not in said
        assert f"ok {SIDE}".encode() in desk.push(borrowing_push(desk))


def test_random_bits_never_become_a_wrong_object(desk: Desk, tmp_path: Path) -> None:
    chance = random.Random(24)
    whole = {ending: files(desk, ending)[0].read_bytes() for ending in ("pack", "idx")}
    for trial in range(TRIALS):
        ending = chance.choice(["pack", "pack", "pack", "idx"])
        damage(files(desk, ending)[0], "flipped", at=chance.randrange(len(whole[ending])))
        for attempt in ("first", "second"):
            try:
                heard = fetch_all(desk)
            except Unavailable:
                continue
            if is_right(heard, tmp_path / f"{attempt}-{trial}"):
                break
        else:
            pytest.fail(f"trial {trial}: a damaged {ending} was not mended")
        desk.look_through()  # a bit that nobody reads waits for the scrub
        assert files(desk, ending)[0].read_bytes() == whole[ending]


def test_bad_packs_do_not_make_us_read_all_again_and_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    mend = mending.Mender.mend
    monkeypatch.setattr(mending.Mender, "mend", lambda *given: (looks.append(given), mend(*given))[1])
    bad = borrowing_push(desk)[:-30] + b"x" * 30
    for _ in range(5):
        assert b"unpacker error" in desk.push(bad)
    assert len(looks) == 1


def test_nothing_bad_is_kept_while_the_object_store_is_away(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(files(desk, "pack")[0], "cut short")

    def away(*_: object) -> None:
        raise Unavailable("the object store is away")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryStore, "fetch", away)
        for _ in range(3):
            with pytest.raises(Unavailable, match="store is away"):
                fetch_all(desk)
        assert b"the object store is away; nothing changed" in desk.push(borrowing_push(desk))
    assert is_right(fetch_all(desk), tmp_path / "client")


@pytest.mark.parametrize("lost", ["damaged", "missing"])
def test_what_the_object_store_has_lost_is_named_and_nothing_is_deleted(desk: Desk, lost: str) -> None:
    (key,) = [each.key for each in desk.objects.list("repositories/") if each.key.endswith(".pack")]
    content = desk.objects.get_bytes(key)
    desk.objects.delete(key)
    if lost == "damaged":
        desk.objects.put_bytes(key, content[:-30] + b"x" * 30)
    desk.forget_cache()
    for _ in range(2):
        with pytest.raises(
            Unavailable, match=rf"{key}.* (in|not in) the (object )?store: run `mainstay fsck`"
        ):
            fetch_all(desk)
        said = desk.push(borrowing_push(desk))
        assert b"run `mainstay fsck`; nothing changed" in said
    left = [each.key for each in desk.objects.list("repositories/") if each.key.startswith(key[:-5])]
    assert len(left) == (2 if lost == "damaged" else 1)


@pytest.mark.parametrize("ending", ["bitmap", "rev", "graph"])
@pytest.mark.parametrize("how", ["emptied", "cut short", "flipped"])
def test_damaged_side_files_of_a_base_pack_are_replaced(
    desk: Desk, tmp_path: Path, ending: str, how: str
) -> None:
    desk.rebase()
    fetch_all(desk)
    name = "commit-graph" if ending == "graph" else f"*.{ending}"
    (path,) = (desk.directory / "cache" / "copies").rglob(name)
    whole = path.read_bytes()
    damage(path, how)
    if not is_right(fetch_all(desk), tmp_path / "first"):
        assert is_right(fetch_all(desk), tmp_path / "second")
    desk.look_through()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("ending", ["bitmap", "rev"])
def test_a_side_file_that_the_object_store_has_lost_is_done_without(
    desk: Desk, tmp_path: Path, ending: str
) -> None:
    desk.rebase()
    (key,) = [each.key for each in desk.objects.list("repositories/") if each.key.endswith(f".{ending}")]
    desk.objects.delete(key)
    desk.forget_cache()
    assert is_right(fetch_all(desk), tmp_path / "client")


def test_the_scrub_mends_what_nobody_reads_and_reads_no_more_than_its_share(desk: Desk) -> None:
    (path,) = files(desk, "pack")
    whole = path.read_bytes()
    damage(path, "flipped")
    scrub = Scrub(
        desk.directory / "cache",
        ledger=desk.ledger,
        mender=desk.service.copies.mender,
        bytes_per_round=len(whole) // 4,
    )
    assert [scrub.go_on() for _ in range(2)] == [1, 0]
    assert path.read_bytes() == whole
    damage(path, "flipped")
    rounds = [scrub.go_on() for _ in range(4)]
    assert sum(rounds) == 1
    assert rounds[0] == 0, "a copy larger than a round's share is paid for by the next rounds"
    assert path.read_bytes() == whole


def test_the_scrub_says_what_it_cannot_mend_and_goes_on(desk: Desk) -> None:
    damage(files(desk, "pack")[0], "flipped")
    for each in list(desk.objects.list("repositories/")):
        desk.objects.delete(each.key)
    scrub = Scrub(desk.directory / "cache", ledger=desk.ledger, mender=desk.service.copies.mender)
    assert scrub.go_on() == 1
    assert scrub.go_on() == 0, "what was damaged is gone"
