"""A PostgreSQL server that Mainstay itself runs: as primary, as standby, and the way from one to the other.

    server = Server(directory, sockets, account=server_account(), tell=print)
    server.create()                       initdb, unless there is data; a half-made one is made again
    server.start(within_s=120)            as our child; writes its configuration anew; makes role and database
    server.stop("fast" | "immediate")     whoever runs it (who runs it starts it again); `retire()`: for good
    server.url()                          for nodes, by a socket without a password; never changes
    server.exists, .is_running(), .is_in_recovery(), .wait_until_up(), .system_identifier(), .ask(sql)
    with server.stopped(): …              down in the block, up afterwards if anybody runs it

    credentials = Credentials(certificate=, key=, authority=)     PEM files; copied
    primary = Primary(server)
    primary.open_for_replicas(Listen(host=, port=), credentials)
    primary.create_slot(site), .drop_slot(site)      a site is the common name of its certificate
    primary.set_synchronous([site, …])    each commit waits for all of these; []: for nobody
    primary.followers() -> [Follower]     lag in bytes and seconds, what is kept, whether it is lost
    primary.lsn(), .timeline(), .set_wal_kept(bytes)

    standby = Standby(server)
    upstream = Upstream(host=, port=, site=OUR_NAME, name=IN_ITS_CERTIFICATE)
    standby.base_backup_from(upstream, credentials, replace_data=False)
    standby.follow(upstream, credentials, delay_s=0)       another primary, without a restart
    standby.let_go()                                       follow nobody, confirm nothing
    standby.rewind_from(upstream, credentials)             a former primary, without a full copy
    standby.lag() -> Lag, .timeline(), .set_delay(seconds)
    standby.replay_until(time_ms, within_s=) -> Reached, then
    standby.promote(within_s=60)          returns when it takes writes

Every certificate serves both ways, so it must be good for servers and for clients. All of it blocks, each
with a deadline. One process runs the server and starts it again when it ends; any other may change its role
meanwhile, under a lock in its directory. What it was asked to be is kept in `wishes.json` there.
"""

from mainstay.provision.postgresql.primary import Follower, PortRefused, Primary
from mainstay.provision.postgresql.programs import PostgresqlMissing, postgresql_programs
from mainstay.provision.postgresql.server import BeingChanged, CannotStart, RunElsewhere, Server, ServerDown
from mainstay.provision.postgresql.standby import (
    CannotRewind,
    HasData,
    Lag,
    NotLetGo,
    NotPromoted,
    NotReached,
    NotSettled,
    OtherVersion,
    PrimaryAway,
    Reached,
    Standby,
)
from mainstay.provision.postgresql.wishes import Credentials, Listen, Upstream, slot_of

__all__ = [
    "BeingChanged",
    "CannotRewind",
    "CannotStart",
    "Credentials",
    "Follower",
    "HasData",
    "Lag",
    "Listen",
    "NotLetGo",
    "NotPromoted",
    "NotReached",
    "NotSettled",
    "OtherVersion",
    "PortRefused",
    "PostgresqlMissing",
    "Primary",
    "PrimaryAway",
    "Reached",
    "RunElsewhere",
    "Server",
    "ServerDown",
    "Standby",
    "Upstream",
    "postgresql_programs",
    "slot_of",
]
