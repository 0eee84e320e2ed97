"""Numbers that rooms keep, for `/-/metrics`.

A room declares its numbers when it is imported, like its failpoints:

    PUSHES = counter("pushes_total", "Pushes by what became of them.", ["outcome"])

Every name starts with `mainstay_`. A node has several processes: when the supervisor gave them a common
directory, their numbers are added up at each scrape; alone, a process answers from its own memory. Labels
must have few values: never a path, a user or an id.
"""

from collections.abc import Sequence
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay.foundation import metric_files
from mainstay.foundation.settings import metrics_directory

__all__ = [
    "BYTES",
    "CONTENT_TYPE",
    "SECONDS",
    "Counter",
    "Gauge",
    "Histogram",
    "counter",
    "exposition",
    "gauge",
    "histogram",
]

metric_files.install()

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0)
"""Buckets for durations, from a look-up to a clone of a monorepo."""
BYTES = tuple(float(4**power) for power in range(5, 18, 2))
"""Buckets for sizes: 1 KiB, 16 KiB, … 16 GiB."""

GaugeMode = Literal["livesum", "livemax", "livemostrecent", "max", "sum"]


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    return Counter(f"mainstay_{name}", meaning, labels)


def gauge(name: str, meaning: str, labels: Sequence[str] = (), *, across: GaugeMode = "livesum") -> Gauge:
    """`across` says how the values of several processes become one; `live…` forgets dead processes."""
    return Gauge(f"mainstay_{name}", meaning, labels, multiprocess_mode=across)


def histogram(
    name: str, meaning: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = SECONDS
) -> Histogram:
    return Histogram(f"mainstay_{name}", meaning, labels, buckets=buckets)


def exposition() -> bytes:
    """All numbers of this node in Prometheus' text format."""
    if metrics_directory() is None:
        return generate_latest(REGISTRY)
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return generate_latest(together)
