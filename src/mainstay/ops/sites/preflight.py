"""May this machine become a replica? Everything that is in the way, at once, each with what to do.

Pure: from what was measured on both sides to sentences. The token is not used up by it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from mainstay.foundation.errors import Conflict, Invalid

CLOCK_OFF_MS_MAX: Final = 5_000
SPARE: Final = 1.2
"""Room for what comes while the copy is made, and for what is left of a broken-off one."""
_MIB: Final = 1024**2
_SLOW_BYTES_PER_S: Final = 256 * 1024

Directory = Literal["empty", "ours", "occupied"]
"""`ours`: it was made a replica of this primary before, so this is a repair."""


class NotReady(Conflict):
    """The machine cannot become a replica yet."""

    def __init__(self, problems: "list[Problem]") -> None:
        super().__init__("\n".join(f"- {problem.what}: {problem.do}" for problem in problems))
        self.problems = problems


class NotFacts(Invalid):
    """What the primary said of itself cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryFacts:
    """What a primary says of itself to a machine that shows a token."""

    name: str
    version: str
    postgresql_major: int
    database_bytes: int
    objects_bytes: int
    objects_items: int
    now_ms: int
    schema_current: int
    schema_floor: int
    sites_address: str
    database_address: str

    @property
    def needed_bytes(self) -> int:
        return round((self.database_bytes + self.objects_bytes) * SPARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found here."""

    postgresql_majors: tuple[int, ...]
    free_bytes: int
    clock_off_ms: int
    """How far our clock is ahead of the primary's, at least."""
    ports_taken: Mapping[str, str]
    """Setting → why nobody can listen there."""
    directory: Directory
    directory_says: str = ""
    schema_current: int = 1
    schema_floor: int = 1
    bytes_per_s: float = 0.0
    """Of the line, measured."""
    database_reached: str = ""
    """Why the primary's database port is not reached; empty: it is."""
    data: str = "./data"


@dataclass(frozen=True, slots=True)
class Problem:
    what: str
    do: str


def facts_in(texts: Mapping[str, str]) -> PrimaryFacts:
    """What was sealed as texts. Raises `NotFacts`."""
    try:
        numbers = {
            name: int(texts[name])
            for name in PrimaryFacts.__slots__
            if name not in ("name", "version", "sites_address", "database_address")
        }
        return PrimaryFacts(
            name=texts["name"],
            version=texts["version"],
            sites_address=texts["sites_address"],
            database_address=texts["database_address"],
            **numbers,
        )
    except (KeyError, ValueError) as error:
        raise NotFacts(f"the primary runs a version that this one does not know ({error!r})") from error


def texts_of(facts: PrimaryFacts) -> dict[str, str]:
    """The inverse."""
    return {name: str(value) for name, value in asdict(facts).items()}


def problems(machine: Machine, primary: PrimaryFacts) -> list[Problem]:
    """Everything that is in the way; nothing: go on."""
    return [
        *_of_programs(machine, primary),
        *_of_releases(machine, primary),
        *_of_directory(machine, primary),
        *_of_line(machine, primary),
        *_of_clock(machine),
    ]


def _of_programs(machine: Machine, primary: PrimaryFacts) -> Iterator[Problem]:
    wanted = primary.postgresql_major
    if wanted in machine.postgresql_majors:
        return
    have = ", ".join(map(str, sorted(machine.postgresql_majors))) or "none"
    yield Problem(
        f"the primary has PostgreSQL {wanted}, this machine has {have}",
        f"install it: `apt-get install postgresql-{wanted}`, or `dnf install postgresql{wanted}-server`",
    )


def _of_releases(machine: Machine, primary: PrimaryFacts) -> Iterator[Problem]:
    if primary.schema_floor > machine.schema_current:
        yield Problem(
            f"the primary's tables need schema release {primary.schema_floor}, this program knows"
            f" {machine.schema_current}",
            f"install version {primary.version} here",
        )
    elif machine.schema_current > primary.schema_current:
        yield Problem(
            f"this program needs schema release {machine.schema_current}, the primary's tables have"
            f" {primary.schema_current}",
            f"install version {primary.version} here, or upgrade the primary first",
        )


def _of_directory(machine: Machine, primary: PrimaryFacts) -> Iterator[Problem]:
    if machine.directory == "occupied":
        yield Problem(f"{machine.data} is not empty: {machine.directory_says}", "choose another --data")
    # A repair has most of it already, and overwrites nothing before the new copy is whole.
    if machine.directory != "ours" and machine.free_bytes < primary.needed_bytes:
        yield Problem(
            f"{machine.data} has {_shown(machine.free_bytes)} free, the primary has"
            f" {_shown(primary.database_bytes)} of database and {_shown(primary.objects_bytes)} of objects",
            f"have {_shown(primary.needed_bytes)} free (that and a fifth)",
        )
    for setting, why in sorted(machine.ports_taken.items()):
        option = setting.replace("_", "-")
        yield Problem(f"{setting}: {why}", f"stop what listens there, or choose another address: --{option}")


def _of_line(machine: Machine, primary: PrimaryFacts) -> Iterator[Problem]:
    if machine.database_reached:
        yield Problem(
            f"the primary's database at {primary.database_address} is not reached from here:"
            f" {machine.database_reached}",
            "let this machine through to that port",
        )


def _of_clock(machine: Machine) -> Iterator[Problem]:
    if abs(machine.clock_off_ms) > CLOCK_OFF_MS_MAX:
        which = "ahead of" if machine.clock_off_ms > 0 else "behind"
        yield Problem(
            f"the clock here is {abs(machine.clock_off_ms) / 1000:.1f} s {which} the primary's",
            "let both machines keep time by NTP (`timedatectl set-ntp true`)",
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long the copy takes, when the line keeps its speed."""

    copied_bytes: int
    bytes_per_s: float

    @property
    def seconds(self) -> float:
        return self.copied_bytes / max(1.0, self.bytes_per_s)

    def text(self) -> str:
        speed = f"{self.bytes_per_s / _MIB:.1f} MiB/s"
        slow = ": a slow line" if self.bytes_per_s < _SLOW_BYTES_PER_S else ""
        return f"{_shown(self.copied_bytes)} at {speed}{slow}: about {duration(self.seconds)}"


def estimate(machine: Machine, primary: PrimaryFacts) -> Estimate:
    return Estimate(primary.database_bytes + primary.objects_bytes, machine.bytes_per_s)


def as_answer(machine: Machine, primary: PrimaryFacts) -> dict[str, Any]:
    """For `--json`."""
    guess = estimate(machine, primary)
    return {
        "primary": asdict(primary),
        "machine": {**asdict(machine), "ports_taken": dict(machine.ports_taken)},
        "problems": [asdict(problem) for problem in problems(machine, primary)],
        "estimate": {"bytes": guess.copied_bytes, "seconds": round(guess.seconds, 1)},
    }


def duration(seconds: float) -> str:
    """In the two largest units."""
    whole = max(0, round(seconds))
    if whole < 120:  # noqa: PLR2004 - two minutes are still seconds to people
        return f"{whole} s"
    if whole < 7200:  # noqa: PLR2004 - the same of hours
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _shown(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":  # noqa: PLR2004 - the next unit
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit takes everything")
