"""Hosts on one machine: network namespaces on one bridge, whose cables can be pulled, cut and slowed.

    with Network() as network:
        one, two = network.host("one"), network.host("two")
        process = subprocess.Popen([*one.prefix, "server", "--listen", one.address])
        with network.cut(one, two): ...            # both ways, nothing is answered
        with network.cut(one, two, both=False): ...  # what `one` sends still arrives at `two`; answers do not

Everything has the process id in its name and goes away at the end. The test process itself reaches every
host from `network.gateway`. Needs root, `ip` and `iptables`; `why_not()` says what is missing.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_COMMAND_S_MAX = 20
_HOSTS_MAX = 200
_IPTABLES = ("iptables-legacy", "iptables")


def why_not() -> str:
    """Empty when networks can be made here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if not any(map(shutil.which, _IPTABLES)):
        missing.append("iptables")
    if missing:
        return f"network namespaces need {', '.join(missing)}"
    probe = f"mst{os.getpid()}p"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    _run("ip", "netns", "delete", probe)
    return ""


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace."""

    name: str
    namespace: str
    address: str
    cable: str
    """The end of its cable at the bridge."""

    @property
    def prefix(self) -> list[str]:
        """In front of a command: run it there."""
        return ["ip", "netns", "exec", self.namespace]


class Network:
    """A bridge in a namespace of its own, and hosts on it."""

    def __init__(self) -> None:
        self._tag = f"mst{os.getpid()}"
        self._hub = f"{self._tag}hub"
        self._octet = _free_octet(os.getpid())
        self._hosts: dict[str, Host] = {}
        self.gateway = self._address(254)
        self.block = f"10.{self._octet}.77.0/24"
        self._iptables = next(name for name in _IPTABLES if shutil.which(name))

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()

    def host(self, name: str) -> Host:
        """The host of this name, made now if it is not there."""
        if name not in self._hosts:
            assert len(self._hosts) < _HOSTS_MAX
            number = len(self._hosts) + 1
            namespace, cable = f"{self._tag}{name}", f"{self._tag}c{number}"
            made = Host(name, namespace, self._address(number), cable)
            self._plug(made)
            self._hosts[name] = made
        return self._hosts[name]

    # Faults
    @contextmanager
    def cut(self, one: Host, two: Host, *, both: bool = True) -> Iterator[None]:
        """Nothing that `two` sends arrives at `one`; with `both`, nor the other way."""
        directions = [(one, two), (two, one)] if both else [(one, two)]
        for at, source in directions:
            self._filter(at, "-I", "-s", source.address)
        try:
            yield
        finally:
            for at, source in directions:
                self._filter(at, "-D", "-s", source.address)

    @contextmanager
    def isolated(self, host: Host) -> Iterator[None]:
        """Its cable is pulled: no resets, no answers, and its own sockets notice nothing."""
        _run("ip", "-n", self._hub, "link", "set", host.cable, "down")
        try:
            yield
        finally:
            _run("ip", "-n", self._hub, "link", "set", host.cable, "up")

    @contextmanager
    def lossy(self, host: Host, *, share: float) -> Iterator[None]:
        """A part of the packets that reach `host` is lost."""
        rule = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}")
        self._filter(host, "-I", *rule)
        try:
            yield
        finally:
            self._filter(host, "-D", *rule)

    @contextmanager
    def slow(self, host: Host, *, kbit: int) -> Iterator[None]:
        """What `host` sends goes through a thin pipe."""
        shape = ["rate", f"{kbit}kbit", "burst", "16kb", "latency", "400ms"]
        _run(*host.prefix, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *shape)
        try:
            yield
        finally:
            _run(*host.prefix, "tc", "qdisc", "delete", "dev", "eth0", "root")

    # Making
    def _build(self) -> None:
        _run("ip", "netns", "add", self._hub)
        _run("ip", "-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self._hub, "link", "set", "bridge", "up")
        ours, theirs = f"{self._tag}g", f"{self._tag}h"
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self._hub)
        self._attach(theirs)
        _run("ip", "address", "add", f"{self.gateway}/24", "dev", ours)
        _run("ip", "link", "set", ours, "up")

    def _plug(self, host: Host) -> None:
        inside = ["ip", "-n", host.namespace]
        _run("ip", "netns", "add", host.namespace)
        _run("ip", "-n", self._hub, "link", "add", host.cable, "type", "veth", "peer", "name", "eth0",
             "netns", host.namespace)  # fmt: skip
        self._attach(host.cable)
        _run(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        _run(*inside, "link", "set", "lo", "up")

    def _attach(self, cable: str) -> None:
        _run("ip", "-n", self._hub, "link", "set", cable, "master", "bridge")
        _run("ip", "-n", self._hub, "link", "set", cable, "up")

    def _filter(self, host: Host, action: str, *rule: str) -> None:
        _run(*host.prefix, self._iptables, "-w", "5", action, "INPUT", *rule, "-j", "DROP")

    def _tear_down(self) -> None:
        """Deleting a namespace deletes its cables; whoever still runs in one is the business of its maker."""
        for name in [*(host.namespace for host in self._hosts.values()), self._hub]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", f"{self._tag}g"], capture_output=True, check=False)

    def _address(self, number: int) -> str:
        return f"10.{self._octet}.77.{number}"


def _free_octet(start: int) -> int:
    """So that `10.X.77.0/24` is nobody's: one that was killed may have left its bridge."""
    taken = subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True, check=False).stdout
    octets = (64 + (start + step) % 128 for step in range(128))
    return next(octet for octet in octets if f"10.{octet}.77." not in taken)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S_MAX, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
