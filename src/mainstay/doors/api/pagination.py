"""Which part of a list is shown, and the headers that lead to the rest.

Numbered pages say everything (`X-Total`, `Link` with first, prev, next, last). Keyset pages say only
where the next one starts, so they cost the same at any depth. Links are absolute and keep all other
parameters of the request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from mainstay.doors.api.parameters import Parameters, WrongParameter
from mainstay.foundation.errors import Invalid

PER_PAGE_DEFAULT = 20
PER_PAGE_MAX = 100
OFFSET_MAX = 50_000_000

QueryPairs = Sequence[tuple[str, str]]


class NoKeyset(Invalid):
    """The list cannot be walked by keyset in the order asked for."""


@dataclass(frozen=True, slots=True)
class Page:
    number: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.per_page

    @property
    def end(self) -> int:
        return self.offset + self.per_page


@dataclass(frozen=True, slots=True)
class Keyset:
    """The next `per_page` rows in order of id, after `id_after` or, downwards, before `id_before`."""

    per_page: int
    descending: bool
    id_after: int | None
    id_before: int | None


def page_of(parameters: Parameters) -> Page:
    number = _positive(parameters, "page", default=1)
    page = Page(number=number, per_page=_per_page(parameters))
    if page.offset > OFFSET_MAX:
        raise WrongParameter(f"Offset pagination has a maximum allowed offset of {OFFSET_MAX}")
    return page


def keyset_of(parameters: Parameters) -> Keyset | None:
    """The keyset asked for, or None when numbered pages are wanted."""
    if parameters.maybe_text("pagination") != "keyset":
        return None
    if (parameters.maybe_text("order_by") or "id") != "id":
        raise NoKeyset("Keyset pagination is not yet available for this type of request")
    return Keyset(
        per_page=_per_page(parameters),
        descending=(parameters.maybe_choice("sort", ("asc", "desc")) or "desc") == "desc",
        id_after=parameters.maybe_integer("id_after"),
        id_before=parameters.maybe_integer("id_before"),
    )


def countless_headers(page: Page, *, has_more: bool, url: str, query: QueryPairs) -> dict[str, str]:
    """The headers of a numbered page of a list too long to be counted."""
    following = page.number + 1 if has_more else None
    previous = page.number - 1 if page.number > 1 else None
    targets = {"prev": previous, "next": following, "first": 1}
    return {
        "X-Page": str(page.number),
        "X-Per-Page": str(page.per_page),
        "X-Next-Page": str(following or ""),
        "X-Prev-Page": str(previous or ""),
        "Link": _links(page, targets, url=url, query=query),
    }


def page_headers(page: Page, total: int, *, url: str, query: QueryPairs) -> dict[str, str]:
    """The headers of a numbered page. `url` is absolute and without query."""
    last = max(1, -(-total // page.per_page))
    following = page.number + 1 if page.number < last else None
    previous = page.number - 1 if 1 < page.number <= last + 1 else None
    targets = {"prev": previous, "next": following, "first": 1, "last": last}
    return {
        "X-Total": str(total),
        "X-Total-Pages": str(last),
        "X-Page": str(page.number),
        "X-Per-Page": str(page.per_page),
        "X-Next-Page": str(following or ""),
        "X-Prev-Page": str(previous or ""),
        "Link": _links(page, targets, url=url, query=query),
    }


def keyset_headers(
    keyset: Keyset, *, last_id: int | None, is_full: bool, url: str, query: QueryPairs
) -> Mapping[str, str]:
    """A link to the next page, if this one was full."""
    if last_id is None or not is_full:
        return {}
    name = "id_before" if keyset.descending else "id_after"
    kept = [(k, v) for k, v in query if k != name]
    return {"Link": _link(url, [*kept, (name, str(last_id))], "next")}


def _links(page: Page, targets: Mapping[str, int | None], *, url: str, query: QueryPairs) -> str:
    kept = [(k, v) for k, v in query if k not in ("page", "per_page")]
    return ", ".join(
        _link(url, [*kept, ("page", str(number)), ("per_page", str(page.per_page))], relation)
        for relation, number in targets.items()
        if number is not None
    )


def _link(url: str, query: QueryPairs, relation: str) -> str:
    return f'<{url}?{urlencode(query)}>; rel="{relation}"'


def _per_page(parameters: Parameters) -> int:
    return min(PER_PAGE_MAX, _positive(parameters, "per_page", default=PER_PAGE_DEFAULT))


def _positive(parameters: Parameters, name: str, *, default: int) -> int:
    value = parameters.maybe_integer(name)
    if value is None:
        return default
    if value < 1:
        raise WrongParameter(f"{name} does not have a valid value")
    return value
