"""What every kind of test shares: the rule about servers that are missing.

A test whose server is not installed is skipped with a reason that starts with `server missing`. On a
developer's machine the run ends with a list of them; with `CI` set each one is a failure.
"""

import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import pytest
import structlog
from _pytest.nodeid import NodeId

from support.servers import SERVER_MISSING

_BYTES_SHOWN_MAX = 16


def pytest_configure() -> None:
    """A run that is told to stop cleans up like one that is interrupted: it has servers to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    structlog.configure = partial(_configure_for_now, structlog.configure)


def _configure_for_now(configure: Callable[..., None], **settings: Any) -> None:
    """A logger that keeps what it was bound to would write to the streams of a test that is over."""
    configure(**{**settings, "cache_logger_on_first_use": False})


@pytest.fixture(autouse=True)
def _logging_is_as_it_was() -> Iterator[None]:
    """A command that a test runs in its own process sets up logging, as it should."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests of one file meet in one worker: what they share is then made once, not once in each."""
    if item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}-{item.path.stem}"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one group meet in one worker: xdist 3.8 notes the group where pytest 9.2 does not look."""
    for item in items:
        noted = vars(item).get("_nodeid", item.nodeid)
        if noted != item.nodeid:
            item._id = NodeId.parse(noted)


def _is_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped; empty when it was not, or not for a missing server."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return ""
    reason = report.longrepr[2].removeprefix("Skipped: ")
    return reason if reason.startswith(SERVER_MISSING) else ""


def _judge(report: pytest.TestReport | pytest.CollectReport) -> None:
    if _is_ci() and (reason := _reason(report)):
        report.outcome = "failed"
        report.longrepr = f"{reason}: CI may not skip it"


def pytest_make_parametrize_id(val: object) -> str | None:
    """Long bytes are named by their length: gzip puts the time into them, and all workers must agree."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) and len(val) > _BYTES_SHOWN_MAX else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _judge(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _judge(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [_reason(report) for report in terminalreporter.stats.get("skipped", [])]
    missing = sorted(reason for reason in reasons if reason)
    if missing:
        terminalreporter.section("NOT TESTED HERE", sep="!", red=True)
        for reason in dict.fromkeys(missing):
            terminalreporter.line(f"{missing.count(reason):4} test(s): {reason}")
