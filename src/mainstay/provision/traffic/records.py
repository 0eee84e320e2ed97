"""The names that follow the primary, and the decision whether one may be moved.

A record is written `NAME TYPE TTL SITE=VALUE SITE=VALUE`; several values of one site have `+` between:

    git.example.org A 60 berlin=192.0.2.10 paris=198.51.100.10+198.51.100.11

Beside each name stands a mark, the TXT record `_mainstay-epoch.NAME`, which says for which site and in which
epoch the name was moved last. A name never goes back to a lower epoch: an old primary that comes back, or
one that is only slow, cannot take clients away from the site that was promoted after it.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, cast, get_args

from mainstay.foundation.errors import Conflict, Invalid

RecordType = Literal["A", "AAAA", "CNAME"]

TTL_ADVISED_S = (60, 300)
_TTL_S_MAX = 86_400
_LABEL = "_mainstay-epoch"
_NAME = re.compile(
    r"(?=.{1,230}\Z)(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_SITE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_MARK = re.compile(r"mainstay epoch=([0-9]{1,18}) site=([A-Za-z0-9.-]{1,63})")
_PARTS_LEAST = 4


class BadRecord(Invalid):
    """No record that could follow the primary; the message says what to change."""


class MovedSince(Conflict):
    """Another site was promoted later, and the name is its own now."""


@dataclass(frozen=True, slots=True)
class Record:
    """One name of one type, and where it leads for each site."""

    name: str
    """In lower case, without the dot at its end."""
    type: RecordType
    ttl_s: int
    sites: tuple[tuple[str, frozenset[str]], ...]

    @property
    def mark_name(self) -> str:
        return f"{_LABEL}.{self.name}"

    def values_of(self, site: str) -> frozenset[str]:
        """Raises `BadRecord` when the record does not know the site."""
        for name, values in self.sites:
            if name == site:
                return values
        known = ", ".join(name for name, _ in self.sites)
        raise BadRecord(f"{self.name} has no value for the site {site!r}, only for {known}: add {site}=…")

    def sites_of(self, values: frozenset[str]) -> list[str]:
        """The sites that have exactly these values."""
        return [name for name, theirs in self.sites if theirs == values]

    def __str__(self) -> str:
        sites = " ".join(f"{name}={'+'.join(sorted(values))}" for name, values in self.sites)
        return f"{self.name} {self.type} {self.ttl_s} {sites}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands beside a name."""

    epoch: int
    site: str

    def __str__(self) -> str:
        return f"mainstay epoch={self.epoch} site={self.site}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the authoritative server says about one record."""

    values: frozenset[str] = frozenset()
    ttl_s: int | None = None
    """None: there is no such record."""
    marks: frozenset[str] = frozenset()
    """Every text beside the name; ours is one, and alone."""
    mark_ttl_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What it shall say."""

    values: frozenset[str]
    ttl_s: int
    mark: Mark


@dataclass(frozen=True, slots=True)
class Keep:
    """It says so already."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replace:
    """It may be changed."""

    reason: str


def parse_record(text: str) -> Record:
    """The inverse of `str`. Raises `BadRecord`."""
    parts = text.split()
    if len(parts) < _PARTS_LEAST:
        raise BadRecord(
            f"{text!r} is not NAME TYPE TTL SITE=VALUE…, such as"
            " git.example.org A 60 one=192.0.2.1 two=192.0.2.2"
        )
    name = plain_name(parts[0])
    if not _NAME.fullmatch(name):
        raise BadRecord(f"{parts[0]!r} is no name for a record")
    if parts[1] not in get_args(RecordType):
        raise BadRecord(f"{text!r}: the type {parts[1]!r} is none of {', '.join(get_args(RecordType))}")
    kind = cast("RecordType", parts[1])
    sites = tuple(_site(each, kind, text) for each in parts[3:])
    names = [site for site, _ in sites]
    if twice := {each for each in names if names.count(each) > 1}:
        raise BadRecord(f"{text!r}: the site {min(twice)!r} is there twice")
    return Record(name, kind, _ttl(parts[2], text), sites)


def _site(text: str, kind: RecordType, of: str) -> tuple[str, frozenset[str]]:
    site, equals, values = text.partition("=")
    if not (equals and _SITE.fullmatch(site)):
        raise BadRecord(f"{of!r}: {text!r} is not SITE=VALUE")
    return site, parse_values(values, kind)


def parse_values(text: str, kind: RecordType) -> frozenset[str]:
    """`VALUE+VALUE`, each as servers write it. Raises `BadRecord`."""
    values = frozenset(plain_value(each, kind) for each in text.split("+"))
    if kind == "CNAME" and len(values) > 1:
        raise BadRecord(f"{text!r}: a CNAME leads to one name")
    return values


def plain_value(text: str, kind: RecordType) -> str:
    """A value in the one form in which values are compared. Raises `BadRecord`."""
    try:
        if kind == "CNAME":
            name = plain_name(text)
            if _NAME.fullmatch(name):
                return name
        else:
            return str(IPv4Address(text) if kind == "A" else IPv6Address(text))
    except ValueError:
        pass  # the sentence below is for both
    what = {"A": "an IPv4 address", "AAAA": "an IPv6 address", "CNAME": "a host name"}[kind]
    raise BadRecord(f"{text!r} is not {what}, which a record of type {kind} needs")


def plain_name(text: str) -> str:
    return text.lower().removesuffix(".")


def is_inside(name: str, zone: str) -> bool:
    return name == zone or name.endswith(f".{zone}")


def _ttl(digits: str, of: str) -> int:
    if not (digits.isascii() and digits.isdigit()) or not 1 <= int(digits) <= _TTL_S_MAX:
        raise BadRecord(f"{of!r}: the TTL {digits!r} is not a number of seconds from 1 to {_TTL_S_MAX}")
    return int(digits)


def mark_of(found: Found, record: Record) -> Mark | None:
    """None: the name was never moved by us. Raises `BadRecord` when somebody else's text stands there."""
    if not found.marks:
        return None
    match = _MARK.fullmatch(next(iter(found.marks))) if len(found.marks) == 1 else None
    if match is None:
        said = ", ".join(map(repr, sorted(found.marks)))[:200]
        raise BadRecord(
            f"{record.mark_name} says {said}, which is not a mark of ours: delete that TXT record"
        )
    return Mark(int(match[1]), match[2])


def decide(record: Record, found: Found, wanted: Wanted, *, by_hand: bool) -> Keep | Replace:
    """Say whether the record is to be changed. Raises `MovedSince` when it belongs to a later primary.

    By hand a name may be led to another site within its epoch, but not back to an earlier one.
    """
    mark = mark_of(found, record)
    if mark and mark.epoch > wanted.mark.epoch:
        raise MovedSince(
            f"{record.name} was moved to the site {mark.site!r} in epoch {mark.epoch}, ours is"
            f" {wanted.mark.epoch}: it is left alone"
        )
    if mark and mark.epoch == wanted.mark.epoch and mark.site != wanted.mark.site and not by_hand:
        raise MovedSince(
            f"{record.name} was moved to the site {mark.site!r} in this same epoch {mark.epoch}:"
            " it is left alone"
        )
    if (found.values, found.ttl_s, mark) == (wanted.values, wanted.ttl_s, wanted.mark):
        return Keep(f"{record.name} leads to {shown(found.values)} already")
    return Replace(f"{record.name} {record.type}: {shown(found.values)} -> {shown(wanted.values)}")


def shown(values: frozenset[str]) -> str:
    return ", ".join(sorted(values)) or "nothing"


def problems_of(records: tuple[Record, ...]) -> list[str]:
    """What does not go together."""
    kinds = {
        name: [record.type for record in records if record.name == name]
        for name in sorted({record.name for record in records})
    }
    twice = [
        f"{name} has two records of one type"
        for name, all_of in kinds.items()
        if len({*all_of}) < len(all_of)
    ]
    mixed = [
        f"{name} has a CNAME and other records"
        for name, all_of in kinds.items()
        if "CNAME" in all_of and len({*all_of}) > 1
    ]
    return twice + mixed
