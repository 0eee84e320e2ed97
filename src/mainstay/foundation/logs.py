"""What happened, as one line per decision: an event name and fields.

Event names are `room.fact` in the past tense (`push.committed`), fields are snake_case with their units.
Whatever is bound to the context (`request_id`, `push_id`) is on every line below it, in every room.
Lines are JSON, or readable text on a terminal; both go to stderr, so that stdout stays for answers.

A secret has a type that cannot be printed, and a field named like one is hidden even when it is a string.
"""

import hmac
import json
import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger

LogFormat = Literal["auto", "json", "text"]

_HIDDEN = "[hidden]"
_SECRET_FIELDS = frozenset({"password", "token", "secret", "authorization", "private_token", "passphrase"})
_FIELD_CHARS_MAX = 4096
"""A field that a client can fill must not fill the disk."""
_JSON = json.JSONEncoder(default=repr)


class Secret:
    """A text that shows itself only to who asks by name: `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        """Compare in constant time; a plain string may be compared with a secret, too."""
        theirs = other.reveal() if isinstance(other, Secret) else other
        if not isinstance(theirs, str):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), theirs.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return _HIDDEN

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return _HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")


class Lossy:
    """A stream that may lose lines, but never fails who writes them.

    The log's disk is full, or its reader has gone (`OSError`), or it was closed or cannot say a character
    (`ValueError`): the work that a line tells of is done all the same, and a push that is committed must not
    fail for want of a line. How many were lost is said with the next one.
    """

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._lost = 0

    def write(self, text: str) -> int:
        try:
            if self._lost:
                self._target.write(f'{{"event": "logs.lines_lost", "lines": {self._lost}}}\n')
                self._lost = 0
            return self._target.write(text)
        except (OSError, ValueError):
            self._lost += 1
            return len(text)

    def flush(self) -> None:
        try:
            self._target.flush()
        except (OSError, ValueError):
            self._lost += 1


def get_logger() -> FilteringBoundLogger:
    """The logger of a room; each module makes its own at its top and calls it `log`."""
    return cast("FilteringBoundLogger", structlog.get_logger())


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Put fields on every line written inside the block, by whatever room."""
    before = structlog.contextvars.bind_contextvars(**fields)
    try:
        yield
    finally:
        structlog.contextvars.reset_contextvars(**before)


def configure(
    *, process: str, log_format: LogFormat = "auto", level: str = "info", stream: TextIO | None = None
) -> None:
    """Set up this process once, at its start. `process` is on every line: serve, data, web, ssh, worker."""
    target = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not target.isatty())
    processors = _processors(process)
    render = _renderers(as_json=as_json)
    numeric = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*processors, *render],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", Lossy(target))),
        cache_logger_on_first_use=True,
    )
    _adopt_standard_logging(target, numeric, processors, render)


def _processors(process: str) -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
        hide_secrets,
    ]


def _renderers(*, as_json: bool) -> list[Any]:
    if as_json:
        return [structlog.processors.format_exc_info, _render_json]
    # A plain trace: the rich one prints local variables, and those may be passwords.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=False, pad_event_to=32, exception_formatter=plain)]


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return _JSON.encode(event)


def _named(process: str) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    def add_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("process", process)
        return event

    return add_process


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide fields named like a secret, and cut what is too long. The second net; the first is `Secret`."""
    for name, value in event.items():
        if name in _SECRET_FIELDS:
            event[name] = _HIDDEN
        elif isinstance(value, str) and len(value) > _FIELD_CHARS_MAX:
            event[name] = value[:_FIELD_CHARS_MAX] + "…"
    return event


def _adopt_standard_logging(target: TextIO, level: int, processors: list[Any], render: list[Any]) -> None:
    """Libraries log through `logging`: their lines take the same shape, and only from `warning` on."""
    out = logging.StreamHandler(target)
    out.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [out]
    root.setLevel(max(level, logging.WARNING))
