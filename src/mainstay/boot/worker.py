"""The worker process: jobs and schedules."""

import signal
import threading

from mainstay.boot import child


def main() -> None:
    with child.begun("worker"):
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
        child.say_ready()
        stop.wait()


if __name__ == "__main__":
    main()
