"""What a store counts, for vLLM's own /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats
from vllm.v1.kv_offload.base import OffloadingCounterMetadata, OffloadingGaugeMetadata

from . import _native as native

# Figures are asked for after every step of the engine, and gathering them is not free.
_SECONDS_BETWEEN = 1.0
# vLLM takes down what begins with "vllm:" when an engine is made anew.
_PREFIX = "vllm:kv_offload_raw_block_"

_Read = Callable[[Mapping[str, Any]], float]


def _of_index(name: str) -> _Read:
    return lambda stats: float(stats["index"][name])


def _of(name: str) -> _Read:
    return lambda stats: float(stats[name])


def _slots(*names: str) -> _Read:
    return lambda stats: float(sum(each[name] for each in stats["index"]["classes"] for name in names))


_COUNTERS: dict[str, tuple[str, _Read]] = {
    "hits": ("Chunks that were read", _of("hits")),
    "misses": ("Chunks that were not there when they were to be read", _of("misses")),
    "puts": ("Chunks that were written", _of("puts")),
    "evictions": ("Chunks that made room for others", _of_index("evictions")),
    "expired": ("Chunks that were dropped because their time was over", _of("expired")),
    "dropped": ("Chunks that were dropped because they could not be verified", _of("dropped")),
    "read_errors": ("Reads that failed", _of("read_errors")),
    "failures": ("Calls that failed", lambda stats: float(sum(stats["failures"].values()))),
    "bytes_put": ("Bytes of chunks that were written", _of("bytes_put")),
    "bytes_got": ("Bytes of chunks that were read", _of("bytes_got")),
    "bytes_copied": ("Bytes that were copied in memory on their way", _of("bytes_copied")),
}
_GAUGES: dict[str, tuple[str, _Read]] = {
    "entries": ("Chunks in the store", _of_index("entries")),
    "slots": ("Slots of the store", _slots("capacity")),
    "slots_free": ("Slots without a chunk", _slots("free")),
}
_HEALTH: dict[str, tuple[str, _Read]] = {
    "healthy": ("1 if the store works, 0 if it does not", _of("healthy")),
    "tasks": ("Batches in progress", _of("tasks")),
    "late_tasks": ("Batches that the device has not answered in time", _of("late")),
    "oldest_task_seconds": ("Age of the oldest batch", lambda health: float(health["oldest_task_seconds"] or 0.0)),
}


def definitions() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (words, _) in _COUNTERS.items():
        found[_PREFIX + name] = OffloadingCounterMetadata(documentation=f"{words}, labeled by tier.", labelnames=("tier",))
    for name, (words, _) in (*_GAUGES.items(), *_HEALTH.items()):
        found[_PREFIX + name] = OffloadingGaugeMetadata(documentation=f"{words}, labeled by tier.", labelnames=("tier",))
    return found


class Figures:
    """Counters as what was added since the last time, which is how vLLM sums them up."""

    def __init__(self, store: native.Store, tier: str) -> None:
        self._store = store
        self._labels = (tier,)
        self._told: dict[str, float] = {}
        self._due = 0.0

    def take(self) -> Any:
        now = time.monotonic()
        if now < self._due:
            return None
        self._due = now + _SECONDS_BETWEEN
        stats, health = self._store.stats(), self._store.health()
        taken = OffloadingConnectorStats()
        for name, (_, read) in _COUNTERS.items():
            value = read(stats)
            added = value - self._told.get(name, 0.0)
            self._told[name] = value
            if added > 0:
                taken.increase_counter(_PREFIX + name, added, self._labels)
        for source, gauges in ((stats, _GAUGES), (health, _HEALTH)):
            for name, (_, read) in gauges.items():
                taken.set_gauge(_PREFIX + name, read(source), self._labels)
        return taken
