"""Times as the API shows them."""

from datetime import UTC, datetime, timedelta, timezone

from mainstay.foundation.clock import iso8601
from mainstay.repository.browse import Signature

_SECONDS_MAX = 253_402_300_799
"""The end of year 9999, the last that ISO 8601 writes with four digits."""


def moment(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso8601(at_ms)


def date(at_ms: int | None) -> str | None:
    """Only the day: expiry dates."""
    return None if at_ms is None else iso8601(at_ms)[:10]


def commit_moment(signature: Signature) -> str:
    """In the zone of who wrote it. A date or zone that no calendar knows is shown as the nearest one."""
    at_s = min(max(signature.at_s, 0), _SECONDS_MAX - 86_400)
    minutes = min(max(signature.zone_minutes, -1439), 1439)
    at = datetime.fromtimestamp(at_s, tz=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    return at.isoformat(timespec="milliseconds")
