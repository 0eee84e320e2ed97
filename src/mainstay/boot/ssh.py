"""The SSH process: asyncssh on the socket that the supervisor opened."""

import asyncio
import signal
import socket
from functools import partial

import uvloop

from mainstay.boot import child, compose
from mainstay.boot.accepting import Acceptor
from mainstay.boot.addresses import ssh_clone_url
from mainstay.boot.degraded import fallback_of
from mainstay.boot.forwarding import Forwarding
from mainstay.boot.git import git_service
from mainstay.boot.http_server import announcers
from mainstay.boot.maintenance import lookout_of
from mainstay.boot.membership import secrets_of
from mainstay.boot.station import station_of
from mainstay.boot.stores import Stores, begin_hold_s
from mainstay.doors.ssh.host_keys import host_keys_from
from mainstay.doors.ssh.server import serve
from mainstay.doors.ssh.settings import SshSettings
from mainstay.foundation.clock import SYSTEM


def main() -> None:
    with child.begun("ssh", orm=False) as stores:
        listener = socket.socket(fileno=child.inherited_socket("SSH_FD"))
        listener.setblocking(False)
        uvloop.run(_serve(stores, listener))


async def _serve(stores: Stores, listener: socket.socket) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    keys = await asyncio.to_thread(host_keys_from, secrets_of(stores))
    fallback = fallback_of(stores)
    service = git_service(stores, fallback=fallback)
    if fallback:
        fallback.start()
    maintenance = lookout_of(stores)
    await asyncio.to_thread(maintenance.start)
    station = station_of(stores.settings)
    await asyncio.to_thread(station.start)
    forwarding = Forwarding(stores, station)
    proxies = announcers(stores.settings, "ssh")
    server = await serve(
        listener=listener,
        accept=partial(Acceptor, proxies=proxies) if proxies else None,
        service=service,
        gate=compose.git_gate(stores, fallback),
        host_keys=keys,
        settings=SshSettings(
            idle_s_max=stores.settings.ssh_idle_seconds, hold_s=begin_hold_s(stores.settings)
        ),
        clock=SYSTEM,
        clone_url=lambda path: ssh_clone_url(stores.settings, path),
        maintenance=maintenance,
        elsewhere=forwarding.sessions,
    )
    child.say_ready()
    child.set_up_orm_beside()
    await stop.wait()
    await asyncio.sleep(stores.settings.drain_notice_seconds)  # balancers look away first
    await server.stop(drain_s=stores.settings.drain_seconds)
    await asyncio.to_thread(maintenance.stop)
    await asyncio.to_thread(station.stop)
    await forwarding.finish()
    forwarding.close()
    await service.finish()
    service.close()
    if fallback:
        fallback.close()


if __name__ == "__main__":
    main()
