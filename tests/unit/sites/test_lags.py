"""How far a replica is behind becomes a level with a reason, and one line for monitoring."""

from dataclasses import replace
from typing import Any

from mainstay.ops.sites.lags import Level, Report, Stream, Thresholds, as_answer, headline, judge, rows

FRESH = Report(
    site="berlin",
    silent_s=0.5,
    streams=(
        Stream(name="database", bytes=0, seconds=0.0),
        Stream(name="packs", bytes=0, items=0, seconds=0.0),
    ),
)


def with_stream(**changes: Any) -> Report:
    return replace(FRESH, streams=(replace(FRESH.streams[0], **changes), FRESH.streams[1]))


def test_a_replica_that_has_everything_is_ok() -> None:
    assert judge(FRESH).level is Level.OK


def test_lag_in_seconds_is_a_warning_and_then_critical() -> None:
    assert judge(with_stream(seconds=60.0)).level is Level.OK
    warning = judge(with_stream(seconds=61.0))
    assert (warning.level, warning.because) == (Level.WARNING, "database is 61 s behind")
    assert judge(with_stream(seconds=601.0)).level is Level.CRITICAL


def test_lag_in_bytes_counts_where_nothing_is_old_yet() -> None:
    assert judge(with_stream(bytes=300 * 1024**2)).level is Level.WARNING
    assert judge(with_stream(bytes=5 * 1024**3)).level is Level.CRITICAL


def test_a_delayed_replica_is_late_only_beyond_its_delay() -> None:
    delayed = replace(with_stream(seconds=3620.0, bytes=10 * 1024**3), delay_s=3600)
    assert judge(delayed).level is Level.OK
    assert judge(replace(with_stream(seconds=3700.0), delay_s=3600)).level is Level.WARNING


def test_silence_is_worse_the_longer_it_is() -> None:
    assert judge(replace(FRESH, silent_s=16.0)).level is Level.WARNING
    assert judge(replace(FRESH, silent_s=61.0)).because == "not heard for 61 s"
    assert judge(replace(FRESH, silent_s=None)).level is Level.CRITICAL


def test_a_pause_a_lost_log_and_a_synchronous_one_that_is_not_are_said() -> None:
    assert "paused" in judge(replace(FRESH, state="paused")).because
    assert judge(replace(FRESH, needs_a_copy=True)).level is Level.CRITICAL
    assert "catching up" in judge(replace(FRESH, mode="sync")).because
    assert judge(replace(FRESH, mode="sync", is_synchronous=True)).level is Level.OK


def test_what_is_not_known_is_not_called_fine() -> None:
    assert judge(with_stream(bytes=None, seconds=None, items=None)).because == "database: not known"


def test_the_first_line_is_one_that_nagios_reads() -> None:
    late = replace(with_stream(seconds=75.0), site="oslo")
    line = headline([FRESH, late])
    assert line == (
        "REPLICAS WARNING - berlin up to date; oslo database is 75 s behind"
        " | berlin_lag=0.0s;60;600 oslo_lag=75.0s;60;600"
    )
    assert headline([]) == "REPLICAS OK - there are none"


def test_thresholds_can_be_chosen() -> None:
    assert judge(with_stream(seconds=2.0), Thresholds(warning_s=1.0)).level is Level.WARNING


def test_rows_and_answers_say_what_is_unknown() -> None:
    assert rows(with_stream(seconds=None, bytes=None))[0] == ("database", "?", "-", "?")
    answer = as_answer(FRESH)
    assert (answer["level"], answer["streams"][1]["name"]) == ("ok", "packs")


def test_a_site_that_was_superseded_is_nothing_else() -> None:
    finding = judge(replace(FRESH, failure="this site was superseded by berlin at epoch 2"))
    assert (finding.level, finding.because[:26]) == (Level.CRITICAL, "this site was superseded b")
