"""Real Redis servers for tests: one, one behind Sentinel, a Redis Cluster of one node."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis, RedisError

from support.certificates import make_certificate
from support.ports import free_port
from support.servers import end, program, wait_until

_START_S_MAX = 30


class RedisServer:
    """One server on the loopback. The port stays the same over `kill` and `start`."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        port: int | None = None,
        plain_port: int | None = None,
        direct: Redis | None = None,
    ) -> None:
        """`plain_port`: 0 when `options` open another way in, at `port`."""
        self.port = port or free_port()
        self.directory = directory
        self._options = ["--port", str(self.port if plain_port is None else plain_port), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.direct = direct or Redis(port=self.port, socket_timeout=5)
        """For the test itself."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [program("redis-server"), *options, *self._options],
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self.answers, timeout_s=_START_S_MAX, what="Redis answers")

    def answers(self) -> bool:
        try:
            return bool(self.direct.ping())
        except (RedisError, OSError):
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.direct.close()
        self.kill()


@contextmanager
def running_redis(directory: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(directory, *options)
    server.start()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def running_tls_redis(directory: Path) -> Iterator[tuple[RedisServer, Path]]:
    """A server that speaks TLS and nothing else, and its certificate, which is its own authority."""
    certificate, key = make_certificate(directory / "tls")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    options += ["--tls-auth-clients", "no"]
    direct = Redis(port=port, socket_timeout=5, ssl=True, ssl_ca_certs=str(certificate))
    server = RedisServer(
        directory, *options, "--tls-auth-clients", "no", port=port, direct=direct, plain_port=0
    )
    server.start()
    try:
        yield server, certificate
    finally:
        server.close()


@contextmanager
def running_sentinel(directory: Path, master: RedisServer) -> Iterator[str]:
    """A Sentinel that knows `master` as `soft`; the URL to use."""
    port = free_port()
    file = directory / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor soft 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds soft 1000\n"
    )
    process = subprocess.Popen(
        [program("redis-server"), file, "--sentinel"],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    direct = Redis(port=port, socket_timeout=5)

    def knows() -> bool:
        try:
            return bool(direct.execute_command("SENTINEL", "get-master-addr-by-name", "soft"))
        except (RedisError, OSError):
            return False

    try:
        wait_until(knows, timeout_s=_START_S_MAX, what="Sentinel knows the server")
        yield f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/soft/0"
    finally:
        direct.close()
        end(process)


@contextmanager
def running_cluster(directory: Path) -> Iterator[tuple[RedisServer, str]]:
    """A Redis Cluster of one node, and the URL to use."""
    options = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"]
    # The bus is at the port plus 10,000 unless told otherwise, which may be beyond the last port.
    with running_redis(directory, *options, "--cluster-port", str(free_port())) as server:
        server.direct.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(
            lambda: b"cluster_state:ok" in server.direct.execute_command("CLUSTER", "INFO"),
            timeout_s=_START_S_MAX,
            what="the Redis Cluster is well",
        )
        yield server, f"redis+cluster://127.0.0.1:{server.port}"
