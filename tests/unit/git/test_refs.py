"""Names of refs."""

import pytest

from mainstay.git.refs import check_pushed_name, check_ref_name


@pytest.mark.parametrize(
    "name",
    [
        b"refs/heads/main",
        b"refs/heads/--output=x",
        b"refs/heads/-h",
        b"refs/heads/$(id)",
        b"refs/heads/a;b|c&d",
        b"refs/heads/<script>",
        b"refs/heads/a'b",
        b"refs/heads/@",
        b"refs/heads/a@b",
        b"refs/heads/a.b",
        b"refs/heads/\xff\xfe",
        "refs/heads/über".encode(),
        b"refs/heads/a.locked",
        b"refs/heads/{a}",
    ],
)
def test_a_legal_name_is_legal_however_odd(name: bytes) -> None:
    assert check_ref_name(name) is None
    assert check_pushed_name(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"", "only one component"),
        (b"@", "only one component"),
        (b"main", "only one component"),
        (b"/", "empty component"),
        (b"/refs/heads/a", "empty component"),
        (b"refs//heads", "empty component"),
        (b"refs/heads/", "empty component"),
        (b"refs/heads/.a", "starts with '.'"),
        (b".refs/heads/a", "starts with '.'"),
        (b"refs/heads/a.lock", "ends with '.lock'"),
        (b"refs/heads.lock/a", "ends with '.lock'"),
        (b"refs/heads/a..b", "holds '..'"),
        (b"refs/../x", "holds '..'"),
        (b"refs/heads/a.", "ends with '.'"),
        (b"refs/heads/a@{1}", "holds '@{'"),
        (b"refs/heads/a b", "holds the byte ' '"),
        (b"refs/heads/a\n", "holds the byte '\\n'"),
        (b"refs/heads/a\0", "holds the byte '\\x00'"),
        (b"refs/heads/a\x7f", "holds the byte '\\x7f'"),
        (b"refs/heads/a\\b", "holds the byte '\\\\'"),
        *((b"refs/heads/a" + sign, "holds the byte") for sign in (b"~", b"^", b":", b"?", b"*", b"[")),
    ],
)
def test_an_illegal_name_has_a_reason(name: bytes, reason: str) -> None:
    assert reason in (check_ref_name(name) or "")
    assert check_pushed_name(name) is not None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"HEAD", "does not start with 'refs/'"),
        (b"refs/x", "only one component"),
        (b"refs/@", "only one component"),
        (b"heads/x", "does not start with 'refs/'"),
        (b"refs/heads/" + b"x" * 251, "a component is longer than 250 bytes"),
        (b"refs/heads" + b"/x" * 2050, "longer than 4096 bytes"),
    ],
)
def test_a_push_may_create_less_than_git_can_name(name: bytes, reason: str) -> None:
    assert reason in (check_pushed_name(name) or "")
