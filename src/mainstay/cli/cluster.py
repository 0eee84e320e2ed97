"""`mainstay cluster`: a whole cluster on this machine, to look at and to break."""

import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click

from mainstay.cli.frame import json_option, show, table
from mainstay.foundation.clock import SYSTEM, iso8601
from mainstay.foundation.errors import Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.provision.local import LocalStack, control, leftovers
from mainstay.provision.local.demo import Demo, Picture
from mainstay.provision.local.pushing import Pusher, Tally

_USUAL_DIRECTORY = Path("cluster-demo")
_USUAL_PORTS = (8080, 2222)
_COLOURS = {"down": "red", "frozen": "cyan", "starting": "yellow"}
_STOP_S_MAX = 120.0
_SLOW_S = 2.0
_MEMBER = click.argument("member", default="")


class NoDemo(Unavailable):
    """There is nobody to ask."""


@click.group
def command() -> None:
    """A whole cluster on this machine, to look at and to break."""


@command.group(invoke_without_command=True)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=_USUAL_DIRECTORY,
    show_default=True,
    help="Where it keeps everything; removed at the end.",
)
@click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True, help="How many nodes.")
@click.option(
    "--store",
    type=click.Choice(["rgw", "directory"]),
    default="rgw",
    show_default=True,
    help="Ceph's S3 gateway, or a directory that all nodes share.",
)
@json_option
@click.pass_context
def demo(context: click.Context, directory: Path, nodes: int, store: Any, as_json: bool) -> None:
    """Run a cluster until Ctrl-C: nodes, PostgreSQL that fails over, an S3 store, Redis, HAProxy.

    From another terminal `mainstay cluster demo kill node2` (or database, redis, store, lb) breaks it,
    `start` heals it, `push` pushes in a loop and counts.
    """
    context.obj = directory.absolute()
    if context.invoked_subcommand is None:
        _run(context.obj, nodes=nodes, store=store, as_json=as_json)


@demo.command("kill")
@click.argument("member")
@click.pass_obj
def kill(directory: Path, member: str) -> None:
    """Kill a part: nodeN, database (the primary), databaseN (its whole machine), etcd, redis, store, lb."""
    click.echo(_ask(directory, "kill", member)["said"])


@demo.command("freeze")
@click.argument("member")
@click.pass_obj
def freeze(directory: Path, member: str) -> None:
    """Stop a part in its tracks: it takes connections and answers nothing."""
    click.echo(_ask(directory, "freeze", member)["said"])


@demo.command("thaw")
@click.argument("member")
@click.pass_obj
def thaw(directory: Path, member: str) -> None:
    """Let a frozen part go on."""
    click.echo(_ask(directory, "thaw", member)["said"])


@demo.command("start")
@_MEMBER
@click.pass_obj
def start(directory: Path, member: str) -> None:
    """Bring back what was killed or frozen; without a name everything."""
    click.echo(_ask(directory, "start", member)["said"])


@demo.command("status")
@json_option
@click.pass_obj
def status(directory: Path, as_json: bool) -> int:
    """Show all parts. Exit code 0: everything is up; 1: something is not."""
    answer = _ask(directory, "status")
    rows = [tuple(member.values()) for member in answer["members"]]
    text = "\n".join([f"The demo is {answer['phase']}: {answer['http']}, {answer['ssh']}", "", _table(rows)])
    show(answer, as_json=as_json, text=text)
    all_up = all(member["state"] == "up" for member in answer["members"])
    return 0 if answer["phase"] == "ready" and all_up else 1


@demo.command("stop")
@click.pass_obj
def stop(directory: Path) -> None:
    """End the demo and wait until nothing is left. Also cleans up after one that was killed."""
    if leftovers.is_held(directory):
        click.echo(_ask(directory, "stop")["said"])
        if not _comes_true(lambda: not leftovers.is_held(directory), within_s=_STOP_S_MAX):
            raise NoDemo(f"the demo in {directory} does not end")
    elif directory.exists():
        with leftovers.held(directory):
            ended = leftovers.clean(directory)
            leftovers.remove(directory)
        click.echo(f"no demo runs; {ended} processes of an earlier one were ended and its files removed")
    else:
        click.echo(f"no demo runs in {directory}")


@demo.command("push")
@click.option("--count", type=click.IntRange(1), help="How many pushes.  [default: until Ctrl-C]")
@json_option
@click.pass_obj
def push(directory: Path, count: int | None, as_json: bool) -> int:
    """Push in a loop through the balancer, then look whether everything acknowledged is there.

    Exit code 0: nothing was lost and nothing failed.
    """
    picture = _ask(directory, "status")
    url = f"{picture['http']}/root/pushes-{new_ulid().lower()}.git"
    pusher = Pusher(url, user="root", password=picture["root_password"])
    over = threading.Event()
    with _on_signals(over.set):
        click.echo(f"pushing to {url}; Ctrl-C ends it and counts", err=True)
        tally = pusher.run(
            may_go_on=lambda: not over.is_set() and (count is None or pusher.pushes < count),
            on_push=_tell_push,
        )
    show(asdict(tally), as_json=as_json, text=tally.sentence())
    return 0 if tally.lost == tally.failed == 0 else 1


def _tell_push(tally: Tally, took_s: float, problem: str) -> None:
    """A line that stays for what is worth it, and one that is written over for the rest."""
    number = tally.acknowledged + tally.failed
    if problem:
        _say(f"push {number} was tried again, {took_s:.1f} s in all: {problem}")
    elif took_s >= _SLOW_S:
        _say(f"push {number} took {took_s:.1f} s")
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{tally.sentence()}", err=True, nl=False)


def _say(sentence: str) -> None:
    click.echo(f"\r\x1b[K{sentence}" if sys.stderr.isatty() else sentence, err=True)


def _run(directory: Path, *, nodes: int, store: Any, as_json: bool) -> None:
    screen = _Screen(as_json=as_json)

    def make_stack(where: Path) -> LocalStack:
        http, ssh = (_if_free(port) for port in _USUAL_PORTS)
        return LocalStack(
            where, nodes=nodes, store=store, durable=True, balancer_ports=(http, ssh), tell=screen.tell
        )

    run = Demo(directory, make_stack, tell=screen.tell)
    with _on_signals(run.ask_to_stop):
        screen.tell("starting: PostgreSQL and etcd, the object store, Redis, HAProxy, then the nodes")
        run.run(on_ready=screen.ready, on_tick=screen.draw)


class _Screen:
    """Lines of what happened, and below them, on a terminal, a table that is drawn over and over."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._is_live = sys.stdout.isatty() and not as_json
        self._drawn = 0
        self._lock = threading.Lock()

    def tell(self, sentence: str) -> None:
        at = iso8601(SYSTEM.now_ms())
        with self._lock:
            self._erase()
            line = json.dumps({"at": at, "said": sentence}) if self._as_json else f"{at[11:19]} {sentence}"
            print(line, flush=True)

    def ready(self, picture: Picture) -> None:
        with self._lock:
            self._erase()
            print(json.dumps(asdict(picture)) if self._as_json else _welcome(picture), flush=True)
            if not self._as_json and not self._is_live:
                print(_table([tuple(asdict(member).values()) for member in picture.members]), flush=True)
        self.draw(picture)

    def draw(self, picture: Picture) -> None:
        if not self._is_live:
            return
        head, *lines = _table([tuple(asdict(member).values()) for member in picture.members]).splitlines()
        width = shutil.get_terminal_size().columns - 1
        coloured = [
            click.style(line[:width], fg=_COLOURS.get(member.state))
            for line, member in zip(lines, picture.members, strict=True)
        ]
        with self._lock:
            self._erase()
            print("\n".join(["", head[:width], *coloured]), flush=True)
            self._drawn = len(lines) + 2

    def _erase(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}A\x1b[J", end="")
            self._drawn = 0


def _welcome(picture: Picture) -> str:
    us = f"{_ourselves()} cluster demo"
    if Path(picture.directory) != _USUAL_DIRECTORY.absolute():
        us += f" --directory {picture.directory}"
    return f"""
  A cluster is ready. Any node answers, through the balancer:

    HTTP      {picture.http}
    SSH       {picture.ssh}
    user      root, password {picture.root_password}

  Push in a loop from a second terminal, and break something from a third:

    {us} push
    {us} kill node2        # or: database, redis, store, lb; freeze instead of kill
    {us} start             # brings back whatever was killed

  Everything is in {picture.directory}. Ctrl-C stops it and removes that.
"""


def _ourselves() -> str:
    """What to type to reach this program."""
    return "mainstay" if shutil.which("mainstay") else os.path.relpath(sys.argv[0])


def _table(rows: Sequence[Sequence[Any]]) -> str:
    return table(["name", "what", "state", "role", "address"], rows)


def _ask(directory: Path, do: str, member: str = "") -> control.Answer:
    notes = leftovers.read_notes(directory) if leftovers.is_held(directory) else None
    if notes is None:
        raise NoDemo(f"no demo runs in {directory}; start one with `mainstay cluster demo`")
    return control.ask(notes.control_port, notes.token, do, member)


def _if_free(port: int) -> int | None:
    """The port that people know, unless somebody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return None
    return port


def _comes_true(condition: Any, *, within_s: float) -> bool:
    until_s = SYSTEM.monotonic_s() + within_s
    pause = threading.Event()
    while not condition():
        if SYSTEM.monotonic_s() > until_s:
            return False
        pause.wait(0.1)
    return True


@contextmanager
def _on_signals(do: Any) -> Iterator[None]:
    """Ctrl-C and SIGTERM as a call, for the length of the block."""

    def heard(_number: int, _frame: FrameType | None) -> None:
        do()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, heard) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
