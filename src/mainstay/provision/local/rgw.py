"""A real S3 server that checks signatures and keeps what it was given: Ceph's gateway on one disk of a file.

Now and then one of Ceph's programs (16.2) speaks to the monitor before it was told the cluster's id; it is
refused and gives up. A service manager would start it again, and so do we.

A monitor, an object daemon (BlueStore in a sparse file) and the gateway, ready in about 9 s, and after
`kill()` again in about 6.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from mainstay.foundation.retry import Schedule, retry
from mainstay.provision.local.member import Place, is_listening, plain_environment
from mainstay.provision.local.store import S3Member
from mainstay.provision.processes import Command
from mainstay.provision.programs import rgw_root
from mainstay.provision.waiting import StackFailed, wait_until

_COMMAND_S_MAX = 120.0
_TRIES_MAX = 10
_READY = b"booting -> active"
_DISK_BYTES = 8 << 30
"""Of the sparse file; it takes what is stored."""


class Rgw(S3Member):
    """The three processes as one member."""

    what = "Ceph RGW, S3"

    start_s_max = 120.0

    def __init__(self, *, place: Place, directory: Path) -> None:
        super().__init__(place=place, directory=directory)
        self._root = rgw_root()
        self._home = directory / "ceph"
        self._configuration = self._home / "ceph.conf"
        self._monitor_port = self._reserve_port()
        self._cluster_id = str(uuid.uuid4())

    def _launch(self) -> None:
        is_new = not self._configuration.exists()
        if is_new:
            self._prepare_monitor()
        self._serve("ceph-mon", "-f", "-i", "a")
        wait_until(
            lambda: is_listening(self.place.host, self._monitor_port),
            within_s=self.start_s_max,
            what="start of Ceph's monitor",
            log=self.log,
            still_possible=self.is_running,
        )
        if is_new:
            self._prepare_disk()
        self._keep_serving("ceph-osd", ["-f", "-i", "0"], self._disk_news())
        if is_new:
            self._make_user()
        self._keep_serving("radosgw", ["-f", "-n", "client.admin"], super()._answers)

    def _prepare_monitor(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        for part in ("osd", "rgw"):
            (self._home / part).mkdir(parents=True)
        self._configuration.write_text(self._configuration_text())
        keyring, monitors = str(self._home / "keyring"), str(self._home / "monmap")
        everything = ["--cap", "mon", "allow *"]
        self._tool("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", *everything)
        self._tool(
            "ceph-authtool",
            keyring,
            "--gen-key",
            "-n",
            "client.admin",
            *everything,
            "--cap",
            "osd",
            "allow *",
        )
        where = ["--addv", "a", f"[v1:{self.place.host}:{self._monitor_port}]", "--fsid", self._cluster_id]
        self._tool("monmaptool", "--create", "--clobber", *where, monitors)
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--keyring", keyring, "--monmap", monitors)

    def _prepare_disk(self) -> None:
        daemon_id = str(uuid.uuid4())
        # The command line is a Python program for Debian's own Python, whose modules it needs.
        self._tool("ceph", "osd", "new", daemon_id, interpreter="/usr/bin/python3")
        self._tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", daemon_id)

    def _disk_news(self) -> Callable[[], bool]:
        """Whether the object daemon has begun to serve since now."""
        log = self._home / "osd.0.log"
        seen = log.stat().st_size if log.exists() else 0
        return lambda: _READY in _since(log, seen)

    def _keep_serving(self, program: str, arguments: Sequence[str], is_ready: Callable[[], bool]) -> None:
        """Start a daemon and wait until it serves; start it again when it ends."""
        for _ in range(_TRIES_MAX):
            self._serve(program, *arguments)
            daemon = self._processes[-1]
            wait_until(
                lambda: is_ready() or not self._processes[-1].is_running(),
                within_s=self.start_s_max,
                what=f"start of {program}",
                log=self.log,
                still_possible=self.may_start,
            )
            if daemon.is_running():
                return
            self._processes.remove(daemon)
        raise StackFailed(f"{program} ended {_TRIES_MAX} times", log=self.log)

    def _make_user(self) -> None:
        keys = [f"--access-key={self.credentials.access_key}", f"--secret-key={self.credentials.secret_key}"]
        self._tool("radosgw-admin", "user", "create", "--uid=mainstay", "--display-name=mainstay", *keys)

    def _tool(self, program: str, *arguments: str, interpreter: str | None = None) -> None:
        """Run to its end, again when it failed: all of them may be repeated."""
        before = [interpreter] if interpreter else []
        command = self._command([*before, str(self._root / "usr" / "bin" / program), *arguments])
        retry(
            lambda: self._run(command, within_s=_COMMAND_S_MAX),
            on=StackFailed,
            schedule=Schedule(attempts_max=_TRIES_MAX, pause_max_s=0.5),
        )

    def _serve(self, program: str, *arguments: str) -> None:
        self._spawn(self._command([str(self._root / "usr" / "bin" / program), *arguments]))

    def _command(self, argv: list[str]) -> Command:
        bits = f"{os.uname().machine}-linux-gnu"
        libraries = [self._root / "lib" / bits, self._root / "usr" / "lib" / bits]
        libraries.append(libraries[-1] / "ceph")
        environment = plain_environment(
            LD_LIBRARY_PATH=":".join(map(str, libraries)),
            CEPH_CONF=str(self._configuration),
            PYTHONPATH=str(self._root / "usr" / "lib" / "python3" / "dist-packages"),
        )
        return Command(
            argv=argv, environment=environment, directory=self._home, run_prefix=self.place.run_prefix
        )

    def _configuration_text(self) -> str:
        home, host = self._home, self.place.host
        libraries = self._root / "usr" / "lib" / f"{os.uname().machine}-linux-gnu"
        network = f"{host}/8" if host.startswith("127.") else f"{host}/32"
        settings = {
            "fsid": self._cluster_id,
            "mon host": f"v1:{host}:{self._monitor_port}",
            "mon_initial_members": "a",
            "auth_cluster_required": "none",
            "auth_service_required": "none",
            "auth_client_required": "none",
            "osd_pool_default_size": 1,
            "osd_pool_default_min_size": 1,
            "osd_pool_default_pg_num": 4,
            "osd_pool_default_pgp_num": 4,
            "osd_pool_default_pg_autoscale_mode": "off",
            "osd_crush_chooseleaf_type": 0,
            "mon_allow_pool_size_one": "true",
            "mon_max_pg_per_osd": 1000,
            "paxos_propose_interval": 0.05,  # a monitor alone has nobody to gather proposals for
            "paxos_min_wait": 0.01,
            "run_dir": home,
            "log_file": home / "$name.log",
            "admin_socket": home / "$name.asok",
            "mon_data": home / "mon",
            "osd_data": home / "osd",
            "rgw_data": home / "rgw",
            "keyring": home / "keyring",
            "erasure_code_dir": libraries / "ceph" / "erasure-code",
            "plugin_dir": libraries / "ceph",
            "osd_class_dir": libraries / "rados-classes",
            "osd_objectstore": "bluestore",
            "bluestore_block_size": _DISK_BYTES,
            "bluestore_cache_autotune": "false",
            "bluestore_cache_size": 128 << 20,
            "ms_bind_msgr2": "false",
            "public_network": network,
            "cluster_network": network,
            "rgw_frontends": f"beast endpoint={host}:{self.port} tcp_nodelay=1",
        }
        return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


def _since(log: Path, offset: int) -> bytes:
    """What was written to a log after it had this size."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""
