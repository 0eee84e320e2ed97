"""What an asynchronous replica costs a push at its primary, and how far it is behind under steady pushes.

Both primaries run a PostgreSQL of their own; one has a replica on the same machine, which takes its share of
the processors and of the disk: on a machine of its own it would cost less.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import urllib.request
from base64 import b64decode
from pathlib import Path

from benchmarks.measure import Measurement, Promise
from benchmarks.node import mainstay
from benchmarks.processes import Group
from benchmarks.scenarios import Bench
from benchmarks.scenarios.small_push import Sender, pushes
from benchmarks.servers import Server, free_port, wait_until_listening

_SAMPLES = 20
_SAMPLE_S = 0.25
_ADD_S_MAX = 300
_P95 = 18
"""Of the nineteen cuts into twentieths."""


def measure(bench: Bench) -> list[Measurement]:
    managed = {"MAINSTAY_DATABASE_URL": "managed"}
    address = f"127.0.0.1:{free_port()}"
    listening = {**managed, "MAINSTAY_SITES": address, "MAINSTAY_DATABASE_LISTEN": f"127.0.0.1:{free_port()}"}
    alone = mainstay(bench.directory / "alone", bench.repository, name="alone", environment=managed)
    try:
        paired = mainstay(bench.directory / "paired", bench.repository, environment=listening)
        try:
            return _with_replica(bench, alone, paired, address)
        finally:
            paired.stop()
    finally:
        alone.stop()


def _with_replica(bench: Bench, alone: Server, paired: Server, address: str) -> list[Measurement]:
    replica = _replica(bench, address)
    try:
        wall, cpu = pushes(
            bench,
            "with an asynchronous replica, over HTTP",
            [alone, paired],
            lambda server: server.remote.url,
            promise=Promise("at most 1.05 of one without", at_most=1.05),
        )
        return [wall, cpu, _lag(bench, paired)]
    finally:
        replica.stop()


def _replica(bench: Bench, address: str) -> Server:
    command, data = Path(sys.executable).with_name("mainstay"), bench.directory / "replica"
    group, log, http_port = Group("replica"), bench.directory / "replica.log", free_port()
    token = _run(str(command), "replica", "token", "--data", str(bench.directory / "paired" / "data"))
    local = [
        "--http",
        f"127.0.0.1:{http_port}",
        "--ssh",
        "127.0.0.1:0",
        "--data",
        str(data),
        "--name",
        "replica",
    ]
    sites = ("--sites", f"127.0.0.1:{free_port()}", "--database-listen", f"127.0.0.1:{free_port()}")
    _run(str(command), "replica", "add", f"https://{address}", "--token", token, *sites, *local)
    with log.open("ab") as output:
        serve = group.argv(str(command), "serve", "--data", str(data))
        process = subprocess.Popen(serve, stdout=output, stderr=output)
    wait_until_listening(http_port, process, log)
    return Server("replica", group, processes=[process])


def _run(*argv: str) -> str:
    """Progress goes to our own terminal."""
    done = subprocess.run(
        argv, env=os.environ, stdout=subprocess.PIPE, text=True, check=True, timeout=_ADD_S_MAX
    )
    return done.stdout.strip()


def _lag(bench: Bench, paired: Server) -> Measurement:
    """Asked of the primary, who knows what the replica has confirmed."""
    found = Measurement(
        "replica behind, 95th percentile",
        "s",
        promise=Promise("at most 1 s", at_most=1.0),
        note="while pushes go on",
    )
    for number in range(bench.rounds):
        sender = Sender(bench, f"lag-{number}", paired, paired.remote.url)
        stop = threading.Event()
        pushing = threading.Thread(target=_push_until, args=(sender, stop))
        pushing.start()
        try:
            samples = []
            for _ in range(_SAMPLES):
                stop.wait(_SAMPLE_S)
                samples.append(_behind_s(paired))
        finally:
            stop.set()
            pushing.join()
            sender.close()
        found.add(paired, statistics.quantiles(samples, n=20)[_P95])
    return found


def _push_until(sender: Sender, stop: threading.Event) -> None:
    while not stop.is_set() and sender.has_more:
        sender.push()


def _behind_s(paired: Server) -> float:
    """The worst of all streams."""
    base = paired.remote.url.partition("/root/")[0]
    token = (
        b64decode(paired.remote.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")[2]
    )
    request = urllib.request.Request(f"{base}/api/v4/cluster/sites", headers={"PRIVATE-TOKEN": token})
    with urllib.request.urlopen(request, timeout=10) as answer:
        (replica,) = json.load(answer)["replicas"]
    return max(float(stream["seconds"] or 0.0) for stream in replica["streams"])
