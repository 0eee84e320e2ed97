"""A configuration of keepalived: one address that is always at the machine that can do most for clients.

Priorities are not those of machines but of what they answer, looked at each second:

    serves people (`/status` is 200: the primary)                  base + 70
    answers at all (a replica, or a primary at rest)               base + 20
    is silent                                                      base
    is gone                                                        nothing

So the address follows a promotion without being told. During maintenance, when both sides answer alike, it
stays where it is; and it goes to a replica when the primary is silent, because a replica serves what it has.
The keyword `nopreempt` would forbid just that and is not needed: equals leave the address where it is.

Pure: the same description gives the same text.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Literal

from mainstay.foundation.errors import Invalid

State = Literal["auto", "master", "backup"]

SERVES, ANSWERS = 50, 20
_PRIORITY_MAX = 254 - SERVES - ANSWERS
_ROUTER_ID_MAX = 255
_ADDRESSES_MAX = 20
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,14}")
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]{1,255}(/[A-Za-z0-9./_-]*)?")
_FILE = re.compile(r"/[A-Za-z0-9@%+=:,./_-]+")
_SETTLE_S_MAX = 600

_TEXT = """\
# An address that follows the primary, for keepalived 2.2 or newer. Printed by `mainstay lb keepalived`.
#
# The same on every machine, but for the two lines with addresses of the machines themselves (unicast_src_ip,
# unicast_peer). Equal priorities are right: what a machine answers decides.
#
# - The nodes must listen where the address comes and goes: `http = ":80"` for all addresses, or the address
#   itself with the sysctl net.ipv4.ip_nonlocal_bind = 1.
# - Let protocol 112 (VRRP) in from the peers, and from nobody else. There is no password here on purpose:
#   that of VRRP is sent as plain text with each packet. What comes from other senders is dropped.
# - A promotion needs no notification: /status follows it.

global_defs {{
    enable_script_security
    script_user nobody
    vrrp_garp_master_refresh 30
}}

# Serves people. Two failures are enough to believe in; success is believed after {settle_s} s, in which
# requests that are still at the old primary come to their end there.
vrrp_script mainstay_serves {{
    script "{curl} --silent --fail --max-time 2 --output /dev/null {status_url}"
    interval 1
    timeout 3
    fall 2
    rise {settle_s}
    weight {serves}
    init_fail
}}

# Answers at all, whatever it says. A restart of a few seconds moves nothing.
vrrp_script mainstay_answers {{
    script "{curl} --silent --max-time 2 --output /dev/null {status_url}"
    interval 1
    timeout 3
    fall 5
    rise 2
    weight {answers}
    init_fail
}}

vrrp_instance mainstay_{router_id} {{
    interface {interface}
    state {state}
    virtual_router_id {router_id}
    priority {priority}
    advert_int 1
    check_unicast_src
{source}    unicast_peer {{
{peers}
    }}
    virtual_ipaddress {{
{addresses}
    }}
{excluded}    track_script {{
        mainstay_serves
        mainstay_answers
    }}
{notify}}}
"""


class BadFloatingAddress(Invalid):
    """No configuration can come of it; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatingAddress:
    """Everything that the configuration depends on."""

    interface: str
    addresses: tuple[str, ...]
    """With the length of the network: 10.0.0.10/24."""
    peers: tuple[str, ...]
    """The other machines."""
    source: str = ""
    """This one; empty: the first address of the interface."""
    state: State = "auto"
    router_id: int = 51
    priority: int = 100
    settle_s: int = 10
    status_url: str = "http://127.0.0.1:8080/status"
    notify: str = ""
    """A program of the operator's, told of each move; empty: none."""
    curl: str = "/usr/bin/curl"


def keepalived_configuration(floating: FloatingAddress) -> str:
    """Raises `BadFloatingAddress`."""
    for problem in _problems(floating):
        raise BadFloatingAddress(problem)
    version = ip_address(floating.peers[0]).version
    inside = [each for each in floating.addresses if ip_interface(each).version == version]
    outside = [each for each in floating.addresses if ip_interface(each).version != version]
    excluded = f"    virtual_ipaddress_excluded {{\n{_lines(outside)}\n    }}\n" if outside else ""
    return _TEXT.format(
        curl=floating.curl,
        status_url=floating.status_url,
        settle_s=floating.settle_s,
        serves=SERVES,
        answers=ANSWERS,
        router_id=floating.router_id,
        interface=floating.interface,
        state="MASTER" if floating.state == "master" else "BACKUP",
        priority=floating.priority,
        source=f"    unicast_src_ip {floating.source}\n" if floating.source else "",
        peers=_lines(floating.peers),
        addresses=_lines(inside),
        excluded=excluded,
        notify=f'    notify "{floating.notify}"\n' if floating.notify else "",
    )


def _lines(words: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"        {word}" for word in words)


def _problems(floating: FloatingAddress) -> list[str]:
    if wrong := [each for each in floating.addresses if not _is_interface(each)]:
        return [f"{wrong[0]!r} is not an address with its network, such as 10.0.0.10/24"]
    others = [*floating.peers, *([floating.source] if floating.source else [])]
    if wrong := [each for each in others if not _is_address(each)]:
        return [f"{wrong[0]!r} is not an address"]
    if not floating.addresses or not floating.peers:
        return ["name at least one --address and one --peer"]
    return [*_disagreements(floating), *_bad_words(floating)]


def _disagreements(floating: FloatingAddress) -> list[str]:
    version = ip_address(floating.peers[0]).version
    found = []
    if any(ip_address(each).version != version for each in [*floating.peers, floating.source] if each):
        found.append("peers (and --source) are all of IPv4 or all of IPv6")
    if not any(ip_interface(each).version == version for each in floating.addresses):
        found.append(f"one --address at least is of IPv{version}, as the peers are")
    if floating.source in floating.peers:
        found.append(f"{floating.source} is this machine, and so no peer of it")
    moving = {str(ip_interface(each).ip) for each in floating.addresses}
    if fixed := moving & {*floating.peers, floating.source}:
        found.append(f"{min(fixed)} moves, and so cannot be the address of a machine")
    if len(floating.addresses) > _ADDRESSES_MAX:
        found.append(f"{_ADDRESSES_MAX} addresses at most fit into one packet")
    return found


def _bad_words(floating: FloatingAddress) -> list[str]:
    checks = [
        (
            bool(_INTERFACE.fullmatch(floating.interface)),
            f"{floating.interface!r} is no name of an interface",
        ),
        (bool(_URL.fullmatch(floating.status_url)), f"{floating.status_url!r} is no plain URL"),
        (
            not floating.notify or bool(_FILE.fullmatch(floating.notify)),
            f"{floating.notify!r} is no plain absolute path",
        ),
        (bool(_FILE.fullmatch(floating.curl)), f"{floating.curl!r} is no plain absolute path"),
        (1 <= floating.router_id <= _ROUTER_ID_MAX, f"a router id is from 1 to {_ROUTER_ID_MAX}"),
        (1 <= floating.priority <= _PRIORITY_MAX, f"a priority is from 1 to {_PRIORITY_MAX} here"),
        (1 <= floating.settle_s <= _SETTLE_S_MAX, f"the time to settle is from 1 to {_SETTLE_S_MAX} s"),
    ]
    return [problem for is_fine, problem in checks if not is_fine]


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def _is_interface(text: str) -> bool:
    try:
        return "/" in text and "%" not in text and bool(ip_interface(text))
    except ValueError:
        return False
