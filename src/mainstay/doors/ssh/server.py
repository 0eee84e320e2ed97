"""The listening side: which algorithms, which keys, how many, how long.

Algorithms: those that pass ssh-audit without a failure. No chacha20, because the client's order decides
and OpenSSH would take the one that costs us most; CTR only for clients without GCM. No NIST curve and no
finite-field group in the key exchange. RSA signatures with SHA-2 only.

Stopping: no new connections, no new sessions; what runs may finish for as long as the caller allows.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import asyncssh

from mainstay.doors.ssh.connection import Connection, Crowd
from mainstay.doors.ssh.conversation import Conversations
from mainstay.doors.ssh.replica import ReplicaSessions
from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.clock import Clock
from mainstay.foundation.logs import get_logger
from mainstay.foundation.proxy_header import Endpoint
from mainstay.ops.maintenance.lookout import Lookout
from mainstay.product.projects.admission import GitGate
from mainstay.repository.face import GitFace
from mainstay.repository.holding import Waiting

log = get_logger()

KEX = ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org")
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
"""Of people's keys, where ECDSA is common. Our own host keys are Ed25519 and RSA."""
_RSA_SIGNATURES = (b"rsa-sha2-512", b"rsa-sha2-256")

_BACKLOG = 512


class Listening(Protocol):
    """Takes connections until it is closed."""

    def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


ProtocolFor = Callable[[Endpoint | None], asyncio.BaseProtocol]
Accept = Callable[[socket.socket, ProtocolFor], Listening]
"""Another way to take connections from a socket: one that hears from proxies whose they are."""


class SshServer:
    """A server that listens. `port` tells where, when it was asked for port 0."""

    def __init__(self, acceptor: Listening, port: int, crowd: Crowd, threads: ThreadPoolExecutor) -> None:
        self._acceptor = acceptor
        self.port = port
        self._crowd = crowd
        self._threads = threads

    async def stop(self, *, drain_s: float) -> None:
        """Stop listening, let sessions end for at most `drain_s`, then close everything."""
        self._acceptor.close()
        self._crowd.close_idle()
        try:
            async with asyncio.timeout(drain_s):
                await self._crowd.wait_until_quiet()
        except TimeoutError:
            log.warning("ssh.sessions_cut", sessions=self._crowd.sessions)
        self._crowd.abort_all()
        await self._acceptor.wait_closed()
        self._threads.shutdown(wait=False, cancel_futures=True)
        log.info("ssh.stopped")


async def serve(
    *,
    host: str = "",
    port: int = 0,
    listener: socket.socket | None = None,
    accept: Accept | None = None,
    service: GitFace,
    gate: GitGate,
    host_keys: Sequence[asyncssh.SSHKey],
    settings: SshSettings,
    clock: Clock,
    clone_url: Callable[[str], str],
    maintenance: Lookout | None = None,
    elsewhere: ReplicaSessions | None = None,
) -> SshServer:
    """Listen and serve until `stop`. `clone_url` makes the address of a project's path, to be shown.
    On a replica `elsewhere` holds conversations at the primary.

    `listener` is a socket that somebody opened already, and takes the place of `host` and `port`. With it,
    `accept` may take the place of asyncssh's own way to take connections.
    """
    threads = ThreadPoolExecutor(settings.gate_threads, thread_name_prefix="ssh-gate")
    waiting = Waiting(hold_s=settings.hold_s, waiting_max=settings.held_max)
    conversations = Conversations(
        service=service,
        gate=gate,
        threads=threads,
        clock=clock,
        clone_url=clone_url,
        waiting=waiting,
        maintenance=maintenance,
        held_max=settings.held_max,
        elsewhere=elsewhere,
    )
    crowd = Crowd(settings)

    def connection() -> Connection:
        return Connection(
            crowd=crowd,
            conversations=conversations,
            gate=gate,
            threads=threads,
            waiting=waiting,
            elsewhere=elsewhere,
        )

    options = await asyncio.to_thread(_options, connection, host_keys, settings)
    if listener and accept:
        port = listener.getsockname()[1]
        acceptor: Listening = accept(listener, partial(_protocol, asyncio.get_running_loop(), options))
    else:
        listening = await asyncssh.listen(
            host, port, sock=listener, backlog=_BACKLOG, config=None, options=options
        )
        acceptor, port = listening, listening.get_port()
    log.info("ssh.started", host=host, port=port)
    return SshServer(acceptor, port, crowd, threads)


def _protocol(
    loop: asyncio.AbstractEventLoop, options: asyncssh.SSHServerConnectionOptions, client: Endpoint | None
) -> asyncio.BaseProtocol:
    connection = asyncssh.SSHServerConnection(loop, options)
    if client:
        connection.set_extra_info(peername=(client.host, client.port))
    return connection


def _options(
    connection: Callable[[], Connection], host_keys: Sequence[asyncssh.SSHKey], settings: SshSettings
) -> asyncssh.SSHServerConnectionOptions:
    return asyncssh.SSHServerConnectionOptions(
        server_factory=connection,
        server_host_keys=_offered(host_keys),
        config=None,
        server_version="Mainstay",
        kex_algs=KEX,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=("none",),
        signature_algs=SIGNATURES,
        login_timeout=settings.login_s_max + settings.hold_s,
        keepalive_interval=settings.keepalive_s,
        keepalive_count_max=3,
        public_key_auth=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_kex=False,
        gss_auth=False,
        allow_pty=False,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        encoding=None,
    )


def _offered(host_keys: Sequence[asyncssh.SSHKey]) -> list[asyncssh.SSHKeyPair]:
    """The host keys with the signatures we want to make: asyncssh would also offer RSA with SHA-1."""
    pairs = list(asyncssh.load_keypairs(list(host_keys)))
    for pair in pairs:
        if pair.get_algorithm() == "ssh-rsa":
            pair.host_key_algorithms = _RSA_SIGNATURES
    return pairs
