"""Metrics of open stores in the registry of `prometheus_client`, which the hosts export."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from ._native import Error, Store


class Collector:
    """Collects the metrics of all stores of the process. A metric may be in a registry only once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: dict[str, Store] = {}

    def add(self, label: str, store: Store) -> None:
        with self._lock:
            self._stores[label] = store

    def remove(self, label: str) -> None:
        with self._lock:
            self._stores.pop(label, None)

    def describe(self) -> list[Any]:
        """Nothing: the registry would otherwise collect to learn the names."""
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.parser import text_string_to_metric_families

        with self._lock:
            stores = list(self._stores.items())
        families: dict[str, Any] = {}
        for label, store in stores:
            try:
                text = store.metrics(label)
            except Error:
                # Closed by another thread, or of the process of which this is a fork.
                continue
            for family in text_string_to_metric_families(text):
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples.extend(family.samples)
        yield from families.values()


_collector: Collector | None = None
_lock = threading.Lock()


def export(label: str, store: Store) -> bool:
    """Adds a store to the default registry, under a value of the label `store`. Returns False without `prometheus_client`."""
    global _collector
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return False
    with _lock:
        if _collector is None:
            _collector = Collector()
            REGISTRY.register(_collector)
    _collector.add(label, store)
    return True


def withdraw(label: str) -> None:
    """Removes a store."""
    if _collector is not None:
        _collector.remove(label)
