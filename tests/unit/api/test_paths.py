"""A segment of a path is decoded once, after the path was split."""

import pytest

from mainstay.doors.api.paths import (
    NumberConverter,
    Reference,
    ReferenceConverter,
    SegmentConverter,
    TextConverter,
    decoded,
    reference,
)


def test_an_encoded_slash_belongs_to_the_segment() -> None:
    assert ReferenceConverter().to_python("group%2Fsub%2Fproj.name") == Reference(None, "group/sub/proj.name")
    assert SegmentConverter().to_python("feature%2Fx.y") == "feature/x.y"


def test_digits_are_an_id() -> None:
    assert ReferenceConverter().to_python("42") == Reference(42, None)
    assert reference("42x") == Reference(None, "42x")
    assert reference("9" * 19) == Reference(None, "9" * 19)
    assert reference("٤٢") == Reference(None, "٤٢")
    assert NumberConverter().to_python("42") == 42


def test_a_segment_is_decoded_once_only() -> None:
    assert decoded("a%252Fb") == "a%2Fb"
    assert decoded("%2e%2e%2fetc") == "../etc"


def test_bytes_that_are_not_utf8_survive_in_branch_names_and_not_in_project_names() -> None:
    assert SegmentConverter().to_python("%FF").encode("utf-8", "surrogateescape") == b"\xff"
    for strict in (ReferenceConverter(), TextConverter()):
        with pytest.raises(ValueError, match="UTF-8"):
            strict.to_python("%FF")


def test_a_nul_is_no_path() -> None:
    with pytest.raises(ValueError, match="NUL"):
        decoded("a%00b")
