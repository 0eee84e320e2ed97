"""What a promotion would cost: exactly as much as can be known here, and an honest sentence for the rest.

Three sources, each with what it proves:

- the database here: what is in it is not lost;
- the journal objects here: a push whose record has come, but whose row has not, can be brought back from it
  if its packs have come, too; if not, it is known by name;
- what the primary last said of itself: how much it had written by then, and its last push.

Whatever the primary did after it was last heard is known to nobody here. With a synchronous replica that is
nothing that was acknowledged, because each acknowledgement waited for this database. Two things say that it
still did so in the end: the primary said that its commits wait for us, and the list of sites here, which is
changed before it ever stops waiting, still has us as synchronous. Of an order to go on without us that was
given while we were cut off, nobody here can know.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mainstay.foundation.clock import iso8601


@dataclass(frozen=True, slots=True, kw_only=True)
class LastPush:
    """The newest push that a site had."""

    repository_id: int
    version: int
    at_ms: int
    push_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The last that the primary said."""

    at_ms: int
    """By our clock."""
    site_id: str
    name: str
    url: str = ""
    wal: int | None = None
    """Position in its log up to which it had written."""
    last_push: LastPush | None = None
    waits_for_us: bool = False
    """Its commits waited for this site then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedRef:
    name: str
    oid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPush:
    """A push that is in the journal here and not in the database here."""

    repository_id: int
    project: str
    version: int
    """0 when only its preparation is known: it may never have been acknowledged."""
    push_id: str
    person: str
    at_ms: int
    refs: Sequence[MovedRef] = field(default_factory=tuple)
    is_recoverable: bool = False
    """Its record continues what is here, and its packs are here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What this site has."""

    now_ms: int
    received: int
    """Of the primary's log, in bytes: all of it is replayed by a promotion."""
    replayed: int
    last_commit_ms: int | None
    pushes: Sequence[KnownPush] = field(default_factory=tuple)
    has_last_push: bool = True
    """Whether the last push that the primary named is here."""
    is_listed_sync: bool = False
    """The list of sites, as it is here, says that pushes wait for us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a promotion would cost."""

    silent_s: float | None
    missing_bytes: int | None
    """Of what the primary had written when it was last heard; None: not known."""
    recovered: Sequence[KnownPush] = ()
    lost: Sequence[KnownPush] = ()
    unsure: Sequence[KnownPush] = ()
    """Prepared and perhaps acknowledged."""
    named_missing: LastPush | None = None
    """The last push of the primary, when it is not here."""
    is_zero: bool = False
    because: str = ""
    """The proof, or what cannot be known."""


def forecast(heard: Heard | None, here: Here) -> Forecast:
    """Compare. Pure."""
    known = here.pushes
    silent_s = None if heard is None else max(0.0, (here.now_ms - heard.at_ms) / 1000)
    missing = None if heard is None or heard.wal is None else max(0, heard.wal - here.received)
    lost = [push for push in known if push.version and not push.is_recoverable]
    named = heard.last_push if heard is not None and not here.has_last_push else None
    is_zero, because = _proof(heard, here, missing=missing or 0, any_lost=bool(lost or named))
    return Forecast(
        silent_s=silent_s,
        missing_bytes=missing,
        recovered=[push for push in known if push.version and push.is_recoverable],
        lost=lost,
        unsure=[push for push in known if not push.version],
        named_missing=named,
        is_zero=is_zero,
        because=because,
    )


def _proof(heard: Heard | None, here: Here, *, missing: int, any_lost: bool) -> tuple[bool, str]:
    if heard is None:
        return False, (
            "the primary was never heard by this site: what it acknowledged and did not send is not known"
            " here"
        )
    if heard.waits_for_us and here.is_listed_sync and not any_lost:
        return True, (
            f"{heard.name} acknowledged a push only after this site had it on disk (synchronous), so no"
            " acknowledged push is missing here, unless somebody told it after it was last heard"
            f" ({max(0.0, (here.now_ms - heard.at_ms) / 1000):.0f} s ago) to go on without this site"
        )
    silent_s = max(0.0, (here.now_ms - heard.at_ms) / 1000)
    behind = f" and it had {missing} bytes of log more than has come here" if missing else ""
    return False, (
        f"{heard.name} was last heard {silent_s:.0f} s ago{behind}; what it acknowledged after that and did"
        " not send is not known to anybody but itself: when it comes back, it keeps that and reports it"
    )


def sentences(found: Forecast) -> list[str]:
    """For people, in the order of importance."""
    lines = [found.because]
    if found.is_zero:
        lines.append("would be lost: nothing")
    elif not found.lost and found.named_missing is None:
        lines.append("would be lost, as far as is known: nothing")
    lines += [f"would be lost: {_named(push)}" for push in found.lost]
    if found.named_missing is not None:
        last = found.named_missing
        lines.append(
            f"would be lost: all up to the last push that the primary named, version {last.version} of"
            f" repository {last.repository_id} of {iso8601(last.at_ms)}, as far as it is not here"
        )
    lines += [f"comes back from the journal: {_named(push)}" for push in found.recovered]
    lines += [f"was prepared, perhaps never acknowledged: {_named(push)}" for push in found.unsure]
    return lines


def _named(push: KnownPush) -> str:
    moved = ", ".join(f"{ref.name} to {ref.oid[:12]}" for ref in push.refs)
    return f"{push.project}: {moved or 'a change'}, by {push.person}, at {iso8601(push.at_ms)}"


def as_answer(found: Forecast) -> dict[str, Any]:
    return asdict(found)
