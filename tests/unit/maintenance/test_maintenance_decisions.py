"""Who may what while there is maintenance: the tables, row by row."""

from dataclasses import replace
from itertools import product

import pytest

from mainstay.doors.api.urls import ROUTES
from mainstay.ops.maintenance.decisions import (
    API_SENTENCE,
    CLOSED_SENTENCE,
    OVERDUE_SENTENCE,
    PUSH_SENTENCE,
    Admit,
    Deed,
    Refuse,
    Wait,
    decide,
)
from mainstay.ops.maintenance.routes import deed_of_git, deed_of_request, never_closed
from mainstay.ops.maintenance.state import (
    OPEN,
    BadException,
    BadMessage,
    Maintenance,
    Mode,
    as_text,
    banner_of,
    checked_exceptions,
    checked_message,
    from_text,
)

NOW_MS = 1_700_000_000_000
READ_ONLY = Maintenance(mode=Mode.READ_ONLY, starts_ms=NOW_MS - 1)
FULL = replace(READ_ONLY, mode=Mode.FULL)
HELD = Maintenance(hold_until_ms=NOW_MS + 20_000)
OVERDUE = Maintenance(hold_until_ms=NOW_MS)
STRANGER, EXCEPTED = "203.0.113.9", "10.1.2.3"

ADMITTED = {
    "off": (OPEN, set(Deed)),
    "read-only": (READ_ONLY, {Deed.LOOK, Deed.FETCH, Deed.SIGN_IN, Deed.SWITCH}),
    "full": (FULL, {Deed.SWITCH}),
    "hold": (HELD, {Deed.LOOK, Deed.FETCH, Deed.SWITCH}),
    "overdue": (OVERDUE, {Deed.LOOK, Deed.FETCH, Deed.SWITCH}),
}


@pytest.mark.parametrize(("name", "deed"), list(product(ADMITTED, Deed)))
def test_the_table(name: str, deed: Deed) -> None:
    state, admitted = ADMITTED[name]
    outcome = decide(state, deed, address=STRANGER, now_ms=NOW_MS)
    if deed in admitted:
        assert isinstance(outcome, Admit)
    else:
        assert isinstance(outcome, Wait if name == "hold" else Refuse)


@pytest.mark.parametrize(
    ("state", "deed", "sentence", "retry_after_s"),
    [
        (READ_ONLY, Deed.PUSH, PUSH_SENTENCE, 60),
        (READ_ONLY, Deed.WRITE, API_SENTENCE, 60),
        (FULL, Deed.PUSH, CLOSED_SENTENCE, 60),
        (FULL, Deed.FETCH, CLOSED_SENTENCE, 60),
        (FULL, Deed.LOOK, API_SENTENCE, 60),
        (OVERDUE, Deed.PUSH, OVERDUE_SENTENCE, 5),
        (OVERDUE, Deed.WRITE, API_SENTENCE, 5),
    ],
)
def test_everybody_is_told_in_words_they_know(
    state: Maintenance, deed: Deed, sentence: str, retry_after_s: int
) -> None:
    outcome = decide(state, deed, address=STRANGER, now_ms=NOW_MS)
    assert isinstance(outcome, Refuse)
    assert (outcome.sentence, outcome.retry_after_s) == (sentence, retry_after_s)


def test_the_sentences_are_those_that_clients_know() -> None:
    assert API_SENTENCE == "GitLab Maintenance: system is in maintenance mode"
    assert PUSH_SENTENCE == (
        "Git push is not allowed because this Mainstay instance is currently in (read-only) maintenance mode."
    )
    assert "temporarily unavailable" in CLOSED_SENTENCE


@pytest.mark.parametrize("mode", [READ_ONLY, FULL])
@pytest.mark.parametrize("address", [EXCEPTED, "::ffff:10.1.2.3", "2001:db8::7"])
def test_an_excepted_address_meets_no_maintenance(mode: Maintenance, address: str) -> None:
    state = replace(mode, allow=("10.1.0.0/16", "2001:db8::/64"))
    for deed in Deed:
        assert isinstance(decide(state, deed, address=address, now_ms=NOW_MS), Admit)
        nobody = decide(state, deed, address="10.2.0.1", now_ms=NOW_MS)
        assert nobody == decide(mode, deed, address=STRANGER, now_ms=NOW_MS) or isinstance(nobody, Admit)
    assert isinstance(decide(state, Deed.PUSH, address="not an address", now_ms=NOW_MS), Refuse)


def test_a_hold_has_no_exceptions_and_the_mode_comes_first() -> None:
    both = replace(READ_ONLY, allow=("10.0.0.0/8",), hold_until_ms=NOW_MS + 1)
    assert isinstance(decide(both, Deed.PUSH, address=EXCEPTED, now_ms=NOW_MS), Wait)
    assert isinstance(decide(both, Deed.PUSH, address=STRANGER, now_ms=NOW_MS), Refuse)
    assert isinstance(decide(both, Deed.FETCH, address=STRANGER, now_ms=NOW_MS), Admit)


def test_a_scheduled_mode_is_told_before_and_begins_on_time() -> None:
    state = replace(FULL, starts_ms=NOW_MS + 1, message="new disks")
    assert isinstance(decide(state, Deed.PUSH, address=STRANGER, now_ms=NOW_MS), Admit)
    assert isinstance(decide(state, Deed.PUSH, address=STRANGER, now_ms=NOW_MS + 1), Refuse)
    told = {"state": "scheduled", "mode": "full", "message": "new disks"}
    assert banner_of(state, NOW_MS) == {**told, "starts_at": "2023-11-14T22:13:20.001Z"}
    began = banner_of(state, NOW_MS + 1)
    assert began is not None
    assert began["state"] == "on"
    assert banner_of(HELD, NOW_MS) is None
    assert (state.is_quiet_at(NOW_MS), state.is_quiet_at(NOW_MS + 1), HELD.is_quiet_at(NOW_MS)) == (
        False,
        True,
        True,
    )


ALLOWED = [
    ("PUT", b"/api/v4/application/settings", Deed.SWITCH),
    ("POST", b"/api/v4/application/settings", Deed.SWITCH),
    ("GET", b"/api/v4/application/settings", Deed.SWITCH),
    ("GET", b"/api/v4/maintenance", Deed.SWITCH),
    ("PATCH", b"/admin/application_settings/general", Deed.SWITCH),
    ("GET", b"/-/assets/mainstay-0123456789abcdef.css", Deed.SWITCH),
    ("POST", b"/users/sign_in", Deed.SIGN_IN),
    ("POST", b"/users/sign_out", Deed.SIGN_IN),
    ("DELETE", b"/users/sign_out", Deed.SIGN_IN),
    ("POST", b"/oauth/token", Deed.SIGN_IN),
    ("POST", b"/admin/session", Deed.SIGN_IN),
    ("POST", b"/admin/session/destroy", Deed.SIGN_IN),
    ("POST", b"/ada/engine/-/compare", Deed.SIGN_IN),
    ("POST", b"/api/v4/internal/allowed", Deed.SIGN_IN),
    ("DELETE", b"/admin/sidekiq/queues/a", Deed.SIGN_IN),
    ("POST", b"/admin/geo/sites", Deed.SIGN_IN),
    ("POST", b"/api/v4/geo_replication/x", Deed.SIGN_IN),
]
CLOSED = [
    ("POST", b"/"),
    ("POST", b"/api/v4/projects"),
    ("POST", b"/api/graphql"),
    ("POST", b"/api/v4/projects/1/git-upload-pack"),
    ("POST", b"/ada/engine/-/git-upload-pack"),
    ("POST", b"/ada/engine.git/info/lfs/objects/batch"),
    ("DELETE", b"/api/v4/application/settings"),
    ("PUT", b"/api/v4/application/settings/x"),
    ("PUT", b"/API/v4/application/settings"),
    ("PUT", b"/api/v4/application%2Fsettings"),
    ("PUT", b"/api/v4/../v4/application/settings"),
    ("PUT", b"/api/v4/application/settings\n"),
    ("POST", b"/api/v4/internal"),
    ("POST", b"/x/users/sign_in"),
    ("POST", b"/oauth/token/../../api/v4/projects"),
    ("TRACE", b"/"),
    ("get", b"/"),
    ("", b"/"),
]


@pytest.mark.parametrize(("method", "path", "deed"), ALLOWED)
def test_what_gitlab_allows_is_allowed(method: str, path: bytes, deed: Deed) -> None:
    assert deed_of_request(method, path, b"") is deed
    assert deed_of_request(method, path + b"/", b"a=b") is deed


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_no_row_knows_is_a_write(method: str, path: bytes) -> None:
    assert deed_of_request(method, path, b"") is Deed.WRITE


def test_every_route_of_the_api_is_a_look_or_a_write_but_the_switch() -> None:
    assert len(ROUTES) > 40
    for route in ROUTES:
        path = b"/api/v4/" + route.encode()
        deeds = {method: deed_of_request(method, path, b"") for method in ("GET", "HEAD", "OPTIONS")}
        writes = {method: deed_of_request(method, path, b"") for method in ("POST", "PUT", "PATCH", "DELETE")}
        if route in {"application/settings", "maintenance"}:
            assert (deeds["GET"], writes["PUT"]) == (Deed.SWITCH, Deed.SWITCH)
            continue
        assert set(deeds.values()) == {Deed.LOOK}, route
        assert set(writes.values()) == {Deed.WRITE}, route


@pytest.mark.parametrize(
    ("path", "query", "deed"),
    [
        (b"/a/b.git/info/refs", b"service=git-upload-pack", Deed.FETCH),
        (b"/a/b.git/info/refs", b"", Deed.FETCH),
        (b"/a/b.git/git-upload-pack", b"", Deed.FETCH),
        (b"/a/b.git/info/refs", b"service=git-receive-pack", Deed.PUSH),
        (b"/a/b.git/info/refs", b"service=git%2Dreceive-pack", Deed.PUSH),
        (b"/a/b.git/info/refs", b"service=git-upload-pack&service=git-receive-pack", Deed.PUSH),
        (b"/a/b.git/git-receive-pack", b"service=git-upload-pack", Deed.PUSH),
    ],
)
def test_git_addresses(path: bytes, query: bytes, deed: Deed) -> None:
    assert deed_of_git("POST", path, query) is deed


def test_doors_for_machines_stay_open() -> None:
    assert never_closed("POST", b"/-/join", b"") is Deed.SWITCH


def test_the_decree_is_kept_whole_and_what_a_newer_version_added_is_left_out() -> None:
    state = replace(FULL, allow=("10.0.0.0/8",), message="née à 10 h", by="ada", hold_until_ms=5)
    assert from_text(as_text(state)) == state
    assert from_text(None) == OPEN
    assert from_text(as_text(state)[:-1] + ', "colour": "red"}') == state


def test_exceptions_and_messages_are_read_strictly() -> None:
    assert checked_exceptions(["10.1.2.3", " 10.0.0.0/8 ", "10.1.2.3/32", "::1"]) == (
        "10.1.2.3/32",
        "10.0.0.0/8",
        "::1/128",
    )
    for wrong in ("10.1.2.3/8", "everybody", "", "10.0.0.0/33"):
        with pytest.raises(BadException):
            checked_exceptions([wrong])
    with pytest.raises(BadException, match="more than 100"):
        checked_exceptions([f"10.0.0.{number}" for number in range(101)])
    assert checked_message("  back at ten  ") == "back at ten"
    for wrong in ("a\nb", "\x1b[31mred", "x" * 501):
        with pytest.raises(BadMessage):
            checked_message(wrong)
