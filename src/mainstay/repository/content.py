"""The objects of repositories, by the git of this process: one of the two behind `face.ContentFace`.

Each question is answered by a short git process or two, in a pinned local copy; what git writes goes out as
it comes. A git that is killed has said nothing: it is asked once more, and what it does not say then is never
taken for an answer (`NotAnswered`, `BrokenOff`).

What is added is checked by git in quarantine and made durable by `storage.push`, like a push.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mainstay.cache.copies import Copies
from mainstay.cache.refs import visible
from mainstay.foundation.errors import Invalid, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.foundation.logs import get_logger
from mainstay.git.native.place import GitPlace, Limits
from mainstay.git.native.run import GitFailed, GitTookTooLong, run
from mainstay.git.objectnames import Oid, RefName
from mainstay.repository.questions import Addition, Ahead, CommitNamed, History, Objects, Question
from mainstay.storage.ledger import Ledger, Push, Repository
from mainstay.storage.push import PushStore
from mainstay.storage.upload import PackFiles, finished_pack

log = get_logger()

_TRANSPORT = {"transport": "api"}
_WALK = Limits(wall_s_max=60)
"""Nobody waits longer for a page."""

Hear = Callable[[bytes], None]
Refused = Mapping[RefName, str]


class BrokenOff(Unavailable):
    """An answer broke off in the middle: what was heard is nothing. It may be asked for again."""


class NotAnswered(Unavailable):
    """Git was ended, again, before it had said anything."""


class TooMuchWork(Unavailable):
    """Git was stopped because nobody would have waited so long for its answer."""


class NotTaken(Unavailable):
    """Git was ended while it checked new objects; that says nothing about them."""


class Unsound(Invalid):
    """Git does not take these objects."""


class LocalContent:
    """The objects of every repository, in this process."""

    def __init__(self, *, ledger: Ledger, copies: Copies, pushes: PushStore, scratch: Path) -> None:
        self._ledger = ledger
        self._copies = copies
        self._pushes = pushes
        self._scratch = scratch

    def ask(self, repository_id: int, question: Question, *, hear: Hear) -> None:
        """Tell `hear` the answer, piece by piece."""
        if self._is_answered(repository_id, question, hear):
            return
        if not self._is_answered(repository_id, question, hear):
            raise NotAnswered("git was ended while it looked into the repository: try again")

    def _is_answered(self, repository_id: int, question: Question, hear: Hear) -> bool:
        """False when git was ended before it had said anything."""
        noted = _Noted(hear)
        # Refs first, then the copy: what the refs lead to is in it.
        tips = self._visible_tips(repository_id) if _needs_refs(question) else frozenset()
        try:
            with self._copies.pinned(repository_id) as copy:
                _answer(question, tips, copy.place, noted.hear)
        except GitTookTooLong as failed:
            raise TooMuchWork("this takes too long in so large a repository: it was stopped") from failed
        except GitFailed as failed:
            log.warning("content.git_failed", repository_id=repository_id, reason=str(failed))
            if noted.heard:
                raise BrokenOff("git was ended in the middle of its answer: try again") from failed
            return False
        return True

    def add(self, addition: Addition, pack: BinaryIO) -> Refused:
        """Make new objects and their ref durable. Returns why the ref did not move, if it did not."""
        repository = self._ledger.repository(addition.repository_id)
        with self._checked(repository, pack) as files:
            return commit(addition, repository, [files], pushes=self._pushes)

    def _visible_tips(self, repository_id: int) -> frozenset[Oid]:
        return frozenset(ref.peeled or ref.oid for ref in visible(self._ledger.refs(repository_id)[1]))

    @contextmanager
    def _checked(self, repository: Repository, pack: BinaryIO) -> Iterator[PackFiles]:
        """The pack once git has checked it, in a quarantine that is gone afterwards."""
        quarantine = self._scratch / new_ulid()
        (quarantine / "pack").mkdir(parents=True)
        try:
            with _taken(), self._copies.pinned(repository.id) as copy:
                place = GitPlace(git_dir=copy.place.git_dir, objects=quarantine, alternates=[copy.objects])
                run(place, ["index-pack", "--stdin", "--strict", "--rev-index"], stdin=pack)
            yield _pack_files(repository, quarantine / "pack")
        finally:
            shutil.rmtree(quarantine, ignore_errors=True)


class _Noted:
    """Whether anything was told yet."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self.heard = False

    def hear(self, piece: bytes) -> None:
        self.heard = True
        self._hear(piece)


def commit(
    addition: Addition, repository: Repository, packs: Sequence[PackFiles], *, pushes: PushStore
) -> Refused:
    """The change as a push, with what it brings."""
    push = Push(
        push_id=addition.push_id,
        repository_id=repository.id,
        actor=addition.actor,
        changes=[addition.change],
        prune_epoch=repository.prune_epoch,
        packs=[each.pack for each in packs],
        atomic=True,
        details=_TRANSPORT,
    )
    return pushes.commit(push, repository, packs).refused


def _needs_refs(question: Question) -> bool:
    return isinstance(question, CommitNamed) and question.visible


def _answer(question: Question, tips: frozenset[Oid], place: GitPlace, hear: Hear) -> None:
    if isinstance(question, Objects):
        _tell_objects(question.oids, place, hear)
    elif isinstance(question, History):
        _tell_objects(_listed(question, place), place, hear)
    elif isinstance(question, Ahead):
        _tell_ahead(question, place, hear)
    elif (found := _commit_named(question.digits, place)) and (
        not question.visible or _leads_to(tips, found, place)
    ):
        hear(f"{found}\n".encode())


def _tell_objects(oids: Sequence[Oid], place: GitPlace, hear: Hear) -> None:
    run(place, ["cat-file", "--batch"], stdin="".join(f"{name}\n" for name in oids).encode(), hear=hear)


def _listed(question: History, place: GitPlace) -> list[Oid]:
    arguments = ["rev-list", f"--max-count={question.limit}", f"--skip={question.skip}", "--stdin"]
    found = run(place, arguments, stdin=f"{question.start}\n".encode(), limits=_WALK)
    return [Oid(line) for line in found.stdout.decode().split()]


def _tell_ahead(question: Ahead, place: GitPlace, hear: Hear) -> None:
    """Git lists every commit that `into` lacks; only the tips among them are kept."""
    wanted = {tip.encode() for tip in question.tips}
    found: set[bytes] = set()
    rest = b""

    def sift(chunk: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + chunk).split(b"\n")
        found.update(wanted.intersection(lines))

    asked = "".join(f"{tip}\n" for tip in question.tips) + f"^{question.into}\n"
    run(place, ["rev-list", "--stdin"], stdin=asked.encode(), limits=_WALK, hear=sift)
    for each in sorted(found):
        hear(each + b"\n")


def _commit_named(digits: str, place: GitPlace) -> Oid | None:
    """The commit that an object name, or the beginning of one, means. Anything that is no commit is None."""
    asked = f"{digits}^{{commit}}\n".encode()
    words = run(place, ["cat-file", "--batch-check"], stdin=asked).stdout.decode("utf-8", "replace").split()
    return Oid(words[0]) if len(words) == 3 and words[1] == "commit" else None  # noqa: PLR2004 - name, type, size


def _leads_to(tips: frozenset[Oid], found: Oid, place: GitPlace) -> bool:
    """Whether one of `tips` is this commit or has it in its history."""
    if not tips or found in tips:
        return bool(tips)
    lines = f"{found}\n" + "".join(f"^{tip}\n" for tip in sorted(tips))
    left = run(place, ["rev-list", "--max-count=1", "--stdin"], stdin=lines.encode(), limits=_WALK)
    return not left.stdout.strip()


@contextmanager
def _taken() -> Iterator[None]:
    try:
        yield
    except GitFailed as failed:
        if failed.is_verdict:
            raise Unsound("git does not take these objects") from failed
        raise NotTaken("git was ended while it checked the objects: try again; nothing changed") from failed


def _pack_files(repository: Repository, directory: Path) -> PackFiles:
    """What index-pack left: `pack-<hash>.pack`, `.idx` and `.rev`."""
    files = {path.suffix.removeprefix("."): path for path in directory.iterdir() if path.suffix != ".keep"}
    return finished_pack(repository, files, objects=_objects_in(files["pack"]), kind="receive")


def _objects_in(pack: Path) -> int:
    """As its header says, which git has checked."""
    with pack.open("rb") as stream:
        return int.from_bytes(stream.read(12)[8:])
