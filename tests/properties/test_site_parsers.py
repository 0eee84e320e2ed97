"""What other sites say is read strictly: it means one thing, or it is refused as a whole."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.boot.http_protocol import shown_in
from mainstay.cluster.sites.admission import said_by, site_asked
from mainstay.cluster.sites.identity import server_name_of, site_id_in
from mainstay.cluster.sites.positions import Acknowledged, NotAnAcknowledgement, acknowledged_from
from mainstay.cluster.sites.registry import NotASite, Site, checked
from mainstay.doors.sites.objects import BadRange, stretch_of
from mainstay.foundation.ids import new_ulid
from mainstay.storage.feed.log import Entry, entry_in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["id", "name", "kind", "mode", "delay_s", "patterns", "sites_address", "database_address", "url"]


@given(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_a_site_is_whole_or_refused(said: object) -> None:
    with suppress(NotASite):
        site = site_asked(said)
        assert checked(site) == site
        assert site_asked(said_by(site)) == site


@given(st.data())
def test_a_good_site_with_one_other_fact_is_no_crash(data: st.DataObject) -> None:
    good = said_by(Site(id=new_ulid(), name="paris"))
    assert site_asked(good).name == "paris"
    with suppress(NotASite):
        site_asked({**good, data.draw(st.sampled_from(FIELDS)): data.draw(JSON)})


@given(JSON | st.fixed_dictionaries({"identity": JSON, "position": JSON}, optional={"ahead": JSON}))
def test_an_acknowledgement_is_whole_or_refused(said: object) -> None:
    with suppress(NotAnAcknowledgement):
        found = acknowledged_from(said, at_ms=1)
        assert isinstance(found, Acknowledged)
        assert 0 <= found.position < 1 << 62


@given(st.binary(max_size=40) | st.from_regex(rb"bytes=[0-9]{0,5}-[0-9]{0,5}"), st.integers(0, 1000))
def test_a_stretch_is_of_the_object_or_refused(header: bytes, size_bytes: int) -> None:
    with suppress(BadRange):
        found = stretch_of(header, size_bytes)
        assert 0 <= found.start <= found.end <= size_bytes
        assert found.length > 0 or size_bytes == 0


@given(st.binary(max_size=60))
def test_a_line_of_a_feed_is_one_or_refused(line: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(entry_in(line), Entry)


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.booleans())
def test_a_line_of_a_feed_comes_back(size_bytes: int, at_ms: int, is_deleted: bool) -> None:
    entry = Entry("journal/a/b.json", size_bytes, at_ms, is_deleted=is_deleted)
    assert entry_in(entry.line.rstrip(b"\n")) == entry


@pytest.mark.parametrize("name", ["", "site.mainstay.internal", "x.node.mainstay.internal", "a.b"])
def test_other_names_are_of_no_site(name: str) -> None:
    assert site_id_in(name) is None
    assert site_id_in(server_name_of(site := new_ulid())) == site


def test_a_certificate_of_several_names_is_of_nobody() -> None:
    one = {"subjectAltName": (("DNS", "a"),), "serialNumber": "0A"}
    assert shown_in(one) == ("a", "a")
    assert shown_in({**one, "subjectAltName": (("DNS", "a"), ("DNS", "b"))}) is None
    assert shown_in({**one, "subjectAltName": (("IP Address", "192.0.2.1"),)}) is None
    assert shown_in({}) is None
    assert shown_in(None) is None
