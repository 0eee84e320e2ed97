"""Keys and locations of objects: what is taken, what is refused, and nothing in between."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.foundation.errors import Invalid
from mainstay.storage.objects.keys import KEY_LENGTH_MAX, MalformedKey, checked_key, checked_prefix, folder_of
from mainstay.storage.objects.location import (
    BadLocation,
    CloudLocation,
    DirectoryLocation,
    MemoryLocation,
    parse_location,
)
from mainstay.storage.objects.ranges import end_of

SEGMENT = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(st.lists(SEGMENT, min_size=1, max_size=5).map("/".join))
def test_a_well_formed_key_stays_below_any_root(key: str) -> None:
    root = Path("/root/of/store")
    assert (root / checked_key(key)).is_relative_to(root)
    assert Path(key).parts == tuple(key.split("/"))


@given(st.text(max_size=40))
def test_what_is_taken_has_one_reading(key: str) -> None:
    try:
        checked_key(key)
    except MalformedKey:
        return
    assert key.isascii()
    assert all(part and not part.startswith(".") for part in key.split("/"))


def test_the_limits() -> None:
    longest = "/".join(["a" * 255, "b" * 254, "c"])
    assert len(longest) == KEY_LENGTH_MAX
    assert checked_key(longest) == longest
    for key in (longest + "x", "a" * 256):
        with pytest.raises(MalformedKey):
            checked_key(key)


def test_prefixes() -> None:
    for prefix in ("", "a", "a/", "a/b", "a/b/"):
        assert checked_prefix(prefix) == prefix
    for prefix in ("/", "//", "a//", "/a", "../", "a/.."):
        with pytest.raises(MalformedKey):
            checked_prefix(prefix)
    assert [folder_of(prefix) for prefix in ("", "a", "a/", "a/b", "a/b/")] == ["", "", "a", "a", "a/b"]


@given(st.binary(max_size=20), st.integers(0, 30), st.none() | st.integers(0, 30))
def test_ranges_are_slices(content: bytes, start: int, length: int | None) -> None:
    expected = content[start:] if length is None else content[start : start + length]
    assert content[start : end_of(len(content), start=start, length=length)] == expected


class TestLocations:
    def test_directories(self) -> None:
        assert parse_location("data/objects") == DirectoryLocation(Path("data/objects"))
        assert parse_location("/a/b") == DirectoryLocation(Path("/a/b"))
        assert parse_location("file:///a/b%20c") == DirectoryLocation(Path("/a/b c"))

    def test_memory(self) -> None:
        assert parse_location("memory://") == MemoryLocation()

    def test_clouds(self) -> None:
        found = parse_location("s3://bucket/some/prefix?region=eu-central-1")
        assert found == CloudLocation(
            "s3", "bucket", "some/prefix", {"region": "eu-central-1", "checksum_algorithm": "sha256"}
        )
        assert isinstance(found, CloudLocation)
        assert found.shown == "s3://bucket/some/prefix"
        assert parse_location("gs://bucket/") == CloudLocation("gs", "bucket", "")

    def test_a_checksum_can_be_declined(self) -> None:
        assert parse_location("s3://b?checksum_algorithm=none") == CloudLocation("s3", "b", "")

    def test_plain_http_only_where_it_is_written(self) -> None:
        plain = parse_location("s3://b?endpoint=http://127.0.0.1:9000")
        safe = parse_location("s3://b?endpoint=https://s3.example.org")
        assert isinstance(plain, CloudLocation)
        assert isinstance(safe, CloudLocation)
        assert (plain.allow_http, safe.allow_http) == (True, False)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ftp://host/a",
            "file://host/a",
            "file://a",
            "s3://",
            "s3:///prefix",
            "s3://key:secret@bucket",
            "s3://bucket/../other",
            "s3://bucket?secret_access_key=x",
            "s3://bucket?aws_session_token=x",
            "az://bucket?account_key=x",
            "s3://bucket?region",
            "s3://[bucket",
        ],
    )
    def test_what_is_refused(self, text: str) -> None:
        with pytest.raises(Invalid) as refused:
            parse_location(text)
        assert isinstance(refused.value, BadLocation | MalformedKey)
        assert "secret@" not in str(refused.value)
