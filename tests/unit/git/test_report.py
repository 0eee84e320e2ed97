"""The answer to a push, byte by byte."""

from mainstay.git.objectnames import RefName
from mainstay.git.protocol.report import RefResult, error_packet, one_line, report

RESULTS = [
    RefResult(RefName(b"refs/heads/a")),
    RefResult(RefName(b"refs/heads/b"), "protected\n0000ok refs/heads/b"),
]
PLAIN = b"000eunpack ok\n0014ok refs/heads/a\n0032ng refs/heads/b protected 0000ok refs/heads/b\n0000"


def test_every_ref_has_its_line() -> None:
    assert report(RESULTS, capabilities={b"report-status"}) == PLAIN
    assert report(RESULTS, capabilities={b"report-status-v2"}) == PLAIN


def test_side_bands_wrap_the_report_and_end() -> None:
    wrapped = report(RESULTS, capabilities={b"report-status", b"side-band-64k"})
    assert wrapped == b"%04x\x01" % (len(PLAIN) + 5) + PLAIN + b"0000"


def test_who_asked_for_no_report_gets_none() -> None:
    assert report(RESULTS, capabilities=frozenset()) == b""
    assert report(RESULTS, capabilities={b"side-band-64k"}) == b"0000"


def test_a_pack_that_failed_is_told_first() -> None:
    said = report([], capabilities={b"report-status"}, unpack_error="early EOF")
    assert said == b"0015unpack early EOF\n0000"


def test_a_reason_is_one_short_line() -> None:
    assert one_line("a\r\nb\0c\x1b[31m") == b"a  b c [31m"
    assert one_line("\n") == b"failed"
    assert len(one_line("ü" * 5000)) == 1000
    assert error_packet("not\nfound") == b"0012ERR not found\n"
