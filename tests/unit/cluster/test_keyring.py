"""Master keys: what they wrap, how they are kept, and what is refused."""

import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from mainstay.cluster.keyring import (
    KeyRing,
    MasterKeyMissing,
    MasterKeyUnreadable,
    SecretUnreadable,
    key_file,
    key_id_in,
    key_id_of,
    new_key,
    read_keys,
    write_keys,
)

OLD, NEW = new_key(), new_key()


def test_what_is_wrapped_comes_back_and_does_not_show() -> None:
    ring = KeyRing([NEW])
    wrapped = ring.wrap("rpc/tokens", b"a long secret")
    assert ring.unwrap("rpc/tokens", wrapped) == b"a long secret"
    assert "secret" not in wrapped
    assert ring.wrap("rpc/tokens", b"a long secret") != wrapped, "every time another nonce"


def test_a_secret_cannot_be_passed_off_as_another() -> None:
    ring = KeyRing([NEW])
    wrapped = ring.wrap("ssh_host_key/ssh-rsa", b"key")
    with pytest.raises(SecretUnreadable, match="belongs to another name"):
        ring.unwrap("ssh_host_key/ssh-ed25519", wrapped)


@pytest.mark.parametrize("place", [-1, -10, 25])
def test_a_changed_letter_is_noticed(place: int) -> None:
    ring = KeyRing([NEW])
    wrapped = ring.wrap("name", b"value of some length")
    other = "A" if wrapped[place] != "A" else "B"
    changed = wrapped[:place] + other + (wrapped[place + 1 :] if place != -1 else "")
    with pytest.raises(SecretUnreadable):
        ring.unwrap("name", changed)


def test_an_older_key_still_opens_and_the_newest_wraps() -> None:
    before, after = KeyRing([OLD]), KeyRing([OLD]).headed_by(NEW)
    assert after.unwrap("name", before.wrap("name", b"value")) == b"value"
    assert key_id_in(after.wrap("name", b"value")) == key_id_of(NEW) == after.newest_id
    assert after.ids == (key_id_of(NEW), key_id_of(OLD))
    assert after.headed_by_id(key_id_of(OLD)).newest_id == key_id_of(OLD)


def test_a_key_that_is_not_ours_is_named() -> None:
    with pytest.raises(SecretUnreadable, match=f"wrapped by master key {key_id_of(OLD)}"):
        KeyRing([NEW]).unwrap("name", KeyRing([OLD]).wrap("name", b"value"))


def test_half_a_secret_is_none() -> None:
    ring = KeyRing([NEW])
    for content in ("", "x", "AAAA", "\u00e4"):
        with pytest.raises(SecretUnreadable):
            ring.unwrap("name", f"v1.{ring.newest_id}.{content}")


@pytest.mark.parametrize("text", ["", "v1", "v2.abc.def", "plain text", "v1."])
def test_other_texts_are_no_wrapped_secrets(text: str) -> None:
    with pytest.raises(SecretUnreadable, match="a form this version does not know"):
        KeyRing([NEW]).unwrap("name", text)


def test_keys_do_not_show_in_a_trace() -> None:
    assert repr(KeyRing([NEW])) == f"KeyRing({key_id_of(NEW)})"


def test_the_file_is_the_owners_alone_and_keeps_the_order(tmp_path: Path) -> None:
    write_keys(tmp_path, KeyRing([NEW, OLD]))
    assert read_keys(tmp_path).keys == (NEW, OLD)
    assert key_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert key_file(tmp_path).parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in key_file(tmp_path).parent.iterdir()] == ["master.key"]


def test_a_missing_file_is_told_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyMissing, match=r"master\.key"):
        read_keys(tmp_path)
    key_file(tmp_path).parent.mkdir()
    for content in (b"", b"short\n", urlsafe_b64encode(b"x" * 31), b"\xff\xfe", b"===="):
        key_file(tmp_path).write_bytes(content)
        with pytest.raises(MasterKeyUnreadable, match=r"master\.key"):
            read_keys(tmp_path)


def test_what_an_administrator_writes_can_be_read_by_the_service(tmp_path: Path) -> None:
    """Root gives it to the owner of the data directory; others can only be that owner."""
    owner = 4242 if os.geteuid() == 0 else os.geteuid()
    if os.geteuid() == 0:
        os.chown(tmp_path, owner, owner)
    write_keys(tmp_path, KeyRing([NEW]))
    for place in (key_file(tmp_path).parent, key_file(tmp_path)):
        assert place.stat().st_uid == owner
