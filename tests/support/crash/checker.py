"""After a crash: was anything lost, is anything half, does anything lead nowhere?

`violations` looks at the truth itself, past all caches, and at what the pusher had been told. It returns
sentences, empty when all is well, so that a test of the suite can ask for them.

    no acknowledged push is lost            every ref reported `ok` has its new value
    `ng` changed nothing                    every ref reported otherwise has its old value
    no half push                            without a report: all refs moved or none
    no ref leads to a missing object        git itself looks at the packs of the object store
    the log is sound                        the chain, the manifest and the journal, as `mainstay fsck`
    nothing is forgotten                    one event for each committed push
    nothing is left over                    after the sweeper came by, the store holds no orphan
"""

import subprocess
import tempfile
import time
from pathlib import Path

from mainstay.foundation.clock import SYSTEM, ManualClock
from mainstay.storage.check import check
from mainstay.storage.journal import catch_up
from mainstay.storage.sweep import audit, sweep
from support.crash.history import Attempt, History
from support.crash.world import Truth, World, repository_id

_MONTH_S = 30 * 24 * 3600
_CLEANED_S_MAX = 10.0
_POLL_S = 0.02


def violations(world: World, history: History, attempt: Attempt, report: dict[str, str] | None) -> list[str]:
    """Look at the truth; nothing of the instance needs to run. Afterwards `history.refs` is what is."""
    with world.opened() as truth:
        number = repository_id(truth, history.path)
        if number is None:
            lost = report is not None and "ok" in report.values()
            return ["the project of an acknowledged push is not there"] if lost else []
        refs = refs_of(truth, number)
        found = [
            *judge(history.refs, attempt, report, refs),
            *object_findings(truth, number, refs),
            *log_findings(truth, number),
            *_event_findings(truth, history, number),
        ]
    found += leftovers(world)
    history.refs = refs
    return found


def judge(
    before: dict[str, str], attempt: Attempt, report: dict[str, str] | None, now: dict[str, str]
) -> list[str]:
    """What is wrong with the refs, as pure arithmetic of what was, what was said and what is."""
    after = attempt.after(before)
    asked = {ref for ref, _, _ in attempt.updates}
    changed = {ref for ref in before.keys() | now.keys() if before.get(ref) != now.get(ref)}
    found = [f"{ref} changed and nobody asked for it" for ref in sorted(changed - asked)]
    found += [
        f"{ref} is {now.get(ref)}, neither old nor new"
        for ref in sorted(changed & asked)
        if now.get(ref) != after.get(ref)
    ]
    for ref, said in (report or {}).items():
        if said == "ok" and now.get(ref) != after.get(ref):
            found.append(f"{ref} was acknowledged and is lost")
        if said != "ok" and now.get(ref) != before.get(ref):
            found.append(f"{ref} was refused ({said}) and has moved")
    if changed and changed != asked:
        found.append(f"half a push: of {sorted(asked)} only {sorted(changed)} moved")
    return found


def refs_of(truth: Truth, number: int) -> dict[str, str]:
    return {ref.name.decode(): ref.oid for ref in truth.ledger.refs(number)[1]}


def object_findings(truth: Truth, number: int, refs: dict[str, str]) -> list[str]:
    """Put the packs of the manifest and the refs into a fresh repository and let git look at it."""
    with tempfile.TemporaryDirectory(prefix="mainstay-crash-") as directory:
        bare = Path(directory)
        for folder in ("objects/pack", "refs"):
            (bare / folder).mkdir(parents=True)
        (bare / "HEAD").write_text("ref: refs/heads/main\n")
        (bare / "config").write_text("[core]\nrepositoryformatversion = 0\nbare = true\n")
        (bare / "packed-refs").write_text("".join(f"{oid} {ref}\n" for ref, oid in sorted(refs.items())))
        for pack in truth.ledger.packs(number)[2]:
            for ending in ("pack", "idx"):
                if truth.objects.size_bytes(f"{pack.key}.{ending}") is None:
                    return [f"the manifest names {pack.key}.{ending}, which is not stored"]
                truth.objects.fetch(f"{pack.key}.{ending}", bare / f"objects/pack/pack-{pack.id}.{ending}")
        done = subprocess.run(
            ["git", "--git-dir", str(bare), "fsck", "--full", "--no-dangling", "--no-progress"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    return [] if done.returncode == 0 else [f"git fsck: {done.stdout}{done.stderr}"]


def log_findings(truth: Truth, number: int) -> list[str]:
    """The first half of `mainstay fsck`, after the journal has caught up."""
    while catch_up(truth.ledger, truth.objects, limit=100).changes == 100:
        pass
    found = check(truth.ledger, truth.objects, database=truth.database, repository=number, deep=True)
    return [f"{each.severity}: {each.message}" for each in found]


def _event_findings(truth: Truth, history: History, number: int) -> list[str]:
    """Each committed push has left one event, and nothing else has."""
    changes = truth.ledger.changes(number, after=history.checked_version)
    history.checked_version = changes[-1].version if changes else history.checked_version
    due = sorted(change.version for change in changes if change.kind == "push")
    events = truth.ledger.take_events(owner="crash suite", lease_s=60, limit=1000)
    truth.ledger.finish_events([event.id for event in events])
    found = sorted(
        event.payload["version"] for event in events if event.payload.get("repository_id") == number
    )
    return [] if found == due else [f"pushes {due} were committed, events tell of {found}"]


def leftovers(world: World) -> list[str]:
    """A month later: the sweeper came by, and nothing is in the store that no row names."""
    later = ManualClock(SYSTEM.now_ms())
    later.advance(_MONTH_S)
    with world.opened(clock=later) as truth:
        sweep(truth.ledger, truth.objects, clock=later)
        report = audit(truth.ledger, truth.objects, clock=later)
        prepared = [each.key for each in truth.objects.list("journal/") if "/prepared/" in each.key]
    found = [f"orphan {each.key}" for each in report.examples]
    found += [f"prepared record {key}" for key in prepared]
    # Opening the store has removed the temporary files of processes that died.
    return found + [f"temporary {path.name}" for path in (world.data / "objects").glob(".tmp-*")]


def after_restart(world: World, history: History, attempt: Attempt) -> list[str]:
    """The instance runs again: what it shows is the truth, and the same push again does what is left."""
    pusher = world.pusher(history.path)
    try:
        found = (
            [] if not history.refs or pusher.refs() == history.refs else ["the refs shown are not the refs"]
        )
        again = attempt.rebased_on(history.refs)
        if again.updates:
            report = pusher.push(again.updates, again.objects, atomic=again.atomic)
            found += _repeat_findings(report, again)
    finally:
        pusher.close()
    found += violations(world, history, again, None)
    if history.refs != again.after(history.refs):
        found.append("the repeated push did not arrive")
    return found + _quarantine_findings(world)


def _quarantine_findings(world: World) -> list[str]:
    """The directories of ended pushes go away, if a moment after the answer."""
    deadline = time.monotonic() + _CLEANED_S_MAX
    while (left := list(world.layout.quarantine.iterdir())) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return [f"quarantine {path.name} is left" for path in left]


def _repeat_findings(report: dict[str, str] | None, again: Attempt) -> list[str]:
    if report is None:
        return ["the repeated push got no answer"]
    return [f"the repeated push of {ref} was refused: {said}" for ref, said in report.items() if said != "ok"]
