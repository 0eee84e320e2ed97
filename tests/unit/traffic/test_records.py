"""Records as operators write them, and whether one may be moved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.provision.traffic.records import (
    BadRecord,
    Found,
    Keep,
    Mark,
    MovedSince,
    Replace,
    Wanted,
    decide,
    mark_of,
    parse_record,
    problems_of,
)

RECORD = parse_record("git.example.org A 60 one=192.0.2.1 two=192.0.2.2+192.0.2.3")


def found(site: str, *, epoch: int | None = None, ttl_s: int = 60) -> Found:
    marks = frozenset({str(Mark(epoch, site))}) if epoch is not None else frozenset[str]()
    return Found(values=RECORD.values_of(site), ttl_s=ttl_s, marks=marks, mark_ttl_s=60 if marks else None)


def wanted(site: str, epoch: int) -> Wanted:
    return Wanted(values=RECORD.values_of(site), ttl_s=60, mark=Mark(epoch, site))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Git.Example.ORG. A 60 one=192.0.2.1", "git.example.org A 60 one=192.0.2.1"),
        ("g.example AAAA 300 a=2001:DB8::0:1", "g.example AAAA 300 a=2001:db8::1"),
        (
            "*.pages.example CNAME 60 a=One.Example. b=two.example",
            "*.pages.example CNAME 60 a=one.example b=two.example",
        ),
        ("_ssh._tcp.example A 1 a=192.0.2.2+192.0.2.1", "_ssh._tcp.example A 1 a=192.0.2.1+192.0.2.2"),
    ],
)
def test_a_record_has_one_form(text: str, plain: str) -> None:
    record = parse_record(text)
    assert str(record) == plain
    assert parse_record(str(record)) == record


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("git.example.org A 60", "is not NAME TYPE TTL SITE=VALUE"),
        ("git..org A 60 one=192.0.2.1", "is no name for a record"),
        ("a.*.org A 60 one=192.0.2.1", "is no name for a record"),
        ("git.example.org MX 60 one=192.0.2.1", "the type 'MX' is none of A, AAAA, CNAME"),
        ("git.example.org A 0 one=192.0.2.1", "the TTL '0' is not a number of seconds from 1 to 86400"),
        ("git.example.org A ٣ one=192.0.2.1", "is not a number of seconds"),
        ("git.example.org A 60 one", "'one' is not SITE=VALUE"),
        ("git.example.org A 60 -=192.0.2.1", "is not SITE=VALUE"),
        ("git.example.org A 60 one=2001:db8::1", "is not an IPv4 address, which a record of type A needs"),
        ("git.example.org AAAA 60 one=192.0.2.1", "is not an IPv6 address"),
        ("git.example.org CNAME 60 one=a_b!", "is not a host name"),
        ("git.example.org CNAME 60 one=a.b+c.d", "a CNAME leads to one name"),
        ("git.example.org A 60 one=192.0.2.1 one=192.0.2.2", "the site 'one' is there twice"),
    ],
)
def test_what_is_no_record_says_why(text: str, said: str) -> None:
    with pytest.raises(BadRecord) as error:
        parse_record(text)
    assert said in str(error.value)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        record = parse_record(text)
    except BadRecord:
        return
    assert parse_record(str(record)) == record


def test_a_site_without_a_value_is_named() -> None:
    with pytest.raises(BadRecord, match=r"has no value for the site 'three', only for one, two: add three=…"):
        RECORD.values_of("three")
    assert RECORD.sites_of(frozenset({"192.0.2.1"})) == ["one"]
    assert RECORD.sites_of(frozenset({"192.0.2.9"})) == []


def test_records_that_do_not_go_together() -> None:
    texts = (
        "a.org A 60 x=192.0.2.1",
        "a.org A 60 x=192.0.2.2",
        "b.org A 60 x=192.0.2.1",
        "b.org CNAME 60 x=c.org",
    )
    assert problems_of(tuple(map(parse_record, texts))) == [
        "a.org has two records of one type",
        "b.org has a CNAME and other records",
    ]
    assert problems_of((RECORD, parse_record("git.example.org AAAA 60 one=2001:db8::1"))) == []


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_later_epoch_may_always_move_a_name(by_hand: bool) -> None:
    for seen in (Found(), found("one"), found("one", epoch=3)):
        assert isinstance(decide(RECORD, seen, wanted("two", 4), by_hand=by_hand), Replace)


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_earlier_epoch_never_may(by_hand: bool) -> None:
    with pytest.raises(MovedSince, match="moved to the site 'two' in epoch 4, ours is 3: it is left alone"):
        decide(RECORD, found("two", epoch=4), wanted("one", 3), by_hand=by_hand)


def test_within_an_epoch_only_people_move_a_name() -> None:
    with pytest.raises(MovedSince, match="in this same epoch 4"):
        decide(RECORD, found("two", epoch=4), wanted("one", 4), by_hand=False)
    assert isinstance(decide(RECORD, found("two", epoch=4), wanted("one", 4), by_hand=True), Replace)


def test_what_is_so_already_is_kept_and_a_wrong_ttl_is_not() -> None:
    assert decide(RECORD, found("two", epoch=4), wanted("two", 4), by_hand=False) == Keep(
        "git.example.org leads to 192.0.2.2, 192.0.2.3 already"
    )
    assert isinstance(
        decide(RECORD, found("two", epoch=4, ttl_s=9), wanted("two", 4), by_hand=False), Replace
    )
    assert decide(RECORD, found("two"), wanted("two", 4), by_hand=False) == Replace(
        "git.example.org A: 192.0.2.2, 192.0.2.3 -> 192.0.2.2, 192.0.2.3"
    )


@given(
    st.integers(0, 10**17), st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", fullmatch=True)
)
def test_a_mark_is_read_as_it_was_written(epoch: int, site: str) -> None:
    mark = Mark(epoch, site)
    assert mark_of(Found(marks=frozenset({str(mark)})), RECORD) == mark


@pytest.mark.parametrize(
    "marks", [{"v=spf1"}, {"mainstay epoch=x site=one"}, {str(Mark(1, "one")), str(Mark(2, "two"))}, {""}]
)
def test_a_text_that_is_no_mark_of_ours_is_not_guessed_at(marks: set[str]) -> None:
    with pytest.raises(BadRecord, match="is not a mark of ours: delete that TXT record"):
        mark_of(Found(marks=frozenset(marks)), RECORD)
