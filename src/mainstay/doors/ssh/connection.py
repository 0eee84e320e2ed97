"""One connection: is there room, whose key is it, may it open another channel.

`Crowd` counts all connections of the process, so that those who do not sign in cannot keep out those who do.
"""

import asyncio
from concurrent.futures import Executor
from functools import partial
from typing import Any

import asyncssh

from mainstay.access.actors import Actor
from mainstay.doors.ssh.conversation import Asked, Conversations
from mainstay.doors.ssh.replica import ReplicaSessions
from mainstay.doors.ssh.session import Channel, Session, Valve
from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.errors import MainstayError
from mainstay.foundation.ip import plain_text
from mainstay.foundation.logs import get_logger
from mainstay.foundation.metrics import counter, gauge
from mainstay.product.projects.admission import GitGate
from mainstay.repository.holding import Waiting

log = get_logger()

_OPEN = gauge("ssh_open_connections", "Connections over SSH, signed in or not.")
_REFUSED = counter("ssh_connections_refused_total", "Connections closed at once, by reason.", ["reason"])

_WINDOW_BYTES = 2 * 1024 * 1024
_PACKET_BYTES_MAX = 32 * 1024
_OWN_LOOK_S_MAX = 1.5
"""On a replica, where somebody else can be asked."""


class Crowd:
    """All connections of this process."""

    def __init__(self, settings: SshSettings) -> None:
        self.settings = settings
        self.closing = False
        self._all: set[Connection] = set()
        self._strangers: set[Connection] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def sessions(self) -> int:
        return sum(connection.sessions for connection in self._all)

    def refusal(self, address: str) -> str | None:
        """Why one more may not come in from there."""
        if self.closing:
            return "stopping"
        if len(self._all) >= self.settings.connections_max:
            return "connections"
        if len(self._strangers) >= self.settings.connections_before_login_max:
            return "connections_before_login"
        neighbours = sum(stranger.address == address for stranger in self._strangers)
        if neighbours >= self.settings.connections_before_login_per_address_max:
            return "connections_before_login_per_address"
        return None

    def enter(self, connection: "Connection") -> None:
        self._all.add(connection)
        self._strangers.add(connection)
        self._quiet.clear()
        _OPEN.set(len(self._all))

    def known(self, connection: "Connection") -> None:
        self._strangers.discard(connection)

    def leave(self, connection: "Connection") -> None:
        self._all.discard(connection)
        self._strangers.discard(connection)
        _OPEN.set(len(self._all))
        if not self._all:
            self._quiet.set()

    def close_idle(self) -> None:
        """From now on a connection lives only as long as its sessions."""
        self.closing = True
        for connection in list(self._all):
            connection.close_if_idle()

    async def wait_until_quiet(self) -> None:
        await self._quiet.wait()

    def abort_all(self) -> None:
        for connection in list(self._all):
            connection.abort()


class Connection(asyncssh.SSHServer):
    """Identifies one client by its key and opens sessions for it."""

    def __init__(
        self,
        *,
        crowd: Crowd,
        conversations: Conversations,
        gate: GitGate,
        threads: Executor,
        waiting: Waiting,
        elsewhere: ReplicaSessions | None = None,
    ) -> None:
        """On a replica `elsewhere` is asked about a key that is not known here, or cannot be looked up."""
        self._elsewhere = elsewhere
        self._waiting = waiting
        self._crowd = crowd
        self._settings = crowd.settings
        self._conversations = conversations
        self._gate = gate
        self._threads = threads
        self._connection: asyncssh.SSHServerConnection | None = None
        self.address = ""
        self._user = ""
        self._keys_offered = 0
        self._offered = ""
        self._proved = ""
        self._patience: asyncio.TimerHandle | None = None
        self._socket_valve = Valve()
        self.sessions = 0

    # What asyncssh calls

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        peer = conn.get_extra_info("peername")
        self.address = plain_text(str(peer[0])) if peer else ""
        refusal = self._crowd.refusal(self.address)
        if refusal is not None:
            _REFUSED.labels(refusal).inc()
            conn.abort()
            return
        self._crowd.enter(self)
        self._be_patient_for(self._settings.handshake_s_max)
        # asyncssh does nothing with these two calls of the transport: it would fill its buffer for ever.
        vars(conn).update(pause_writing=self._socket_valve.close, resume_writing=self._socket_valve.reopen)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        self._crowd.leave(self)
        self._socket_valve.reopen()
        if self._patience:
            self._patience.cancel()

    def begin_auth(self, username: str) -> bool:
        self._user = username
        if self._patience:
            self._patience.cancel()
        if username != self._settings.user and self._connection:
            self._connection.send_auth_banner(
                f"Use the user name {self._settings.user}; who you are, your key says.\n"
            )
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Is this a key of somebody? Asked for keys that are only claimed, too."""
        self._keys_offered += 1
        if username != self._settings.user or self._keys_offered > self._settings.keys_offered_max:
            return False
        fingerprint = key.get_fingerprint()
        if not await self._is_somebodys(fingerprint):
            return False
        # asyncssh checks the signature right after this, before it looks at another offer; so the key
        # noted last is the one that `auth_completed` is about.
        self._offered = fingerprint
        return True

    def auth_completed(self) -> None:
        self._proved = self._offered
        self._crowd.known(self)
        self._be_patient_for(self._settings.unused_s_max)

    def session_requested(self) -> Any:
        full = self.sessions >= self._settings.sessions_per_connection_max
        if full or self._crowd.closing or self._connection is None:
            return False
        session = Session(
            hold=self._hold,
            socket_valve=self._socket_valve,
            settings=self._settings,
            ended=self._session_ended,
        )
        self.sessions += 1
        if self._patience:
            self._patience.cancel()
        return self._channel_on(self._connection), session

    # Ours

    def close_if_idle(self) -> None:
        if not self.sessions and self._connection:
            self._connection.close()

    def abort(self) -> None:
        if self._connection:
            self._connection.abort()

    async def _hold(self, command: str | None, git_protocol: str, session: Session) -> int:
        asked = Asked(
            fingerprint=self._proved, address=self.address, command=command, git_protocol=git_protocol
        )
        return await self._conversations.hold(asked, session)

    def _session_ended(self) -> None:
        self.sessions -= 1
        if self._crowd.closing:
            self.close_if_idle()
        elif not self.sessions:
            self._be_patient_for(self._settings.unused_s_max)

    async def _owner_of(self, fingerprint: str) -> Actor | None:
        look = partial(self._gate.owner_of_key, fingerprint)
        loop = asyncio.get_running_loop()
        try:
            return await self._waiting.through(lambda: loop.run_in_executor(self._threads, look))
        except MainstayError as error:
            log.warning("ssh.key_not_looked_up", reason=str(error))
            return None

    async def _is_somebodys(self, fingerprint: str) -> bool:
        elsewhere = self._elsewhere
        if elsewhere is None or not elsewhere.is_passive:
            return await self._owner_of(fingerprint) is not None
        look = partial(self._gate.owner_of_key, fingerprint)
        try:
            async with asyncio.timeout(_OWN_LOOK_S_MAX):
                if await asyncio.get_running_loop().run_in_executor(self._threads, look) is not None:
                    return True
        except (MainstayError, TimeoutError) as error:
            log.warning("ssh.key_not_looked_up", reason=str(error) or "no answer in time")
        return await elsewhere.is_known(fingerprint, self.address)

    def _be_patient_for(self, seconds: float) -> None:
        if self._patience:
            self._patience.cancel()
        self._patience = asyncio.get_running_loop().call_later(seconds, self.abort)

    @staticmethod
    def _channel_on(connection: asyncssh.SSHServerConnection) -> Channel:
        return Channel(
            connection,
            asyncio.get_running_loop(),
            allow_pty=False,
            line_editor=False,
            line_echo=False,
            line_history=0,
            max_line_length=0,
            encoding=None,
            errors="strict",
            window=_WINDOW_BYTES,
            max_pktsize=_PACKET_BYTES_MAX,
        )
