"""What a client may want, asked of real git."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mainstay.cache.refs import RefListing
from mainstay.git.native.place import GitPlace
from mainstay.git.native.run import Finished, run
from mainstay.git.objectnames import Oid, RefName
from mainstay.repository import wants as room
from mainstay.repository.wants import NotOurRef, Reachable
from mainstay.storage.ledger import Ref, Repository
from support.native_git import annotated_tag, bare_repository, commit, stored

MAIN = RefName(b"refs/heads/main")


@dataclass
class Site:
    """main: first - tip; beside them a commit of a hidden ref on top of `tip`, and its blob."""

    place: GitPlace
    first: Oid
    tip: Oid
    hidden: Oid
    hidden_blob: Oid
    listing: RefListing


@pytest.fixture
def site(tmp_path: Path) -> Site:
    place = bare_repository(tmp_path / "site.git")
    first = commit(place, message="first")
    tip = commit(place, first, message="tip", content=b"seen\n")
    hidden = commit(place, tip, message="hidden", content=b"secret\n")
    tag = annotated_tag(place, first, "v1")
    repository = Repository(1, "uid", 1, "sha1", MAIN, 5, 0, 0, "writable", {})
    refs = (Ref(MAIN, tip), Ref(RefName(b"refs/tags/v1"), tag, first))
    blob = stored(place, "blob", b"secret\n")
    return Site(place, first, tip, hidden, blob, RefListing(repository, refs))


def walks(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The calls of git that list all objects, from now on."""
    seen: list[Sequence[str]] = []

    def watched(place: GitPlace, arguments: Sequence[str], **more: object) -> Finished:
        if "--objects" in arguments:
            seen.append(arguments)
        return run(place, arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "run", watched)
    return seen


def test_a_commit_that_was_a_tip_a_moment_ago_needs_no_walk(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = walks(monkeypatch)
    newer = commit(site.place, site.tip, message="newer")
    listing = RefListing(site.listing.repository, (Ref(MAIN, newer),))
    Reachable(objects_max=1000).check([site.tip, site.first, site.tip], listing, site.place)
    assert not seen


@pytest.mark.parametrize("allowed", [(), ("first",), ("tip", "first")])
def test_what_no_visible_ref_leads_to_is_never_found(site: Site, allowed: Sequence[str]) -> None:
    """Also a blob, which `rev-list` would pass over in silence, and also beside what is allowed."""
    reachable, beside = Reachable(objects_max=1000), [getattr(site, name) for name in allowed]
    for unseen in (site.hidden, site.hidden_blob, Oid("1" * 40)):
        for wants in ([*beside, unseen], [unseen, *beside]):
            with pytest.raises(NotOurRef, match=unseen):
                reachable.check(wants, site.listing, site.place)


def test_a_repository_without_visible_refs_gives_nothing(site: Site) -> None:
    with pytest.raises(NotOurRef):
        Reachable(objects_max=1000).check([site.first], RefListing(site.listing.repository, ()), site.place)


def test_objects_below_a_tip_are_found_and_listed_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = walks(monkeypatch)
    reachable = Reachable(objects_max=1000)
    for _ in range(3):
        reachable.check([stored(site.place, "blob", b"text\n"), site.first], site.listing, site.place)
    assert len(seen) == 1


def test_a_want_that_is_not_there_at_all_costs_no_walk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = walks(monkeypatch)
    with pytest.raises(NotOurRef):
        Reachable(objects_max=1000).check([Oid("1" * 40)], site.listing, site.place)
    assert not seen
