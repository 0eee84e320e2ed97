"""The runbooks for sites, followed as they are written: the commands are read from the page.

Only addresses are others here: all machines are this one.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.long import only_long
from support.managed import roomy_path
from support.node import Node
from support.pushes import Pushes, workplace
from support.replicas import ReplicaNode, free_address, two_sites
from support.servers import wait_until

__all__ = ["roomy_path"]

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("managed-postgresql")]

PAGE = Path(__file__).parents[2] / "docs" / "run" / "runbooks.md"
_LINE = re.compile(r"^    (?P<machine>\w+)\$ (?P<command>[^#]+?)(?:\s+#\s*(?P<remark>.*))?$")
_S_MAX = 90


@dataclass(frozen=True)
class Step:
    machine: str
    command: str
    remark: str

    @property
    def waits(self) -> bool:
        return self.remark.startswith("wait")

    @property
    def code(self) -> int:
        found = re.match(r"(?:wait for )?exit code (\d+)", self.remark)
        return int(found[1]) if found else 0


def runbooks() -> dict[str, list[Step]]:
    """By heading, in the order of the page."""
    found: dict[str, list[Step]] = {}
    title = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
            found[title] = []
        elif step := _LINE.match(line):
            found[title].append(Step(step["machine"], step["command"].strip(), step["remark"] or ""))
    return found


@dataclass(kw_only=True)
class Room(Pushes):
    """The machines of the page."""

    nodes: dict[str, Node]
    token: str = ""

    def follow(self, title: str) -> None:
        steps = runbooks()[title]
        assert steps, f"{PAGE} has no runbook {title!r}"
        for step in steps:
            self._take(step)

    def _take(self, step: Step) -> None:
        node = self.nodes[step.machine]
        if step.command == "systemctl stop mainstay":
            assert node.stop() == 0, node.log_end()
        elif step.command == "systemctl start mainstay":
            node.start()
        elif step.waits:
            wait_until(lambda: self._run(node, step) == step.code, timeout_s=_S_MAX, what=step.command)
        else:
            assert self._run(node, step) == step.code, step.command

    def _run(self, node: Node, step: Step) -> int:
        words = shlex.split(self._with_our_addresses(step.command))
        assert words[0] == "mainstay", step.command
        done = node.run(*words[1:], check=False)
        print(f"{step.machine}$ {step.command}: {done.returncode}\n{done.stdout}{done.stderr}")
        if words[1:] == ["replica", "token"]:
            self.token = done.stdout.strip()
        return done.returncode

    def _with_our_addresses(self, command: str) -> str:
        sites = self.nodes["paris"].environment["MAINSTAY_SITES"]
        ours = f" --sites {free_address()} --http 127.0.0.1:0 --ssh 127.0.0.1:0"
        said = command.replace("https://paris:7443", f"https://{sites}").replace("TOKEN", self.token)
        return said + (ours if " replica add " in command else "")

    def check(self, machine: str) -> None:
        """It takes pushes, and has all that were acknowledged."""
        node = self.nodes[machine]
        wait_until(lambda: self.push(node), timeout_s=_S_MAX, what=f"a push to {machine}")
        assert not self.lacking(node)


@pytest.fixture
def room(roomy_path: Path, tmp_path: Path) -> Iterator[Room]:
    with two_sites(roomy_path, mode="sync") as sites:
        oslo = ReplicaNode(roomy_path / "oslo")
        git, work = workplace(tmp_path)
        nodes: dict[str, Node] = {"paris": sites.paris, "berlin": sites.berlin, "oslo": oslo}
        made = Room(git=git, work=work, password=sites.paris.root_password(), nodes=nodes)
        wait_until(lambda: made.push(sites.paris), timeout_s=_S_MAX, what="the first push")
        try:
            yield made
        finally:
            oslo.kill()


def test_every_runbook_of_the_page_is_followed() -> None:
    assert list(runbooks()) == [
        "Planned failover",
        "Disaster: the primary is gone",
        "The old primary comes back",
        "Split brain",
        "Replacing a machine",
        "Adding a site",
    ]
    assert all(steps for steps in runbooks().values())


@only_long
def test_planned_failover(room: Room) -> None:
    room.follow("Planned failover")
    room.check("paris")


@only_long
def test_disaster_and_the_return_of_the_old_primary(room: Room) -> None:
    wait_until(
        lambda: room.nodes["paris"].run("replica", "status", check=False).returncode == 0,
        timeout_s=_S_MAX,
        what="the pair is well",
    )
    assert room.push(room.nodes["paris"])
    room.nodes["paris"].kill()
    room.follow("Disaster: the primary is gone")
    room.check("berlin")
    room.follow("The old primary comes back")
    room.check("berlin")


@only_long
def test_split_brain(room: Room) -> None:
    room.follow("Split brain")
    room.check("berlin")


@only_long
def test_replacing_a_machine(room: Room) -> None:
    room.nodes["berlin"].kill()
    room.follow("Replacing a machine")
    room.check("paris")


@only_long
def test_adding_a_site(room: Room) -> None:
    room.follow("Adding a site")
    room.check("paris")
