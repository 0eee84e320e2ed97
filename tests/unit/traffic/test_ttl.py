"""How long clients may go to the old site."""

import pytest

from mainstay.provision.traffic.records import Found, parse_record
from mainstay.provision.traffic.ttl import TtlFinding, ttl_findings


def judged(ttl_s: int | None, *, configured_s: int = 60) -> TtlFinding:
    record = parse_record(f"git.example.org A {configured_s} one=192.0.2.1")
    (finding,) = ttl_findings([(record, Found(ttl_s=ttl_s))])
    return finding


@pytest.mark.parametrize(
    ("ttl_s", "verdict", "said"),
    [
        (None, "ok", "not there yet, so no resolver keeps it"),
        (0, "ok", "TTL 0 s: quick; 60 s would spare the name servers many questions"),
        (59, "ok", "TTL 59 s: quick"),
        (60, "ok", "TTL 60 s: clients follow a move within 60 s"),
        (300, "ok", "TTL 300 s: clients follow a move within 5 minutes"),
        (
            301,
            "warning",
            "clients may go to the old site for 6 minutes after a move; it forwards them while it lives",
        ),
        (86_400, "warning", "Lower it to 60 to 300 s, and wait 24 hours before a planned failover"),
    ],
)
def test_the_ttl_that_is_found_counts(ttl_s: int | None, verdict: str, said: str) -> None:
    finding = judged(ttl_s)
    assert (finding.name, finding.verdict) == ("git.example.org A", verdict)
    assert said in finding.says


def test_a_wish_that_is_too_long_is_told_before_it_comes_true() -> None:
    assert judged(60, configured_s=3600) == TtlFinding(
        "git.example.org A", "warning", "TTL 60 s, but the next move makes it 3600 s: see dns_records"
    )
