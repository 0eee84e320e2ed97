"""Lines, and what must never be on one."""

import errno
import io
import json
import logging
import pickle

import pytest
import structlog

from mainstay.foundation import logs
from mainstay.foundation.logs import Secret


@pytest.fixture
def lines() -> io.StringIO:
    """The log of a process."""
    stream = io.StringIO()
    logs.configure(process="test", log_format="json", stream=stream)
    return stream


def last(stream: io.StringIO) -> dict[str, object]:
    return json.loads(stream.getvalue().splitlines()[-1])


def test_a_line_is_json_with_the_context_of_the_request(lines: io.StringIO) -> None:
    with logs.bound(request_id="r1"):
        structlog.get_logger().info("push.committed", packs=1)
    line = last(lines)
    assert line["event"] == "push.committed"
    assert (line["request_id"], line["packs"], line["process"], line["level"]) == ("r1", 1, "test", "info")
    structlog.get_logger().info("push.over")
    assert "request_id" not in last(lines)


def test_secrets_are_hidden_by_type_and_by_name(lines: io.StringIO) -> None:
    structlog.get_logger().info(
        "x.done", key=Secret("hunter2"), password="hunter3", nested=[Secret("hunter4")]
    )
    assert "hunter" not in lines.getvalue()


def test_a_field_that_a_client_fills_does_not_fill_the_disk(lines: io.StringIO) -> None:
    structlog.get_logger().info("x.done", path="a" * 1_000_000)
    assert len(lines.getvalue()) < 10_000


def test_libraries_speak_in_the_same_shape_from_warning_on(lines: io.StringIO) -> None:
    logging.getLogger("somebody").warning("it is %s", "late")
    assert last(lines)["event"] == "it is late"
    before = lines.getvalue()
    logging.getLogger("somebody").info("chatter")
    assert lines.getvalue() == before


def test_a_log_that_cannot_be_written_fails_nobody_and_says_so_later() -> None:
    class FullDisk(io.StringIO):
        is_full = True

        def write(self, text: str) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    disk = FullDisk()
    log = logs.Lossy(disk)
    log.write("one\n")
    log.write("two\n")
    assert disk.getvalue() == ""
    disk.is_full = False
    log.write("three\n")
    assert disk.getvalue() == '{"event": "logs.lines_lost", "lines": 2}\nthree\n'


def test_a_closed_log_fails_nobody_either() -> None:
    stream = io.StringIO()
    log = logs.Lossy(stream)
    stream.close()
    assert log.write("one\n") == 4
    log.flush()
    assert stream.closed


def test_a_secret_shows_itself_only_when_asked_by_name() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r} {secret:>20} {[secret]}"
    assert secret == "hunter2"
    assert secret == Secret("hunter2")
    assert secret != "hunter3"
    assert secret != 7
    with pytest.raises(TypeError):
        pickle.dumps(secret)
