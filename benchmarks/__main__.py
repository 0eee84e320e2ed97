"""`python -m benchmarks`: start the servers, measure, print the table, keep the data."""

import argparse
import importlib
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Measurement
from benchmarks.node import mainstay
from benchmarks.report import as_table, keep, report
from benchmarks.repository import prepare
from benchmarks.scenarios import Bench
from benchmarks.servers import Server, nginx, openssh

_SCENARIOS = ("ls_remote", "small_push", "full_clone", "ssh", "memory", "replica")
_ROUNDS = 5


def main() -> int:
    arguments = _arguments()
    work = Path(__file__).parent / ".work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    print("Making the repository ...", flush=True)
    repository = work / "bench.git"
    facts = prepare(repository, arguments.repository)
    with ExitStack() as stack:
        bench = Bench(
            ours=_started(stack, mainstay(work / "mainstay", repository)),
            over_http=_started(stack, nginx(work / "nginx", repository)),
            over_ssh=_started(stack, openssh(work / "openssh", repository)),
            directory=work,
            repository=repository,
            rounds=arguments.rounds,
        )
        measurements = [found for name in arguments.only for found in _measure(name, bench)]
    result = report(facts, arguments.rounds, measurements)
    print(f"\n{as_table(result)}\n")
    if set(arguments.only) == set(_SCENARIOS):
        print("Kept:", *(os.path.relpath(path) for path in keep(result)))
    shutil.rmtree(work, ignore_errors=True)
    return 0 if result.is_kept else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repository", help="serve this repository or bundle instead of a made one")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, choices=range(1, 101), metavar="N")
    parser.add_argument("--only", nargs="+", choices=_SCENARIOS, default=list(_SCENARIOS))
    return parser.parse_args()


def _started(stack: ExitStack, server: Server) -> Server:
    stack.callback(server.stop)
    return server


def _measure(name: str, bench: Bench) -> list[Measurement]:
    print(f"Measuring {name.replace('_', ' ')} ...", flush=True)
    found: list[Measurement] = importlib.import_module(f"benchmarks.scenarios.{name}").measure(bench)
    return found


if __name__ == "__main__":
    sys.exit(main())
