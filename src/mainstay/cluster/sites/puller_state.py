"""What the puller of a site says about itself, in a file that commands, metrics and its next life read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from mainstay.cluster.sites.tasks import Task
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.private_files import replace_file
from mainstay.storage.feed.classes import CLASSES, class_of

Phase = Literal["starting", "comparing", "following", "paused", "away", "stopped"]

FILE: Final = "puller.json"
PAUSED: Final = "paused"


@dataclass(frozen=True, slots=True)
class Behind:
    """How much of one class is not here yet, as far as is known."""

    items: int = 0
    bytes: int = 0
    seconds: float = 0.0
    """Since the oldest of them was stored there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullerState:
    """At one moment."""

    phase: Phase = "starting"
    because: str = ""
    """In `away` and `paused`: why. Else the last thing that went wrong, while it has not gone right since."""
    identity: str = ""
    """Of the feed that `position` is of; empty: everything is to be compared."""
    position: int = 0
    feed_end: int = 0
    """As last seen; what lies between is not even counted in `behind` yet."""
    at_ms: int = 0
    heard_ms: int = 0
    """When the other site last answered."""
    compared: int = 0
    """Objects that a comparison has looked at so far, and how many of them were missing."""
    missing: int = 0
    pulled: int = 0
    """In this life of the puller, with their bytes."""
    received_bytes: int = 0
    behind: Mapping[str, Behind] = field(default_factory=dict)
    """By the name of the class."""
    set_aside: Sequence[str] = ()
    """Keys under which other bytes were here; those are kept in `aside/`."""

    @property
    def is_complete(self) -> bool:
        """Whether everything is here that the other site had when it last answered."""
        none_left = not any(each.items for each in self.behind.values())
        return self.phase == "following" and none_left and self.position >= self.feed_end


def behind(left: Sequence[Task], *, now_ms: int) -> Mapping[str, Behind]:
    """What is left, by class; `now_ms` by the clock there."""
    found = {each.name: Behind() for each in CLASSES}
    for task in left:
        name = _class_name(task.key)
        before = found.get(name, Behind())
        age_s = max(0.0, (now_ms - task.at_ms) / 1000) if task.at_ms else 0.0
        found[name] = Behind(
            before.items + 1, before.bytes + task.size_bytes, max(before.seconds, round(age_s, 3))
        )
    return found


def _class_name(key: str) -> str:
    try:
        return class_of(key).name
    except MainstayError:
        return "unknown"


def write_state(directory: Path, state: PullerState) -> None:
    replace_file(directory / FILE, json.dumps(asdict(state)).encode())


def read_state(directory: Path) -> PullerState | None:
    """None: nobody has pulled here yet, or what is there was torn by a power cut."""
    try:
        said: dict[str, Any] = json.loads((directory / FILE).read_text())
        said["behind"] = {name: Behind(**each) for name, each in said["behind"].items()}
        said["set_aside"] = tuple(map(str, said["set_aside"]))
        state = PullerState(**said)
        return state if state.phase in get_args(Phase) else None
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def pause(directory: Path, because: str = "") -> None:
    """Ask the puller to rest. It does so within a second or two, also after it is started anew."""
    replace_file(directory / PAUSED, because.encode(), durable=True)


def resume(directory: Path) -> None:
    (directory / PAUSED).unlink(missing_ok=True)


def why_paused(directory: Path) -> str | None:
    """None: it is not."""
    try:
        return (directory / PAUSED).read_text() or "`mainstay replica pause` was asked for here"
    except OSError:
        return None
