"""May this site write? One answer for every database of the process, kept in two small files.

`DATA/site.json` (written by `cluster.epochs`) says which epoch the site's own database has and the highest
one that was ever seen anywhere. Where automatic failover is on, `DATA/run/lease.json` (written by
`cluster.witness`) says until when the site may write without another vote. A write is refused

- when the database is that of a replica, which would not take it either;
- when a higher epoch was seen than the database has, or the same one in the hands of another site;
- when the database has an epoch that was given to another site: it was promoted behind our back;
- when a lease is needed and there is none, it has ended, or it is of another boot or epoch;
- when `site.json` cannot be understood: what is not known is not permitted.

Without `site.json` nothing is refused. The files are looked at once in `LOOK_S`, which costs a `stat` each;
between looks an answer costs a comparison. An ended lease is noticed at once, without a look.

A writer asks three times: before BEGIN and before COMMIT (`check`), where a refusal means that nothing has
happened, and after COMMIT (`confirm`), where it means `OutcomeUnknown`: the commit is in this database, and
whether it is in the one that counts, only that one can say. So a process that was frozen in between, or a
commit that waited for long, acknowledges nothing that the site had no right to.
"""

import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from mainstay.foundation.boots import boot_id, since_boot_s
from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.storage.database import DatabaseAway

SITE_FILE: Final = "site.json"
LEASE_FILE: Final = "run/lease.json"
LOOK_S: Final = 0.2
FILE_BYTES_MAX: Final = 16 * 1024
_RETRY_FINAL_S = 60
_RETRY_PASSING_S = 5
_NEVER_S = float("-inf")

Said = TypeVar("Said")


class SiteFenced(Unavailable):
    """The site may not write now. `is_final`: not before somebody makes it a replica, or promotes it."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message, retry_after_s=_RETRY_FINAL_S if is_final else _RETRY_PASSING_S)
        self.is_final = is_final


class LeaseAway(SiteFenced, DatabaseAway):
    """The site is the primary and has no lease at the moment: worth waiting for, as for a failover."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_final=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """An epoch and the site that has it."""

    epoch: int = 0
    site_id: str = ""
    name: str = ""
    url: str = ""
    """Where to push instead; empty when it is not known."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What `site.json` says."""

    site_id: str
    own: Claim
    """Of the site's own database."""
    highest: Claim
    """Ever seen, anywhere."""
    is_replica: bool = False
    """Its database follows another's, and takes no writes itself."""
    needs_lease: bool = False

    @property
    def leads(self) -> bool:
        """Whether its own database is that of the primary, as far as it says itself."""
        return not self.is_replica and self.own.site_id == self.site_id

    @property
    def follows(self) -> bool:
        """Whether it is the replica of another site: what it reads is that site's, as far as it has come.

        Not so the site that has the newest epoch itself, whatever its servers look like during a failover.
        """
        newest = max(self.own, self.highest, key=lambda claim: claim.epoch)
        return self.is_replica and newest.epoch > 0 and newest.site_id != self.site_id


@dataclass(frozen=True, slots=True)
class Permit:
    """What `lease.json` says: the site may write under this epoch until then, on the clock of this boot."""

    epoch: int
    boot: str
    until_s: float


@dataclass(frozen=True, slots=True)
class Refusal:
    because: str
    is_final: bool
    lacks_lease: bool = False
    """Nothing but a lease is missing."""

    def error(self) -> SiteFenced:
        return (
            LeaseAway(self.because) if self.lacks_lease else SiteFenced(self.because, is_final=self.is_final)
        )


class Unreadable(ValueError):
    """A file is not what was written there."""


def refusal_for(
    standing: Standing | None, permit: Permit | None, *, boot: str, now_s: float
) -> Refusal | None:
    """Why nothing may be written; None when it may. `now_s` is of `foundation.boots.since_boot_s`."""
    if standing is None:
        return None
    because = _lost_to(standing)
    if because is not None:
        return Refusal(because, is_final=True)
    unfinished = _unfinished(standing)
    if unfinished is not None:
        return Refusal(unfinished, is_final=False)
    return _without_lease(standing.own, permit, boot=boot, now_s=now_s) if standing.needs_lease else None


def _lost_to(standing: Standing) -> str | None:
    """The other site that has the word, if there is one."""
    own, highest, me = standing.own, standing.highest, standing.site_id
    if standing.is_replica:
        return None
    if highest.epoch > own.epoch and highest.site_id != me:
        return f"this site was superseded by {_named(highest)} at epoch {highest.epoch}{_where(highest)}"
    if own.epoch and me not in {own.site_id, highest.site_id}:
        return (
            f"the database takes writes under epoch {own.epoch}, which is {_named(own)}'s: this site was not"
            " promoted by `mainstay promote`"
        )
    if highest.epoch == own.epoch and highest.site_id != own.site_id:
        return (
            f"{_named(highest)} was promoted to epoch {highest.epoch} as well: neither site writes until one"
            " of them is promoted again"
        )
    return None


def _unfinished(standing: Standing) -> str | None:
    """What the site has to become first."""
    newest = max(standing.own, standing.highest, key=lambda claim: claim.epoch)
    if newest.site_id == standing.site_id and (standing.is_replica or newest.epoch > standing.own.epoch):
        return f"the promotion of this site to epoch {newest.epoch} has not ended: `mainstay promote` ends it"
    if standing.is_replica:
        return f"this site is a replica of {_named(newest)}{_where(newest)}"
    return None


def _where(claim: Claim) -> str:
    return f": push to {claim.url}" if claim.url else ""


def _named(claim: Claim) -> str:
    return claim.name or claim.site_id or "another site"


def _without_lease(own: Claim, permit: Permit | None, *, boot: str, now_s: float) -> Refusal | None:
    if permit is None or permit.boot != boot or permit.epoch != own.epoch:
        because = "this site has no lease from the witness yet"
        return Refusal(because, is_final=False, lacks_lease=True)
    if now_s >= permit.until_s:
        return Refusal(
            f"the lease of this site ended {now_s - permit.until_s:.1f} s ago: neither the witness nor the"
            " replica renewed it in time",
            is_final=False,
            lacks_lease=True,
        )
    return None


def lease_over_s(standing: Standing | None, permit: Permit | None, *, boot: str, now_s: float) -> float:
    """Since when a primary has been without the lease that it needs; infinite when it never had one.

    0: it has one, or needs none.
    """
    if standing is None or not standing.needs_lease or standing.is_replica:
        return 0.0
    if permit is None or permit.boot != boot or permit.epoch != standing.own.epoch:
        return math.inf
    return max(0.0, now_s - permit.until_s)


class Fence(Protocol):
    """What a database asks. `NO_FENCE` never refuses."""

    def refusal(self) -> str | None:
        """Why nothing may be written now; None when it may."""
        ...

    def check(self) -> None:
        """Raises `SiteFenced`."""
        ...

    def confirm(self) -> None:
        """After a commit: raises `OutcomeUnknown` when it must not be acknowledged."""
        ...

    def follows(self) -> bool:
        """Whether a server in recovery is the right one to read from: the site is a replica."""
        ...


class NoFence:
    """For a database that belongs to no site, and for whoever writes the epoch itself."""

    def refusal(self) -> None:
        return

    def check(self) -> None:
        return

    def confirm(self) -> None:
        return

    def follows(self) -> bool:
        return False


NO_FENCE: Final = NoFence()


class SiteFence:
    """The fence of the site whose data directory is `data`. Safe for use from several threads."""

    def __init__(
        self,
        data: Path,
        *,
        clock_s: Callable[[], float] = since_boot_s,
        boot: Callable[[], str] = boot_id,
        look_s: float = LOOK_S,
    ) -> None:
        self._clock_s = clock_s
        self._boot = boot()
        self._look_s = look_s
        self._site = _Watched(data / SITE_FILE, standing_in, is_kept=True)
        self._lease = _Watched(data / LEASE_FILE, permit_in, is_kept=False)
        self._looking = threading.Lock()
        self._looked_s = _NEVER_S

    def refusal(self) -> str | None:
        refused = self._refused()
        return refused.because if refused else None

    def check(self) -> None:
        refused = self._refused()
        if refused is not None:
            raise refused.error()

    def confirm(self) -> None:
        refused = self._refused()
        if refused is not None:
            raise OutcomeUnknown(f"the commit may not be acknowledged: {refused.because}")

    def follows(self) -> bool:
        self._look_if_due()
        return self._site.value is not None and self._site.value.follows

    def lease_over_s(self) -> float:
        """As the function of this name; infinite, too, when a file is unreadable."""
        now_s = self._look_if_due()
        if self._site.problem or self._lease.problem:
            return math.inf
        return lease_over_s(self._site.value, self._lease.value, boot=self._boot, now_s=now_s)

    def _refused(self) -> Refusal | None:
        now_s = self._look_if_due()
        problem = self._site.problem or self._lease.problem
        if problem is not None:
            return Refusal(
                f"nothing is written here, because what says who may is unreadable: {problem}", is_final=True
            )
        return refusal_for(self._site.value, self._lease.value, boot=self._boot, now_s=now_s)

    def _look_if_due(self) -> float:
        now_s = self._clock_s()
        if now_s >= self._looked_s + self._look_s:
            self._look(now_s)
        return now_s

    def _look(self, now_s: float) -> None:
        """One thread looks; the others go by what was seen just before, unless nothing was."""
        if not self._looking.acquire(blocking=self._looked_s == _NEVER_S):
            return
        try:
            self._site.look()
            self._lease.look()
            self._looked_s = now_s
        finally:
            self._looking.release()


class _Watched(Generic[Said]):
    """A file that is replaced whole, and what it says."""

    def __init__(self, file: Path, read: Callable[[bytes], Said], *, is_kept: bool) -> None:
        """`is_kept`: once it was there, it counts even when somebody deletes it."""
        self._file = file
        self._read = read
        self._is_kept = is_kept
        self._seen: tuple[int, int, int] | None = None
        self.value: Said | None = None
        self.problem: str | None = None

    def look(self) -> None:
        try:
            facts = self._file.stat()
            found = (facts.st_mtime_ns, facts.st_ino, facts.st_size)
            if found != self._seen:
                self.value = self._read(self._content())
                self._seen, self.problem = found, None
        except FileNotFoundError:
            if not self._is_kept:
                self._seen = self.value = self.problem = None
        except OSError as error:
            self.problem = f"{self._file.name}: {error.strerror}"
        except Unreadable as error:
            self.problem = str(error)

    def _content(self) -> bytes:
        with self._file.open("rb") as reader:
            content = reader.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise Unreadable(f"{self._file.name} is larger than {FILE_BYTES_MAX} bytes")
        return content


def standing_in(content: bytes) -> Standing:
    """What `site.json` says. Raises `Unreadable`."""
    said = _object(content, SITE_FILE)
    try:
        return Standing(
            site_id=_text(said["site"]),
            own=_claim(said["own"]),
            highest=_claim(said["highest"]),
            is_replica=said["is_replica"] is True,
            needs_lease=said["needs_lease"] is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"{SITE_FILE}: {error!r}") from error


def standing_text(standing: Standing) -> bytes:
    """The content of `site.json`."""
    said = {
        "site": standing.site_id,
        "own": _claim_text(standing.own),
        "highest": _claim_text(standing.highest),
        "is_replica": standing.is_replica,
        "needs_lease": standing.needs_lease,
    }
    return json.dumps(said, indent=2).encode() + b"\n"


def permit_in(content: bytes) -> Permit:
    """What `lease.json` says. Raises `Unreadable`."""
    said = _object(content, LEASE_FILE)
    try:
        return Permit(epoch=int(said["epoch"]), boot=_text(said["boot"]), until_s=float(said["until_s"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"{LEASE_FILE}: {error!r}") from error


def permit_text(permit: Permit) -> bytes:
    """The content of `lease.json`."""
    return json.dumps({"epoch": permit.epoch, "boot": permit.boot, "until_s": permit.until_s}).encode()


def _claim(said: Mapping[str, Any]) -> Claim:
    epoch = said["epoch"]
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise ValueError(f"epoch {epoch!r}")
    return Claim(epoch, _text(said["site"]), _text(said["name"]), _text(said["url"]))


def _claim_text(claim: Claim) -> dict[str, Any]:
    return {"epoch": claim.epoch, "site": claim.site_id, "name": claim.name, "url": claim.url}


def _object(content: bytes, name: str) -> Mapping[str, Any]:
    try:
        said = json.loads(content)
    except ValueError as error:
        raise Unreadable(f"{name} is not JSON") from error
    if not isinstance(said, dict):
        raise Unreadable(f"{name} is not an object")
    return said


def _text(said: object) -> str:
    if not isinstance(said, str):
        raise TypeError(f"{said!r} is not a text")
    return said


_FENCES: WeakValueDictionary[Path, SiteFence] = WeakValueDictionary()
_LISTING = threading.Lock()


def fence_of(data: Path) -> SiteFence:
    """The fence of a data directory: one for all databases of the process, so that it is looked at once."""
    with _LISTING:
        found = _FENCES.get(data)
        if found is None:
            found = _FENCES[data] = SiteFence(data)
        return found


def fence_named(data: str) -> Fence:
    """For Django's settings, which are texts; empty: none."""
    return fence_of(Path(data)) if data else NO_FENCE
