"""One session of OpenSSH: the parts of the SSH process, put together for a single conversation."""

import asyncio
from contextlib import closing

from mainstay.boot import compose, setup_django
from mainstay.boot.addresses import ssh_clone_url
from mainstay.boot.forwarding import Forwarding
from mainstay.boot.git import git_service
from mainstay.boot.layout import Layout
from mainstay.boot.maintenance import looking_out
from mainstay.boot.scratch import scratch_directory
from mainstay.boot.station import stationed
from mainstay.boot.stores import Stores, begin_hold_s
from mainstay.doors.ssh.conversation import Asked
from mainstay.doors.ssh.forced import serve_forced
from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.clock import SYSTEM
from mainstay.git.protocol.services import Service
from mainstay.ops.maintenance.lookout import Lookout
from mainstay.repository.face import GitFace


def serve(stores: Stores, *, fingerprint: str, command: str | None, git_protocol: str, address: str) -> int:
    """Serve what the owner of the key asks for; return the exit code."""
    if command and Service.RECEIVE_PACK.removeprefix("git-") in command:
        setup_django()  # a push may make a project; a fetch need not wait for the ORM
    asked = Asked(
        fingerprint=fingerprint,
        address=address,
        command=command,
        git_protocol=git_protocol,
    )
    with (
        scratch_directory(Layout(stores.settings.data)) as quarantine,
        closing(git_service(stores, quarantine=quarantine)) as service,
        looking_out(stores, briefly=True) as maintenance,
        stationed(stores.settings) as station,
        closing(Forwarding(stores, station)) as forwarding,
    ):
        return asyncio.run(_served(asked, stores, service, maintenance, forwarding))


async def _served(
    asked: Asked, stores: Stores, service: GitFace, maintenance: Lookout, forwarding: Forwarding
) -> int:
    settings = SshSettings(idle_s_max=stores.settings.ssh_idle_seconds, hold_s=begin_hold_s(stores.settings))
    try:
        return await serve_forced(
            asked,
            service=service,
            gate=compose.git_gate(stores),
            settings=settings,
            clock=SYSTEM,
            clone_url=lambda path: ssh_clone_url(stores.settings, path),
            maintenance=maintenance,
            elsewhere=forwarding.sessions,
        )
    finally:
        await forwarding.finish()
