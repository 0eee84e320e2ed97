"""Pages, with what strangers put into them."""

import json
import re

from mainstay.doors.web.headers import SAFETY
from mainstay.doors.web.pages import (
    STYLE,
    STYLE_PATH,
    error_answer,
    error_page,
    front_page,
    go_import_page,
)


def test_the_front_page_says_how_to_push() -> None:
    shown = front_page(http_url="http://h:1", ssh_url="ssh://git@h:2").decode()
    said = re.sub("<[^>]+>", "", shown)
    assert "git remote add origin http://h:1/YOUR-NAME/PROJECT.git" in said
    assert "ssh://git@h:2/YOUR-NAME/PROJECT.git" in said
    assert "width=device-width" in shown


def test_no_page_has_a_style_or_a_script_of_its_own() -> None:
    """So that the policy can forbid them, whoever manages to put one in."""
    for shown in (front_page(http_url="http://h", ssh_url="ssh://git@h"), error_page(404)):
        assert not re.search(rb"<style|<script|style=|onclick", shown)
        assert f'href="{STYLE_PATH}"'.encode() in shown
    assert "unsafe" not in SAFETY["Content-Security-Policy"]
    assert b"url(" not in STYLE


def test_go_get_reads_where_the_repository_is() -> None:
    shown = go_import_page(host="h:1", path="ada/engine", http_url="http://h:1").decode()
    assert '<meta name="go-import" content="h:1/ada/engine git http://h:1/ada/engine.git">' in shown


def test_a_path_cannot_break_out_of_the_page() -> None:
    shown = go_import_page(host="h", path='a/"><script>', http_url="http://h").decode()
    assert "<script>" not in shown


def test_browsers_get_a_page_and_programs_get_json() -> None:
    body, content_type = error_answer("/x", b"text/html,*/*", 502)
    assert content_type.startswith("text/html")
    assert b"starting again" in body
    for path, accept in (("/x", b"*/*"), ("/api/v4/x", b"text/html"), ("/x", b"")):
        body, content_type = error_answer(path, accept, 404)
        assert (json.loads(body), content_type) == ({"message": "404 Not Found"}, "application/json")
