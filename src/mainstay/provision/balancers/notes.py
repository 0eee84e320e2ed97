"""The head of a configuration: what it is for, and what the nodes must be told about the balancer."""

from mainstay.provision.balancers.description import Balancer

UNSEEN = "Without PROXY headers the nodes take this balancer for the client of what passes through unread."
_BALANCER = "ADDRESS OF THIS BALANCER"


def head(balancer: Balancer, *, program: str, limits: list[str]) -> list[str]:
    """Comment lines."""
    names = ", ".join(node.name for node in balancer.nodes)
    told = [f"  {name} = {value}" for name, value in node_settings(balancer)]
    return [
        _comment(line)
        for line in [
            f"{program} before the Mainstay nodes {names}. Written by `mainstay lb {program.lower()}`.",
            "",
            "Every node needs these lines in its mainstay.toml:",
            *told,
            *(["", *limits] if limits else []),
        ]
    ]


def node_settings(balancer: Balancer) -> list[tuple[str, str]]:
    """Name and value, as TOML."""
    scheme = "http" if balancer.tls == "off" else "https"
    told = [
        ("trusted_proxies", f'"{_BALANCER}"'),
        ("monitoring_allowlist", f'"127.0.0.0/8, ::1/128, {_BALANCER}"'),
        ("external_url", f'"{scheme}://NAME THAT PEOPLE TYPE"'),
    ]
    if balancer.ssh_nodes:
        told.append(("external_ssh", f'"NAME THAT PEOPLE TYPE:{balancer.ssh_port}"'))
    if balancer.announced_doors:
        told.append(("proxy_protocol", f'"{_BALANCER}"'))
        told.append(("proxy_protocol_on", f'"{",".join(balancer.announced_doors)}"'))
    if balancer.tls in ("node", "both"):
        told += [("tls_certificate", '"FILE"'), ("tls_key", '"FILE"')]
    told.append(("drain_notice_seconds", "5"))
    return told


def _comment(line: str) -> str:
    return f"# {line}".rstrip()
