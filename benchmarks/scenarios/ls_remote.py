"""Requests per second of what every fetch begins with: the list of refs, at concurrency 8.

Mainstay checks a token with every request; the peer lets everybody in.
"""

import re
from pathlib import Path

from benchmarks.measure import Measurement, Promise, alternate, cost_of, run
from benchmarks.protocol import list_refs, ls_refs_request
from benchmarks.scenarios import Bench, environment
from benchmarks.servers import Server, program

_CONCURRENCY = 8
_SECONDS = 2
_REQUESTS_PER_S = re.compile(r"Requests/sec:\s+([0-9.]+)")


def measure(bench: Bench) -> list[Measurement]:
    servers = [bench.over_http, bench.ours]
    _check_that_answers_agree(servers)
    promise = Promise("at least 5 times the requests of git http-backend", at_least=5)
    old = Measurement("list refs, v0 info/refs, 8 at a time", "requests/s", promise=promise)
    new = Measurement("list refs, v2 ls-refs, 8 at a time", "requests/s", promise=promise)
    old_cpu = Measurement("v0 info/refs, server CPU per request", "ms")
    new_cpu = Measurement("v2 ls-refs, server CPU per request", "ms")
    client = Measurement("git ls-remote", "ms")

    def flood(server: Server, rate: Measurement, cpu: Measurement, script: str, suffix: str) -> None:
        rates: list[float] = []
        cost = cost_of(server, lambda: rates.append(_throughput(bench, server, script, suffix)))
        rate.add(server, rates[0])
        if cost.server_cpu_s is not None:
            cpu.add(server, cost.server_cpu_s * 1000 / (rates[0] * cost.wall_s))

    def once(server: Server) -> None:
        flood(server, old, old_cpu, "", "/info/refs?service=git-upload-pack")
        flood(server, new, new_cpu, _ls_refs_script(), "/git-upload-pack")
        client.add(server, _latency_ms(server))

    alternate(servers, bench.rounds, once)
    return [old, old_cpu, new, new_cpu, client]


def _check_that_answers_agree(servers: list[Server]) -> None:
    answers = [list_refs(server.remote) for server in servers]
    branches = [{name: oid for name, oid in answer.items() if name != b"HEAD"} for answer in answers]
    if branches[0] != branches[1]:
        message = "the servers do not serve the same refs"
        raise RuntimeError(message)


def _ls_refs_script() -> str:
    """What wrk sends instead of a GET, in Lua: control bytes as three decimal digits."""
    body = "".join(f"\\{byte:03}" if byte < 32 else chr(byte) for byte in ls_refs_request())
    return (
        'wrk.method = "POST"\n'
        f'wrk.body = "{body}"\n'
        'wrk.headers["Content-Type"] = "application/x-git-upload-pack-request"\n'
        'wrk.headers["Git-Protocol"] = "version=2"\n'
    )


def _throughput(bench: Bench, server: Server, script: str, suffix: str) -> float:
    argv = [program("wrk"), "-t1", f"-c{_CONCURRENCY}", f"-d{_SECONDS}s", "--timeout", "20s"]
    for name, value in server.remote.headers.items():
        argv += ["-H", f"{name}: {value}"]
    if script:
        argv += ["-s", str(_script_file(bench, script))]
    output = run([*argv, server.remote.url + suffix], environment(server))
    found = _REQUESTS_PER_S.search(output)
    if found is None or "Non-2xx" in output:
        message = f"wrk against {server.name}: {output}"
        raise RuntimeError(message)
    return float(found[1])


def _script_file(bench: Bench, script: str) -> Path:
    path = bench.directory / "ls-refs.lua"
    path.write_text(script)
    return path


def _latency_ms(server: Server) -> float:
    url = server.remote.url
    return (
        cost_of(server, lambda: run(["git", "ls-remote", url], environment(server)), times=10).wall_s * 1000
    )
