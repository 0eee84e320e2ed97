"""Who may do what, from what was seen, and why. Nothing here reads or does anything."""

from dataclasses import dataclass

from mainstay.cluster.witness import Record, Seen


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its reason, which is logged, shown and asserted."""

    is_allowed: bool
    because: str

    def __bool__(self) -> bool:
        return self.is_allowed


def may_write(*, until_s: float | None, now_s: float) -> Verdict:
    """Whether a primary goes on. `until_s`: the end of what it may use of its lease, on its own clock."""
    if until_s is None:
        return Verdict(False, "no lease was granted yet")
    if now_s >= until_s:
        return Verdict(False, f"the lease ended {now_s - until_s:.1f} s ago")
    return Verdict(True, f"the lease lasts {until_s - now_s:.1f} s more")


def may_take_over(
    seen: Seen | None, *, me: str, position: int, promised_left_s: float, in_recovery: bool = True
) -> Verdict:
    """Whether a replica takes over. `position`: what it has of the database's log, safe on its own disk.

    `promised_left_s`: how long it has promised the primary to wait, or might have before it was restarted.
    """
    if seen is None:
        return Verdict(
            False, "the witness has no record: it is new, or has lost it; somebody has to enrol again"
        )
    record = seen.record
    left_s = record.term_ms / 1000 - seen.age_s
    obstacles = [
        (record.primary == me, "the witness names this site already"),
        (not in_recovery, "the database of this site is not that of a replica"),
        (not record.standby, "the primary has told the witness that no replica has everything"),
        (record.standby != me, "another site is the synchronous replica"),
        (left_s > 0, f"the lease of the primary may last {left_s:.1f} s more"),
        (promised_left_s > 0, f"this site has promised to wait, for {promised_left_s:.1f} s more"),
        (
            position < record.position,
            f"this site is at {position} and was at {record.position} when the primary last renewed",
        ),
    ]
    for is_met, because in obstacles:
        if is_met:
            return Verdict(False, because)
    return Verdict(
        True,
        f"the primary has not renewed for {seen.age_s:.1f} s, and this site has all that it acknowledged",
    )


def may_acknowledge_alone(confirmed: Record | None, *, attempted: str | None) -> Verdict:
    """Whether a primary may acknowledge what no replica has.

    `confirmed` is its own record as the witness last confirmed it, `attempted` the standby in a change that
    was sent and not answered. As long as the witness may name a replica, that one may take over.
    """
    if confirmed is None:
        return Verdict(False, "the witness has confirmed nothing yet")
    if confirmed.standby:
        return Verdict(False, "the witness names a synchronous replica, which has to confirm each commit")
    if attempted:
        return Verdict(False, "the witness may have been told of a synchronous replica")
    return Verdict(True, "the witness knows that no replica has everything, so none takes over")


def may_promise(*, is_taking_over: bool, epoch: int, highest: int, settled_left_s: float = 0) -> Verdict:
    """Whether a replica promises the primary of `epoch` not to take over for a term.

    `settled_left_s`: until then a question that it asked before it was restarted may still be granted.
    """
    if settled_left_s > 0:
        return Verdict(
            False, f"this site was started just now, and promises nothing for {settled_left_s:.1f} s"
        )
    if is_taking_over:
        return Verdict(False, "this site is taking over")
    if epoch < highest:
        return Verdict(False, f"epoch {epoch} is over: this site has seen {highest}")
    return Verdict(True, "this site waits for a term from now on")


def refusal_of_automatic(*, sites: int, has_witness: bool, is_synchronous: bool) -> str | None:
    """Why automatic failover cannot be switched on; None when it can."""
    if sites < 2:  # noqa: PLR2004 - one cannot take over from itself
        return "automatic failover needs a second site: add one with `mainstay replica add`"
    if not has_witness:
        return (
            "two machines that do not hear each other cannot tell a dead partner from a cut cable, so each"
            " would take over and both would take pushes. Automatic failover needs a third vote: run"
            " `mainstay witness serve` on a third machine, or name a bucket. Until then a person promotes"
        )
    if not is_synchronous:
        return (
            "an asynchronous replica may lack what was acknowledged last, so promoting it is a decision for a"
            " person: `mainstay promote` prints what would be lost. Automatic failover needs --mode sync"
        )
    return None
