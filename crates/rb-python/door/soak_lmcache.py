"""LMCache in the soak: its storage manager, with its store, prefetch and eviction controllers."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from hosts_lmcache import manager_of, plugin_config
from lmcache.v1.distributed.api import GroupedObjectKeys, MemoryLayoutDesc, ObjectKey, PrefetchTaskSpec
from lmcache.v1.distributed.internal_api import L2AdapterListener
from oracle import value

ITEMS = 64 << 10
LAYOUT = MemoryLayoutDesc(shapes=[torch.Size([ITEMS])], dtypes=[torch.float16])
SIZE = ITEMS * 2
SECONDS_MAX = 60.0
SECONDS_TO_HEAR = 0.3


def key_of(number: int) -> ObjectKey:
    return ObjectKey(number.to_bytes(32, "big"), "model", 0)


def number_of(key: ObjectKey) -> int:
    return int.from_bytes(key.chunk_hash, "big")


class Watching(L2AdapterListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.gone: list[int] = []

    def on_l2_keys_stored(self, keys: Any, sizes: Any) -> None:
        self.sizes.update(zip(map(number_of, keys), sizes))

    def on_l2_keys_accessed(self, keys: Any) -> None:
        pass

    def on_l2_keys_deleted(self, keys: Any) -> None:
        for number in map(number_of, keys):
            self.sizes.pop(number, None)
            self.gone.append(number)


class Lmcache:
    deletes = True
    keeps_memory = True
    threads = True
    size = SIZE

    def __init__(self, path: Path, **params: Any) -> None:
        torch.set_num_threads(1)
        # L1 holds 512 objects, and the store about 900.
        config = plugin_config(path, **{"bytes": "128MiB", "slot_bytes": "128KiB", **params})
        self.manager = manager_of([config])
        ((_, self.adapter),) = self.manager.l2_adapters()
        self.listener = Watching()
        self.adapter.register_listener(self.listener)

    def store(self, keys: list[int]) -> list[int]:
        names = {key_of(key): key for key in keys}
        objects = self.manager.reserve_write(list(names), LAYOUT)
        for name, obj in objects.items():
            data = bytearray(value(names[name], SIZE))
            obj.tensor.view(torch.uint8).copy_(torch.frombuffer(data, dtype=torch.uint8))
        self.manager.finish_write(list(objects))
        # The store controller takes a moment to hear of them, and says of no object that it has failed.
        end = time.monotonic() + SECONDS_TO_HEAR
        while not all(names[name] in self.listener.sizes for name in objects) and time.monotonic() < end:
            time.sleep(0.001)
        self._settle()
        # Of those that are in L1 already, nothing is written. So what counts is what the store holds.
        return [key for key in keys if key in self.listener.sizes]

    def _settle(self) -> None:
        """Waits until the store controller has handed on what is in L1."""
        end = time.monotonic() + SECONDS_MAX
        while True:
            status = self.manager.report_status()["store_controller"]
            if not status["in_flight_task_count"] and not status["pending_keys_count"]:
                return
            assert time.monotonic() < end, f"a store is not answered: {status}"
            time.sleep(0.001)

    def load(self, keys: list[int]) -> tuple[list[int], int]:
        # Out of L1, so that they come from the store.
        names = [key_of(key) for key in keys]
        self.manager.delete_l1_keys(names)
        row = GroupedObjectKeys(keys=names, object_group_id=0, layout_desc=LAYOUT)
        handle = self.manager.submit_prefetch_task(PrefetchTaskSpec(key_groups=[row], fetching_policy="full"))
        assert self.manager.wait_prefetch_status(handle, SECONDS_MAX), "a prefetch is not answered"
        hits = self.manager.query_prefetch_status(handle).hit_cells[0].get_indices_list()
        found, wrong = [], 0
        names = [names[at] for at in hits]
        if names:
            with self.manager.read_prefetched_results(names) as objects:
                for at, obj in zip(hits, objects or ()):
                    found.append(keys[at])
                    data = bytes(obj.tensor.view(torch.uint8).numpy())
                    wrong += data != value(keys[at], SIZE)
            self.manager.finish_read_prefetched(names)
        return found, wrong

    def delete(self, keys: list[int]) -> None:
        names = [key_of(key) for key in keys]
        self.manager.delete_l1_keys(names)
        self.adapter.delete(names)

    def gone(self) -> Iterable[int]:
        gone, self.listener.gone = self.listener.gone, []
        return gone

    def sync(self) -> None:
        self.adapter._store.sync()

    def health(self) -> bool:
        return bool(self.adapter.report_status()["is_healthy"])

    def memory(self) -> bytes:
        desc = self.manager.l1_memory_desc
        return ctypes.string_at(desc.ptr, desc.size)

    def end(self) -> None:
        self.manager.close()

    def close(self) -> bool:
        self._settle()
        # The pump tells of the last evictions in its next turn.
        time.sleep(0.5)
        store = self.adapter._store
        entries, _ = store.list(None, 1_000_000)
        kept = sum(store.charge(length) for _, length, _ in entries)
        exact = kept == self.adapter.get_usage().total_bytes_used == sum(self.listener.sizes.values())
        self.end()
        return bool(exact)
