"""A real S3 server that checks signatures: Ceph's RADOS gateway, as plain processes on loopback.

One monitor, one object daemon in memory and the gateway; ready in about 17 s, so one per test process.
`tools/rgw.sh fetch` puts the programs into `.servers/rgw`; without them the test is skipped loudly.
"""

import contextlib
import os
import secrets
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3

from support.servers import end, free_port, is_listening, scratch_directory, skip_missing, wait_until

_PROGRAMS = Path(__file__).parents[2] / ".servers" / "rgw"
_COMMAND_S_MAX = 60
_START_S_MAX = 120
_BITS = "x86_64-linux-gnu" if os.uname().machine == "x86_64" else f"{os.uname().machine}-linux-gnu"


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where an S3 server is, and who may use it."""

    endpoint: str
    access_key: str
    secret_key: str

    def new_bucket(self) -> str:
        """Create an empty bucket and return its name."""
        bucket = f"test-{secrets.token_hex(6)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )
        try:
            client.create_bucket(Bucket=bucket)
        finally:
            client.close()
        return bucket


class _Ceph:
    """The processes of one tiny cluster in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._configuration = directory / "ceph.conf"
        self._started: list[subprocess.Popen[bytes]] = []
        self.port = free_port()
        self._monitor_port = free_port()
        self._cluster_id = str(uuid.uuid4())
        for name in ("osd", "rgw"):
            (directory / name).mkdir()
        self._configuration.write_text(self._configuration_text())

    def _configuration_text(self) -> str:
        here, lib = self._directory, _PROGRAMS / "usr" / "lib" / _BITS
        settings = {
            "fsid": self._cluster_id,
            "mon host": f"v1:127.0.0.1:{self._monitor_port}",
            "auth_cluster_required": "none",
            "auth_service_required": "none",
            "auth_client_required": "none",
            "osd_pool_default_size": 1,
            "osd_pool_default_min_size": 1,
            "osd_pool_default_pg_num": 4,
            "osd_pool_default_pgp_num": 4,
            "mon_allow_pool_size_one": "true",
            "osd_crush_chooseleaf_type": 0,
            "mon_max_pg_per_osd": 1000,
            "run_dir": here,
            "log_file": here / "$name.log",
            "admin_socket": here / "$name.asok",
            "mon_data": here / "mon",
            "osd_data": here / "osd",
            "rgw_data": here / "rgw",
            "keyring": here / "keyring",
            "erasure_code_dir": lib / "ceph" / "erasure-code",
            "plugin_dir": lib / "ceph",
            "osd_class_dir": lib / "rados-classes",
            "osd_objectstore": "memstore",
            "memstore_device_bytes": 4 << 30,
            "ms_bind_msgr2": "false",
            "public_network": "127.0.0.0/8",
            "cluster_network": "127.0.0.0/8",
            "rgw_frontends": f"beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1",
        }
        return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())

    def _environment(self) -> dict[str, str]:
        libraries = [_PROGRAMS / "lib" / _BITS, _PROGRAMS / "usr" / "lib" / _BITS]
        libraries.append(libraries[-1] / "ceph")
        return {
            "PATH": "/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "CEPH_CONF": str(self._configuration),
            "PYTHONPATH": str(_PROGRAMS / "usr" / "lib" / "python3" / "dist-packages"),
        }

    def _argv(self, name: str, *arguments: str) -> list[str]:
        return [str(_PROGRAMS / "usr" / "bin" / name), "-c", str(self._configuration), *arguments]

    def _run(self, argv: list[str]) -> None:
        done = subprocess.run(
            argv,
            env=self._environment(),
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_S_MAX,
        )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr[-2000:]}"

    def _spawn(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with (self._directory / "output").open("ab") as output:
            process = subprocess.Popen(
                argv, env=self._environment(), cwd=self._directory, stdout=output, stderr=output
            )
        self._started.append(process)
        return process

    def start(self, access_key: str, secret_key: str) -> None:
        self._start_monitor()
        self._start_object_daemon()
        user = ["user", "create", "--uid=tester", "--display-name=tester"]
        keys = [f"--access-key={access_key}", f"--secret-key={secret_key}"]
        self._run(self._argv("radosgw-admin", *user, *keys))
        gateway = self._spawn(self._argv("radosgw", "-f", "-n", "client.admin"))
        wait_until(
            lambda: is_listening(self.port),
            timeout_s=_START_S_MAX,
            what="start of the S3 gateway",
            still_possible=lambda: gateway.poll() is None,
        )

    def _start_monitor(self) -> None:
        keyring, monitors = str(self._directory / "keyring"), str(self._directory / "monmap")
        tool = str(_PROGRAMS / "usr" / "bin" / "ceph-authtool")
        everything = ["--cap", "mon", "allow *"]
        self._run([tool, "--create-keyring", keyring, "--gen-key", "-n", "mon.", *everything])
        self._run([tool, keyring, "--gen-key", "-n", "client.admin", *everything, "--cap", "osd", "allow *"])
        address = f"[v1:127.0.0.1:{self._monitor_port}]"
        monmaptool = str(_PROGRAMS / "usr" / "bin" / "monmaptool")
        self._run(
            [
                monmaptool,
                "--create",
                "--clobber",
                "--addv",
                "a",
                address,
                "--fsid",
                self._cluster_id,
                monitors,
            ]
        )
        self._run(self._argv("ceph-mon", "--mkfs", "-i", "a", "--keyring", keyring, "--monmap", monitors))
        monitor = self._spawn(self._argv("ceph-mon", "-f", "-i", "a"))
        wait_until(
            lambda: is_listening(self._monitor_port),
            timeout_s=_START_S_MAX,
            what="start of Ceph's monitor",
            still_possible=lambda: monitor.poll() is None,
        )

    def _start_object_daemon(self) -> None:
        daemon_id = str(uuid.uuid4())
        # The command line is a Python program for Debian's own Python, whose modules it needs.
        self._run(["/usr/bin/python3", *self._argv("ceph", "osd", "new", daemon_id)])
        self._run(self._argv("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", daemon_id))
        self._spawn(self._argv("ceph-osd", "-f", "-i", "0"))

    def stop(self) -> None:
        for process in reversed(self._started):
            process.kill()  # everything is in memory: there is nothing to save
            end(process)


@contextlib.contextmanager
def rgw_server() -> Iterator[S3Server]:
    """A started S3 server with one user; gone afterwards."""
    if not (_PROGRAMS / "usr" / "bin" / "radosgw").exists():
        skip_missing("Ceph RGW", "tools/rgw.sh fetch")
    with scratch_directory("mainstay-rgw-") as directory:
        ceph = _Ceph(directory)
        keys = (secrets.token_hex(10).upper(), secrets.token_hex(20))
        try:
            ceph.start(*keys)
            yield S3Server(f"http://127.0.0.1:{ceph.port}", *keys)
        finally:
            ceph.stop()
