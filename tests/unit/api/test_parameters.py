"""Parameters come from four places and in many spellings, and mean the same."""

from datetime import date
from typing import Any

import pytest

from mainstay.doors.api.parameters import (
    ITEMS_MAX,
    SEARCH_CHARACTERS_MAX,
    Parameters,
    WrongParameter,
    merged,
    nested,
)


@pytest.mark.parametrize(
    ("pairs", "tree"),
    [
        ([("a", "1"), ("a", "2")], {"a": "2"}),
        ([("a[]", "1"), ("a[]", "2")], {"a": ["1", "2"]}),
        ([("not[labels]", "x")], {"not": {"labels": "x"}}),
        ([("a[k][l]", "v"), ("a[k][m]", "w")], {"a": {"k": {"l": "v", "m": "w"}}}),
        ([("a[0][k]", "v"), ("a[1][k]", "w")], {"a": {"0": {"k": "v"}, "1": {"k": "w"}}}),
        ([("a[][k]", "1"), ("a[][l]", "2"), ("a[][k]", "3")], {"a": [{"k": "1", "l": "2"}, {"k": "3"}]}),
        ([("a[b", "1"), ("[c]", "2"), ("a]", "3")], {"a[b": "1", "[c]": "2", "a]": "3"}),
    ],
)
def test_brackets_nest_as_in_rack(pairs: list[tuple[str, str]], tree: dict[str, Any]) -> None:
    assert nested(pairs) == tree


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "1"), ("a[k]", "2")],
        [("a[]", "1"), ("a[k]", "2")],
        [("a" + "[b]" * 9, "1")],
        [("a[]", "1")] * (ITEMS_MAX + 1),
    ],
)
def test_a_tree_that_contradicts_itself_or_is_too_large_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(WrongParameter, match="does not have a valid value"):
        nested(pairs)


def test_path_beats_body_beats_query() -> None:
    assert merged(path={"id": 1}, body={"id": 2, "ref": "b"}, query={"id": 3, "ref": "c", "x": "q"}) == {
        "id": 1,
        "ref": "b",
        "x": "q",
    }


def test_everything_missing_is_named_at_once() -> None:
    with pytest.raises(WrongParameter) as caught:
        Parameters({"path": None}).require("name", "path")
    assert str(caught.value) == "name is missing, path is missing"


@pytest.mark.parametrize(("given", "meant"), [("7", 7), (7, 7), ("", None), (None, None), ("-3", -3)])
def test_integers(given: Any, meant: int | None) -> None:
    assert Parameters({"page": given}).maybe_integer("page") == meant


@pytest.mark.parametrize("given", ["x", " 7", "7.0", 7.5, True, [], {}, "9" * 30, 10**30, "\uff17"])
def test_what_is_no_integer_is_refused_in_gitlabs_words(given: Any) -> None:
    with pytest.raises(WrongParameter) as caught:
        Parameters({"page": given}).maybe_integer("page")
    assert str(caught.value) == "page does not have a valid value"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("true", True), ("1", True), (True, True), ("False", False), (0, False), ("", None), (None, None)],
)
def test_booleans(given: Any, meant: bool | None) -> None:
    assert Parameters({"owned": given}).maybe_boolean("owned") is meant


@pytest.mark.parametrize("given", ["maybe", [], 2])
def test_what_is_no_boolean_is_refused(given: Any) -> None:
    with pytest.raises(WrongParameter, match="owned does not have a valid value"):
        Parameters({"owned": given}).maybe_boolean("owned")


@pytest.mark.parametrize(("given", "meant"), [("a", "a"), (5, "5"), (False, "false"), (None, None), ("", "")])
def test_texts_take_what_a_form_would_have_sent(given: Any, meant: str | None) -> None:
    assert Parameters({"name": given}).maybe_text("name") == meant


@pytest.mark.parametrize("given", ["a\x00b", "\ud800", {"k": "v"}, ["a"], "x" * 1_000_001])
def test_text_that_no_database_stores_is_refused(given: Any) -> None:
    with pytest.raises(WrongParameter):
        Parameters({"name": given}).maybe_text("name")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("a, b,", ["a", "b"]), (["a", 5], ["a", "5"]), ([], []), ("", []), (None, None)],
)
def test_lists_of_texts(given: Any, meant: list[str] | None) -> None:
    assert Parameters({"scopes": given}).texts("scopes") == meant


def test_lists_of_numbers_take_what_lists_of_texts_take() -> None:
    assert Parameters({"user_ids": "1, 2"}).numbers("user_ids") == [1, 2]
    assert Parameters({"user_ids": 7}).numbers("user_ids") == [7]
    assert Parameters({}).numbers("user_ids") is None
    for wrong in ("x", ["1", "9" * 30], [[1]]):
        with pytest.raises(WrongParameter, match="user_ids does not have a valid value"):
            Parameters({"user_ids": wrong}).numbers("user_ids")


def test_a_search_has_a_length_that_databases_can_match() -> None:
    assert Parameters({}).search() == ""
    assert Parameters({"query": "ada"}).search("query") == "ada"
    with pytest.raises(WrongParameter, match="search does not have a valid value"):
        Parameters({"search": "x" * (SEARCH_CHARACTERS_MAX + 1)}).search()


def test_lists_of_objects_come_as_json_or_with_numbered_brackets() -> None:
    in_json = Parameters({"actions": [{"action": "create"}]}).mappings("actions")
    numbered = Parameters(nested([("actions[0][action]", "create")])).mappings("actions")
    assert in_json is not None
    assert numbered is not None
    assert in_json[0].text("action") == numbered[0].text("action") == "create"
    with pytest.raises(WrongParameter):
        Parameters({"actions": ["create"]}).mappings("actions")


def test_a_choice_outside_the_list_is_refused() -> None:
    parameters = Parameters({"sort": "sideways", "order_by": "id"})
    assert parameters.maybe_choice("order_by", ("id", "name")) == "id"
    with pytest.raises(WrongParameter, match="sort does not have a valid value"):
        parameters.maybe_choice("sort", ("asc", "desc"))


def test_dates_and_times() -> None:
    parameters = Parameters({"day": "2026-11-21", "time": "2026-11-21T01:00:00+02:00", "none": ""})
    assert parameters.maybe_date("day") == date(2026, 11, 21)
    assert parameters.maybe_date("time") == date(2026, 11, 20)
    assert parameters.maybe_moment_ms("time") == 1_795_215_600_000
    assert parameters.maybe_date("none") is None
    for wrong in ("soon", "2026-13-01", "0001-01-01T00:00:00+14:00", "2026-11-21T25:00"):
        with pytest.raises(WrongParameter, match="day does not have a valid value"):
            Parameters({"day": wrong}).maybe_moment_ms("day")


def test_null_counts_as_sent() -> None:
    parameters = Parameters({"description": None})
    assert "description" in parameters
    assert "name" not in parameters
    assert parameters.maybe_text("description") is None


def test_at_least_one_of_several() -> None:
    Parameters({"path": "x"}).require_one_of("name", "path")
    with pytest.raises(WrongParameter, match="name, path are missing, at least one"):
        Parameters({"name": ""}).require_one_of("name", "path")
