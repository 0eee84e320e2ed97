"""Where a new replica looks for its primary, and where it listens itself, when nobody says so."""

from pathlib import Path

import pytest

from mainstay.boot.joining import NotAnAddress
from mainstay.boot.replica import primary_at, reachable


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("https://paris", "https://paris:7443"),
        ("https://paris/", "https://paris:7443/"),
        ("https://paris:443", "https://paris:443"),
        ("https://[::1]", "https://[::1]:7443"),
        ("https://paris:9000", "https://paris:9000"),
    ],
)
def test_the_usual_port_is_meant_where_none_is_said(said: str, meant: str) -> None:
    assert primary_at(said) == meant


@pytest.mark.parametrize("said", ["paris", "https://paris:99999", "https://paris:port", "https://[::1"])
def test_what_is_no_address_is_refused(said: str) -> None:
    with pytest.raises(NotAnAddress):
        primary_at(said)


def test_it_listens_where_it_was_told_now_or_before_and_else_at_the_usual_port(tmp_path: Path) -> None:
    assert reachable(tmp_path, {}) == {"sites": "0.0.0.0:7443"}
    (tmp_path / "mainstay.toml").write_text('sites = "10.0.0.1:9443"\n')
    assert reachable(tmp_path, {"http": "127.0.0.1:80"}) == {"sites": "10.0.0.1:9443", "http": "127.0.0.1:80"}
    assert reachable(tmp_path, {"sites": "10.0.0.2:1"}) == {"sites": "10.0.0.2:1"}
