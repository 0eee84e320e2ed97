"""nginx, the free edition, with its stream module.

It has no checks of its own: a node that refuses a connection is passed over at once, but one that is not
ready or frozen is not noticed. `mainstay lb watch` looks in its place, and writes the configuration anew
with the nodes in `resting` taken out.
"""

from collections.abc import Collection

from mainstay.provision.balancers.description import BadDescription, BalancedNode, Balancer, checked
from mainstay.provision.balancers.notes import UNSEEN, head

_YEAR_S = 31_536_000
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_CHECKED_BY_US = [
    "It has no readiness checks of its own: `mainstay lb watch` beside it takes out nodes that are not",
    "ready, for SSH too, and puts them back. Without it only a node that refuses is passed over.",
]

_MAPS = r"""
    # Which repository: in a page of a project, in a Git address, in the API (number or whole path).
    map $uri $project_path {
        default "";
        "~^(?<page>/(?!-|api/).*?)/-/" $page;
        "~^(?<git>/(?!api/).+?)(?:[.]git(?:/.*)?|/info/refs|/git-[a-z]+-pack|/info/lfs/.*)$" $git;
    }
    map $request_uri $project_id {
        default "";
        "~*^/api/v[0-9]+/projects/(?<a>[^/?%]+)%2F(?<b>[^/?%]+)(?:[/?]|$)" /$a/$b;
        "~*^/api/v[0-9]+/projects/(?<a>[^/?%]+)%2F(?<b>[^/?%]+)%2F(?<c>[^/?%]+)(?:[/?]|$)" /$a/$b/$c;
        "~^/api/v[0-9]+/projects/(?<a>[^/?]+)" $a;
    }
    map "$project_path$project_id" $nodes {
        "" anything;
        default repositories;
    }
    # Websockets go through; other connections to the nodes are used again.
    map $http_upgrade $connection_upgrade {
        "" "";
        default upgrade;
    }"""

_HTTP = """\
    client_max_body_size 0;
    client_header_timeout 15s;
    client_body_timeout 15m;
    send_timeout 15m;
    # The nodes keep idle connections for 75 s, so this side closes first.
    keepalive_timeout 60s;
    server_tokens off;
    types_hash_max_size 2048;
    default_type application/octet-stream;"""

_FORWARDING = """\
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout 15m;
            proxy_send_timeout 15m;
            proxy_socket_keepalive on;
            # To another node when one refuses, or says by 502 that it alone is without the database; what
            # was sent is sent again only if it reads.
            proxy_next_upstream error timeout http_502;
            proxy_next_upstream_tries 3;
            proxy_redirect off;
            # Who the client is, we say; what strangers claim about it ends here.
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port "";
            proxy_set_header X-Forwarded-Prefix "";
            proxy_set_header X-Real-IP "";
            proxy_set_header Forwarded "";
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;"""


def nginx_configuration(balancer: Balancer, *, resting: Collection[str] = ()) -> str:
    """The whole of `nginx.conf`. Nodes named in `resting` get nothing new. Raises `BadDescription`."""
    checked(balancer)
    _check_for_nginx(balancer)
    sections = [
        "\n".join(head(balancer, program="nginx", limits=_limits(balancer))),
        _top(balancer),
        _http(balancer, resting),
        *_stream(balancer, resting),
    ]
    return "\n\n".join(sections) + "\n"


def _check_for_nginx(balancer: Balancer) -> None:
    if balancer.proxy_protocol == "v2":
        raise BadDescription("nginx sends PROXY headers of version 1 only: use --proxy-protocol v1, or off")
    if balancer.tls in ("balancer", "both") and not balancer.certificate_key:
        raise BadDescription(f"--tls {balancer.tls} with nginx needs --certificate-key FILE")


def _limits(balancer: Balancer) -> list[str]:
    limits = list(_CHECKED_BY_US)
    if balancer.tls == "node":
        limits.append("TLS passes through unread, so requests cannot be sorted by repository here.")
    if balancer.proxy_protocol == "off" and (balancer.tls == "node" or balancer.ssh_nodes):
        limits.append(UNSEEN)
    return limits


def _top(balancer: Balancer) -> str:
    place = balancer.directory
    lines = [
        "# The stream module; Debian's package libnginx-mod-stream.",
        "include /etc/nginx/modules-enabled/*.conf;",
        *(["user www-data;"] if balancer.needs_root else []),
        "worker_processes auto;",
        "# A reload lets the old workers finish what they have.",
        "worker_shutdown_timeout 1h;",
        f"pid {place}/nginx.pid;" if place else "pid /run/nginx.pid;",
        f"error_log {place}/nginx.log warn;" if place else "error_log /var/log/nginx/error.log warn;",
        "events {",
        "    worker_connections 4096;",
        "}",
    ]
    return "\n".join(lines)


def _http(balancer: Balancer, resting: Collection[str]) -> str:
    blocks = [_HTTP, *_places(balancer)]
    if balancer.tls != "node":
        blocks += [_MAPS.lstrip("\n"), *_upstreams(balancer, resting)]
    if balancer.tls == "off":
        blocks.append(_server(balancer, _listens(balancer, balancer.http_port)))
    else:
        blocks.append(_redirecting(balancer))
    if balancer.tls in ("balancer", "both"):
        blocks.append(_server(balancer, _tls(balancer)))
    return "\n".join(["http {", *blocks, "}"])


def _places(balancer: Balancer) -> list[str]:
    """Where Debian's defaults want root."""
    if not balancer.directory:
        return ["    access_log off;"]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return ["    access_log off;", *(f"    {kind}_temp_path {balancer.directory}/{kind};" for kind in kinds)]


def _upstreams(balancer: Balancer, resting: Collection[str]) -> list[str]:
    ends_at_node = balancer.tls == "both"
    servers = [
        _upstream_server(node, node.https if ends_at_node else node.http, resting)
        for node in balancer.http_nodes
    ]
    reuse = ["        keepalive 32;", "        keepalive_timeout 60s;", "    }"]
    return [
        "    # All about one repository goes to one node, which has it warm; any other could serve it.",
        "    upstream repositories {",
        "        hash $project_path$project_id consistent;",
        *servers,
        *reuse,
        "    upstream anything {",
        "        least_conn;",
        *servers,
        *reuse,
    ]


def _upstream_server(node: BalancedNode, port: int, resting: Collection[str]) -> str:
    down = " down" if node.name in resting else ""
    return f"        server {node.at(port)} max_fails=2 fail_timeout=2s{down};  # {node.name}"


def _server(balancer: Balancer, begins: list[str]) -> str:
    scheme = "https" if balancer.tls == "both" else "http"
    lines = [
        "    server {",
        *(f"        {line}" for line in begins),
        "        location / {",
        f"            proxy_pass {scheme}://$nodes;",
        f"            proxy_connect_timeout {balancer.connect_ms_max}ms;",
        _FORWARDING,
        *_verified(balancer),
        "        }",
        "    }",
    ]
    return "\n".join(lines)


def _listens(balancer: Balancer, port: int, how: str = "") -> list[str]:
    return [f"listen {at}{how};" for at in balancer.at(port)]


def _tls(balancer: Balancer) -> list[str]:
    lines = [
        *_listens(balancer, balancer.https_port, " ssl"),
        f"ssl_certificate {balancer.certificate};",
        f"ssl_certificate_key {balancer.certificate_key};",
        "ssl_protocols TLSv1.2 TLSv1.3;",
        "ssl_session_cache shared:tls:10m;",
    ]
    if balancer.hsts:
        lines.append(f'add_header Strict-Transport-Security "max-age={_YEAR_S}" always;')
    return lines


def _verified(balancer: Balancer) -> list[str]:
    if balancer.tls != "both":
        return []
    return [
        "            proxy_ssl_verify on;",
        "            proxy_ssl_verify_depth 4;",
        f"            proxy_ssl_trusted_certificate {balancer.node_authority or _SYSTEM_AUTHORITIES};",
        f"            proxy_ssl_name {balancer.server_name};",
        "            proxy_ssl_server_name on;",
        "            proxy_ssl_protocols TLSv1.2 TLSv1.3;",
    ]


def _redirecting(balancer: Balancer) -> str:
    port = "" if balancer.https_port == 443 else f":{balancer.https_port}"  # noqa: PLR2004 - what https means
    return "\n".join(
        [
            "    server {",
            *(f"        {line}" for line in _listens(balancer, balancer.http_port)),
            f"        return 301 https://$host{port}$request_uri;",
            "    }",
        ]
    )


def _stream(balancer: Balancer, resting: Collection[str]) -> list[str]:
    blocks = []
    if balancer.tls == "node":
        servers = [_upstream_server(node, node.https, resting) for node in balancer.http_nodes]
        blocks += _passing(balancer, "passed_through", balancer.https_port, servers)
    if balancer.ssh_nodes:
        servers = [_upstream_server(node, node.ssh, resting) for node in balancer.ssh_nodes]
        blocks += _passing(balancer, "ssh_nodes", balancer.ssh_port, servers)
    return ["\n".join(["stream {", *blocks, "}"])] if blocks else []


def _passing(balancer: Balancer, name: str, port: int, servers: list[str]) -> list[str]:
    return [
        f"    upstream {name} {{",
        "        least_conn;",
        *servers,
        "    }",
        "    server {",
        *(f"        {line}" for line in _listens(balancer, port)),
        f"        proxy_pass {name};",
        *(["        proxy_protocol on;"] if balancer.proxy_protocol != "off" else []),
        f"        proxy_connect_timeout {balancer.connect_ms_max}ms;",
        "        proxy_timeout 1h;",
        "        proxy_socket_keepalive on;",
        "    }",
    ]
