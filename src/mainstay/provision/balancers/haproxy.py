"""HAProxy, version 2.6 or newer."""

import zlib

from mainstay.provision.balancers.description import BalancedNode, Balancer, checked
from mainstay.provision.balancers.notes import UNSEEN, head

_SYSTEM_AUTHORITIES = "@system-ca"
_SEND_PROXY = {"off": "", "v1": " send-proxy", "v2": " send-proxy-v2"}
_YEAR_S = 31_536_000

_DEFAULTS = """\
defaults
    mode http
    log global
    option httplog
    option dontlognull
    # A refused connection goes to another node at once. Nothing that was sent is sent again, but for the
    # reads below.
    timeout connect {connect_ms_max}ms
    retries 3
    option redispatch 1
    # Heads and idle connections are short; an answer or a push may pause for minutes. The nodes keep idle
    # connections for 75 s, so this side closes first.
    timeout http-request 15s
    timeout http-keep-alive 60s
    timeout client 15m
    timeout server 15m
    timeout tunnel 1h
    timeout queue 10s
    # The other end's machine may vanish without a word.
    option clitcpka
    clitcpka-idle 30s
    clitcpka-intvl 10s
    clitcpka-cnt 3
    option srvtcpka
    srvtcpka-idle 10s
    srvtcpka-intvl 5s
    srvtcpka-cnt 3"""

_READINESS = """\
# Takes no traffic: its checks decide for all ports of a node, SSH too. A node that answers anything but 200
# gets nothing new and keeps what it has (a drain cuts nobody). One that does not answer twice is down; its
# sessions are left to themselves too, because a node that is only slow may still finish a push.
backend readiness
    option httpchk
    http-check send meth GET uri /-/readiness ver HTTP/1.1 hdr Host readiness
    http-check expect status 200 error-status L7OKC
    timeout check 1500ms
    default-server check inter 1s fastinter 500ms downinter 1s fall 2 rise 1"""

_WHO = """\
    # Who the client is, we say; what strangers claim about it ends here.
    http-request del-header X-Forwarded- -m beg
    http-request del-header Forwarded
    http-request del-header X-Real-IP
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header X-Request-Id %[uuid()]"""

_GIT_PATH = "[.]git(/.*)?|/info/refs|/git-[a-z]+-pack|/info/lfs/.*"
_SET_REPOSITORY = "    http-request set-var(txn.repository)"
_IN_PAGE = """path,'regsub("/-/.*$","")',url_dec if { path_reg ^/[^-].*/-/ }"""
_IN_GIT = (
    f"""path,'regsub("({_GIT_PATH})$","")',url_dec"""
    f""" if !{{ var(txn.repository) -m found }} {{ path_reg '^/.+({_GIT_PATH})$' }}"""
)
_IN_API = (
    r"""path,field(5,/),url_dec,'regsub("^([^0-9])","/\1")' if { path_reg ^/api/v[0-9]+/projects/[^/]+ }"""
)
_WHERE = f"""\
    # Which repository: in a page of a project, in a Git address, in the API (number or whole path).
{_SET_REPOSITORY} {_IN_PAGE}
{_SET_REPOSITORY} {_IN_GIT}
{_SET_REPOSITORY} {_IN_API}
    use_backend pushes if {{ method POST }} {{ path_end /git-receive-pack }}
    use_backend repositories if {{ var(txn.repository) -m found }}
    default_backend anything"""

_PUSH_RETRIES = """\
    # A push is asked again only of who did nothing: he was not reached, or says so by 502. Only a small one,
    # which is waited for: what was sent must still be here.
    http-request wait-for-body time 10s if { req.hdr(content-length) -m int lt 8192 }
    retry-on conn-failure 502"""

_SAFE_RETRIES = """\
    # Only what reads may be asked again when a node dies in the middle: never a push. By 502 a node says
    # that it alone is without the database.
    retry-on conn-failure empty-response 502
    http-request disable-l7-retry if !METH_GET !{ method HEAD } !{ path_end /git-upload-pack }"""


def haproxy_configuration(balancer: Balancer) -> str:
    """The whole of `haproxy.cfg`. Raises `BadDescription`."""
    checked(balancer)
    sections = [
        "\n".join(head(balancer, program="HAProxy", limits=_limits(balancer))),
        _global(balancer),
        _DEFAULTS.format(connect_ms_max=balancer.connect_ms_max),
        *_http(balancer),
        *_ssh(balancer),
        "\n".join([_READINESS, *(_checked_server(node) for node in balancer.nodes)]),
    ]
    return "\n\n".join(sections) + "\n"


def _limits(balancer: Balancer) -> list[str]:
    limits = []
    if balancer.tls == "node":
        limits.append("TLS passes through unread, so requests cannot be sorted by repository here.")
    if balancer.proxy_protocol == "off" and (balancer.tls == "node" or balancer.ssh_nodes):
        limits.append(UNSEEN)
    return limits


def _global(balancer: Balancer) -> str:
    lines = [
        "global",
        "    log stdout format raw daemon notice",
        "    hard-stop-after 1h",
    ]
    if balancer.needs_root:
        lines += ["    user haproxy", "    group haproxy"]
    if balancer.directory:
        lines.append(f"    stats socket {balancer.directory}/haproxy.sock mode 600 level admin")
    if balancer.tls in ("balancer", "both"):
        lines.append("    ssl-default-bind-options ssl-min-ver TLSv1.2")
    if balancer.tls == "both":
        lines.append("    ssl-default-server-options ssl-min-ver TLSv1.2")
    return "\n".join(lines)


def _http(balancer: Balancer) -> list[str]:
    if balancer.tls == "off":
        return [_inspecting("http", _binds(balancer, balancer.http_port), "http"), *_backends(balancer)]
    if balancer.tls == "node":
        return [_redirecting(balancer), *_passing(balancer)]
    bind = _binds(balancer, balancer.https_port, f" ssl crt {balancer.certificate} alpn h2,http/1.1")
    hsts = f'    http-after-response set-header Strict-Transport-Security "max-age={_YEAR_S}"'
    https = _inspecting("https", bind, "https") + (f"\n{hsts}" if balancer.hsts else "")
    return [_redirecting(balancer), https, *_backends(balancer)]


def _binds(balancer: Balancer, port: int, how: str = "") -> list[str]:
    return [f"    bind {at}{' v6only' if '[' in at else ''}{how}" for at in balancer.at(port)]


def _inspecting(name: str, binds: list[str], scheme: str) -> str:
    return "\n".join([f"frontend {name}", *binds, _WHO.format(scheme=scheme), _WHERE])


def _redirecting(balancer: Balancer) -> str:
    port = "" if balancer.https_port == 443 else f":{balancer.https_port}"  # noqa: PLR2004 - what https means
    return "\n".join(
        [
            "frontend http",
            *_binds(balancer, balancer.http_port),
            f"    http-request redirect location https://%[req.hdr(Host),host_only]{port}%[pathq] code 301",
        ]
    )


def _backends(balancer: Balancer) -> list[str]:
    servers = [_http_server(balancer, node) for node in balancer.http_nodes]
    sorted_by_repository = ["    balance hash var(txn.repository)", "    hash-type consistent sdbm avalanche"]
    repositories = [
        "# All about one repository goes to one node, which has it warm; any other could serve it, too.",
        "backend repositories",
        *sorted_by_repository,
        _SAFE_RETRIES,
        *servers,
    ]
    pushes = ["backend pushes", *sorted_by_repository, _PUSH_RETRIES, *servers]
    anything = ["backend anything", "    balance leastconn", _SAFE_RETRIES, *servers]
    return ["\n".join(each) for each in (repositories, pushes, anything)]


def _http_server(balancer: Balancer, node: BalancedNode) -> str:
    if balancer.tls != "both":
        return _server(node, node.http)
    name = balancer.server_name
    authority = balancer.node_authority or _SYSTEM_AUTHORITIES
    return _server(node, node.https) + (
        f" ssl verify required ca-file {authority} verifyhost {name} sni str({name}) alpn http/1.1"
    )


def _passing(balancer: Balancer) -> list[str]:
    send = _SEND_PROXY[balancer.proxy_protocol]
    return [
        "\n".join(_tcp_frontend("https", _binds(balancer, balancer.https_port), "passed_through")),
        "\n".join(
            [
                *_tcp_backend("passed_through"),
                *(_server(node, node.https) + send for node in balancer.http_nodes),
            ]
        ),
    ]


def _ssh(balancer: Balancer) -> list[str]:
    if not balancer.ssh_nodes:
        return []
    send = _SEND_PROXY[balancer.proxy_protocol]
    return [
        "\n".join(_tcp_frontend("ssh", _binds(balancer, balancer.ssh_port), "ssh_nodes")),
        "\n".join(
            [*_tcp_backend("ssh_nodes"), *(_server(node, node.ssh) + send for node in balancer.ssh_nodes)]
        ),
    ]


def _tcp_frontend(name: str, binds: list[str], backend: str) -> list[str]:
    return [
        f"frontend {name}",
        "    mode tcp",
        "    option tcplog",
        *binds,
        f"    default_backend {backend}",
    ]


def _tcp_backend(name: str) -> list[str]:
    return [f"backend {name}", "    mode tcp", "    balance leastconn"]


def _server(node: BalancedNode, port: int) -> str:
    return f"    server {node.name} {node.at(port)} id {stable_id(node.name)} track readiness/{node.name}"


def _checked_server(node: BalancedNode) -> str:
    return f"    server {node.name} {node.readiness}"


def stable_id(name: str) -> int:
    """Where a node stands on the ring. By its name, so that a new node moves only what becomes its own."""
    return zlib.crc32(name.encode()) % 0x7FFFFFFF + 1
