"""A real BIND with one zone that takes signed updates, on a free port of 127.0.0.1.

with name_server() as server:
    zone = server.zone_with(server.key_file)
    server.ask("git.example.test", "A")
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.update

from mainstay.provision.traffic.credentials import read_tsig_key
from mainstay.provision.traffic.dns_update import Rfc2136Zone
from support.ports import free_port
from support.servers import end, is_listening, program, scratch_directory, wait_until

ZONE = "example.test"
OTHER_ZONE = "other.test"
"""Is there too, but its key may not change anything in it."""
POLICY_ZONE = "policy.test"
"""Its key may change `git.policy.test` as docs/run/traffic.md says, and nothing else."""
KEY_NAME = "mainstay-one"
_ZONE_TEXT = """\
$TTL 300
@ IN SOA ns1 admin 1 3600 900 86400 60
@ IN NS ns1
ns1 IN A 127.0.0.1
alias IN CNAME ns1
long 3600 IN A 192.0.2.1
"""
_SECRET = "c2VjcmV0IGZvciB0ZXN0cywgbm90IGEgc2VjcmV0ISE="
_OTHER_SECRET = "YW5vdGhlciBzZWNyZXQgZm9yIHRlc3RzLCBhbHNvIG5vdCE="


@dataclass(frozen=True, slots=True)
class NameServer:
    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def key_file(self) -> Path:
        return self.directory / "key"

    def zone_with(self, key_file: Path | None = None, *, zone: str = ZONE) -> Rfc2136Zone:
        """What is tested, before this server."""
        key = read_tsig_key(key_file or self.key_file)
        return Rfc2136Zone(host="127.0.0.1", port=self.port, zone=zone, key=key)

    def key_file_of(self, name: str, *, secret: str = _SECRET, algorithm: str = "hmac-sha256") -> Path:
        file = self.directory / f"key-{name}-{secret[:4]}-{algorithm}"
        return write_key(file, name=name, secret=secret, algorithm=algorithm)

    @property
    def wrong_key_file(self) -> Path:
        return self.key_file_of(KEY_NAME, secret=_OTHER_SECRET)

    def ask(self, name: str, kind: str) -> list[str]:
        """The records as anybody sees them, sorted."""
        query = dns.message.make_query(name, kind)
        answer = dns.query.udp(query, "127.0.0.1", timeout=10, port=self.port)
        return sorted(each.to_text() for rrset in answer.answer for each in rrset)

    def add(self, name: str, kind: str, value: str, *, ttl_s: int = 60) -> None:
        """As another administrator would, without asking for anything."""
        update = dns.update.UpdateMessage(ZONE)
        update.replace(f"{name}.", ttl_s, kind, value)
        key = read_tsig_key(self.key_file)
        update.use_tsig(dns.tsig.Key(key.name, key.secret.reveal(), key.algorithm))
        answer = dns.query.tcp(update, "127.0.0.1", timeout=10, port=self.port)
        assert answer.rcode() == dns.rcode.NOERROR


def write_key(file: Path, *, name: str, secret: str = _SECRET, algorithm: str = "hmac-sha256") -> Path:
    """As `tsig-keygen` writes it."""
    file.write_text(f'key "{name}" {{\n\talgorithm {algorithm};\n\tsecret "{secret}";\n}};\n')
    file.chmod(0o600)
    return file


@contextlib.contextmanager
def name_server() -> Iterator[NameServer]:
    """A started server; gone afterwards."""
    path = program("named")
    with scratch_directory("bind-") as directory:
        port, control = free_port(), directory / "named.conf"
        for zone in (ZONE, OTHER_ZONE, POLICY_ZONE):
            (directory / f"{zone}.zone").write_text(_ZONE_TEXT)
        write_key(directory / "key", name=KEY_NAME)
        write_key(directory / "stranger", name="stranger")
        control.write_text(_configuration(directory, port))
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [path, "-f", "-4", "-n", "1", "-c", str(control)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            wait_until(
                lambda: is_listening(port),
                timeout_s=60,
                what=f"named listens: {(directory / 'log').read_text()}",
                still_possible=lambda: process.poll() is None,
            )
            server = NameServer(port, directory, process)
            _wait_for_zone(server)
            yield server
        finally:
            end(process)


def _wait_for_zone(server: NameServer) -> None:
    deadline = time.monotonic() + 60
    while not server.ask(ZONE, "SOA"):
        assert time.monotonic() < deadline, "the zone is not loaded"
        time.sleep(0.05)


def _configuration(directory: Path, port: int) -> str:
    """A log of its own, no control channel, no questions to the world."""
    policy = (
        f"update-policy {{ grant {KEY_NAME} name git.{POLICY_ZONE} A;"
        f" grant {KEY_NAME} name _mainstay-epoch.git.{POLICY_ZONE} TXT; }}"
    )
    rights = {
        ZONE: f'allow-update {{ key "{KEY_NAME}"; }}',
        OTHER_ZONE: "allow-update { none; }",
        POLICY_ZONE: policy,
    }
    zones = "".join(
        f'zone "{zone}" {{ type primary; file "{directory}/{zone}.zone"; {right}; }};\n'
        for zone, right in rights.items()
    )
    return f"""\
include "{directory}/key";
include "{directory}/stranger";
controls {{ }};
options {{
    directory "{directory}";
    pid-file none;
    session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    notify no;
    dnssec-validation no;
}};
{zones}"""
