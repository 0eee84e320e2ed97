"""Fuzz one target with coverage feedback, for as long as you like.

    python tests/fuzz/run.py v2_request -max_total_time=600

Needs atheris. Options with one dash are libFuzzer's. A finding is written to a file `crash-…` in the working
directory; add its bytes to `FOUND` in `test_fuzz.py` with the repair.
"""

import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    import atheris

    sys.path[:0] = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[1])]
    with atheris.instrument_imports(include=["mainstay", "fuzz.targets"]):
        from fuzz.targets import TARGETS

    if len(arguments) < 2 or arguments[1] not in TARGETS:
        sys.exit(f"usage: run.py {'|'.join(TARGETS)} [libFuzzer options]")
    target, _ = TARGETS[arguments[1]]
    atheris.Setup([arguments[0], *arguments[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
