"""Two classes of jobs: what goes on whatever happens, and what can wait while the instance is at rest.

Events of the outbox are always essential, and so are the jobs that do again what failed for one of them.
"""

from collections.abc import Mapping
from enum import StrEnum

_EVENT_JOB = "event:"


class JobClass(StrEnum):
    ESSENTIAL = "essential"
    """Part of a promise: the journal, leases, replicas."""
    UPKEEP = "upkeep"
    """Tidies up. Paused during maintenance; what is due meanwhile is done afterwards."""


def class_of(name: str, classes: Mapping[str, JobClass]) -> JobClass:
    """The class of a job; one that nobody knows is of another version and is not taken here anyway."""
    if name.startswith(_EVENT_JOB):
        return JobClass.ESSENTIAL
    return classes.get(name, JobClass.UPKEEP)
