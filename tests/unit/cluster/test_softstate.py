"""Addresses of Redis, and when nobody asks it."""

import pytest

from mainstay.cluster.softstate import BadSoftStateUrl, Breaker, Location, location_of
from mainstay.foundation.logs import Secret


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("redis://cache", Location(kind="single", hosts=(("cache", 6379),))),
        (
            "redis://:s%40cret@cache:7000/3",
            Location(kind="single", hosts=(("cache", 7000),), password=Secret("s@cret"), database=3),
        ),
        (
            "rediss://ada:pw@[2001:db8::1]:7000?ssl_ca_certs=/etc/ca.pem",
            Location(
                kind="single",
                hosts=(("2001:db8::1", 7000),),
                username="ada",
                password=Secret("pw"),
                tls=True,
                ca_file="/etc/ca.pem",
            ),
        ),
        ("redis://[::1]", Location(kind="single", hosts=(("::1", 6379),))),
        ("unix:///run/redis.sock?db=2", Location(kind="unix", path="/run/redis.sock", database=2)),
        (
            "redis+sentinel://:pw@s1:26379,s2/mymaster/1?sentinel_password=other",
            Location(
                kind="sentinel",
                hosts=(("s1", 26379), ("s2", 26379)),
                service="mymaster",
                database=1,
                password=Secret("pw"),
                sentinel_password=Secret("other"),
            ),
        ),
        (
            "rediss+sentinel://s1/mymaster",
            Location(kind="sentinel", hosts=(("s1", 26379),), service="mymaster", tls=True),
        ),
        (
            "redis+cluster://a,b:7001",
            Location(kind="cluster", hosts=(("a", 6379), ("b", 7001))),
        ),
    ],
)
def test_an_address_is_read(url: str, location: Location) -> None:
    assert location_of(url) == location


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("http://:hidden@cache", "no kind of Redis"),
        ("cache:6379", "no kind of Redis"),
        ("redis://:hidden@", "names no host"),
        ("redis://:hidden@a,b", "several hosts"),
        ("redis://:hidden@cache:0", "'0' is no port"),
        ("redis://:hidden@cache:port", "no port"),
        ("redis://cache/first", "not the number of a database"),
        ("redis://cache/1/2", "one number at most"),
        ("redis+sentinel://:hidden@s1,s2", "the path is /SERVICE"),
        ("redis+cluster://:hidden@a/1", "has only 0"),
        ("unix://run/redis.sock", "three slashes"),
        ("redis://:hidden@cache?ssl_cert_reqs=none", "unknown option 'ssl_cert_reqs'"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url: str, because: str) -> None:
    with pytest.raises(BadSoftStateUrl, match=because) as refused:
        location_of(url)
    assert "hidden" not in str(refused.value)


def test_passwords_are_not_shown() -> None:
    shown = repr(location_of("redis+sentinel://:opensesame@s1/mymaster?sentinel_password=opensesame"))
    assert "opensesame" not in shown


class Stopwatch:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_after_failures_nobody_asks_for_longer_and_longer_but_never_more_than_five_seconds() -> None:
    watch = Stopwatch()
    breaker = Breaker(watch)
    assert breaker.left_s == 0
    pauses = []
    for _ in range(5):
        breaker.failed()
        pauses.append(breaker.left_s)
        watch.now_s += breaker.left_s
        assert breaker.left_s == 0
    assert pauses == [1, 2, 5, 5, 5]


def test_one_success_forgives() -> None:
    watch = Stopwatch()
    breaker = Breaker(watch)
    breaker.failed()
    breaker.failed()
    breaker.went_well()
    assert breaker.left_s == 0
    breaker.failed()
    assert breaker.left_s == 1
