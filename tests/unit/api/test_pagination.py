"""Pages and the headers that lead from one to the next."""

import pytest

from mainstay.doors.api.pagination import (
    Keyset,
    NoKeyset,
    Page,
    keyset_headers,
    keyset_of,
    page_headers,
    page_of,
)
from mainstay.doors.api.parameters import Parameters, WrongParameter

URL = "https://git.example.org/api/v4/projects"


def test_a_page_has_twenty_rows_unless_told_and_never_more_than_a_hundred() -> None:
    assert page_of(Parameters({})) == Page(1, 20)
    assert page_of(Parameters({"page": "3", "per_page": "5"})) == Page(3, 5)
    assert page_of(Parameters({"per_page": "1000"})) == Page(1, 100)
    assert Page(3, 5).offset == 10


@pytest.mark.parametrize("wrong", [{"page": "0"}, {"page": "-1"}, {"page": "x"}, {"per_page": "0"}])
def test_a_page_that_cannot_be_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(WrongParameter, match=f"{next(iter(wrong))} does not have a valid value"):
        page_of(Parameters(wrong))


def test_a_page_too_far_away_is_refused() -> None:
    with pytest.raises(WrongParameter, match="maximum allowed offset"):
        page_of(Parameters({"page": "10000000"}))


def test_the_middle_page_leads_both_ways_and_keeps_the_other_parameters() -> None:
    query = [("page", "2"), ("per_page", "2"), ("search", "a b"), ("topic[]", "x")]
    headers = page_headers(Page(2, 2), 5, url=URL, query=query)
    kept = "search=a+b&topic%5B%5D=x"
    assert headers == {
        "X-Total": "5",
        "X-Total-Pages": "3",
        "X-Page": "2",
        "X-Per-Page": "2",
        "X-Next-Page": "3",
        "X-Prev-Page": "1",
        "Link": ", ".join(
            f'<{URL}?{kept}&page={number}&per_page=2>; rel="{relation}"'
            for number, relation in [(1, "prev"), (3, "next"), (1, "first"), (3, "last")]
        ),
    }


def test_at_the_ends_the_headers_are_empty_and_the_links_absent() -> None:
    only = page_headers(Page(1, 20), 0, url=URL, query=[])
    assert (only["X-Total"], only["X-Total-Pages"]) == ("0", "1")
    assert (only["X-Next-Page"], only["X-Prev-Page"]) == ("", "")
    assert 'rel="next"' not in only["Link"]
    assert 'rel="prev"' not in only["Link"]
    assert 'rel="first"' in only["Link"]


def test_keyset_pages_only_when_asked_for_and_only_by_id() -> None:
    assert keyset_of(Parameters({"order_by": "id"})) is None
    asked = {"pagination": "keyset", "order_by": "id", "sort": "asc", "id_after": "7", "per_page": "2"}
    assert keyset_of(Parameters(asked)) == Keyset(2, descending=False, id_after=7, id_before=None)
    with pytest.raises(NoKeyset):
        keyset_of(Parameters({"pagination": "keyset", "order_by": "name"}))


def test_a_full_keyset_page_leads_to_the_next_and_a_short_one_nowhere() -> None:
    upwards = Keyset(2, descending=False, id_after=7, id_before=None)
    query = [("pagination", "keyset"), ("id_after", "7")]
    assert keyset_headers(upwards, last_id=9, is_full=True, url=URL, query=query) == {
        "Link": f'<{URL}?pagination=keyset&id_after=9>; rel="next"'
    }
    assert keyset_headers(upwards, last_id=9, is_full=False, url=URL, query=query) == {}
    downwards = Keyset(2, descending=True, id_after=None, id_before=None)
    assert "id_before=9" in keyset_headers(downwards, last_id=9, is_full=True, url=URL, query=[])["Link"]
