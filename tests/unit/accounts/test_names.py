"""Names of people, groups and projects."""

import pytest

from mainstay.foundation.errors import Invalid
from mainstay.product.accounts.names import BadName, check_description, check_segment, check_text


@pytest.mark.parametrize("name", ["ada", "Ada-Lovelace", "a.b_c", "_x", "1", "a" * 255, "gitfoo", "x.gitx"])
def test_ordinary_names_are_taken(name: str) -> None:
    assert check_segment(name, what="the user name", at_top=True) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-rf",
        ".hidden",
        "..",
        "a..b",
        "ada.",
        "engine.git",
        "engine.GIT",
        "feed.atom",
        "notes.wiki",
        "main.lock",
        "a/b",
        "a\\b",
        "a b",
        "a\0b",
        "a\nb",
        "ada\n",
        "a%2fb",
        "ada@example.org",
        "аda",  # noqa: RUF001 - the first letter is Cyrillic: a look-alike
        "ａda",  # noqa: RUF001 - a full-width letter, which becomes `a` when normalized
        "a" * 256,
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        check_segment(name, what="the user name", at_top=True)


@pytest.mark.parametrize(
    "name", ["admin", "API", "-", "dashboard", "explore", "robots.txt", "users", "status"]
)
def test_words_of_our_own_urls_are_reserved_at_the_top(name: str) -> None:
    with pytest.raises(Invalid):
        check_segment(name, what="the user name", at_top=True)


@pytest.mark.parametrize("name", ["-", "info", "git-upload-pack", "tree", "Blob", "raw"])
def test_words_behind_a_project_are_reserved_below(name: str) -> None:
    with pytest.raises(Invalid):
        check_segment(name, what="the project path", at_top=False)


def test_a_word_is_reserved_only_where_it_would_be_confused() -> None:
    assert check_segment("api", what="the project path", at_top=False) == "api"
    assert check_segment("tree", what="the user name", at_top=True) == "tree"


def test_a_display_name_is_one_line_of_any_language() -> None:
    assert check_text(" Ada Ловлейс 愛 ", what="the name") == "Ada Ловлейс 愛"
    for text in ("", "  ", "a\nb", "a\x1b[31mb", "a\u202eb", "a" * 256):
        with pytest.raises(BadName):
            check_text(text, what="the name")


def test_a_description_has_lines_but_no_escapes() -> None:
    assert check_description("one\n\ttwo") == "one\n\ttwo"
    for text in ("\x1b[2J", "\0", "a" * 2001):
        with pytest.raises(BadName):
            check_description(text)
