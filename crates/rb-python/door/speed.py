"""The time from a restart to the first hit with 100,000 objects, and the CPU that Python takes for a key.

The process that stores the objects ends without closing the store, so that the next one recovers it."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from report import step

OBJECTS = 100_000
AT_ONCE = 500
BATCH = 128
ROUNDS = 60
SECONDS_MAX = 0.5
LAYOUT_BYTES = 4096
STORE = {"bytes": "4GiB", "slot_bytes": "16KiB", "sparse": True}


class Lmcache:
    def __init__(self, path: Path) -> None:
        import torch
        from lmcache.v1.distributed.internal_api import L1MemoryDesc
        from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj
        from raw_block.lmcache import RawBlockAdapter
        from soak_lmcache import Watching, key_of
        from test_lmcache_adapter import load, lookup, obj, store

        torch.set_num_threads(1)
        # Objects lie in memory that LMCache hands over, as in a server.
        pool = torch.ones((BATCH + 1) * LAYOUT_BYTES, dtype=torch.uint8)
        begin = -pool.data_ptr() % LAYOUT_BYTES
        meta = MemoryObjMetadata(torch.Size([1000]), torch.float32, 0, 4000, 1, fmt=MemoryFormat.KV_2LTD)
        places = range(begin, begin + BATCH * LAYOUT_BYTES, LAYOUT_BYTES)
        self.objects = [TensorMemoryObj(pool[at : at + 4000], meta, parent_allocator=None) for at in places]
        memory = L1MemoryDesc(pool.data_ptr() + begin, BATCH * LAYOUT_BYTES, LAYOUT_BYTES)
        self.key_of, self.obj, self._store, self._load, self._lookup = key_of, obj, store, load, lookup
        self.began, self.began_cpu = time.monotonic(), time.process_time()
        self.adapter = RawBlockAdapter({"path": str(path), **STORE}, memory)
        assert self.adapter._direct_off is None, self.adapter._direct_off
        self.listener = Watching()
        self.adapter.register_listener(self.listener)

    def store(self, numbers: list[int]) -> None:
        one = self.obj(1.0)
        self._store(self.adapter, [self.key_of(number) for number in numbers], [one] * len(numbers))

    def hit(self, number: int) -> bool:
        assert len(self.listener.sizes) >= OBJECTS, "the listener does not know all objects"
        target = self.obj()
        return self._load(self.adapter, [self.key_of(number)], [target]) == [0] and float(target.tensor[9]) == 1.0

    def sync(self) -> None:
        self.adapter._store.sync()

    def cpu(self) -> dict[str, float]:
        adapter = self.adapter
        thread = adapter._pump._thread.ident
        assert thread is not None
        pump = time.pthread_getcpuclockid(thread)
        objects = self.objects
        figures: dict[str, list[float]] = {"submit": [], "complete": [], "host": [], "lookup": [], "lookup_ms": []}
        host = 0.0
        notify = adapter._notify_keys_stored

        def timed(*args: Any) -> None:
            """LMCache's own part: its accounts, its events and the listener."""
            nonlocal host
            began = time.thread_time()
            notify(*args)
            host += time.thread_time() - began

        adapter._notify_keys_stored = timed
        for at in range(ROUNDS):
            keys = [self.key_of(1 << 40 | at << 8 | each) for each in range(BATCH)]
            pumped, host = time.clock_gettime(pump), 0.0
            began = time.thread_time()
            task = adapter.submit_store_task(keys, objects)
            figures["submit"].append(time.thread_time() - began)
            while task not in adapter.pop_completed_store_tasks():
                time.sleep(0.0005)
            time.sleep(0.002)
            figures["host"].append(host)
            figures["complete"].append(time.clock_gettime(pump) - pumped - host)
            began, at_wall = time.thread_time(), time.perf_counter()
            adapter.query_lookup_and_lock_result(adapter.submit_lookup_and_lock_task(keys))
            figures["lookup"].append(time.thread_time() - began)
            figures["lookup_ms"].append((time.perf_counter() - at_wall) * BATCH / 1e3)
            adapter.submit_unlock(keys)
        return per_key(figures)


class Vllm:
    def __init__(self, path: Path) -> None:
        import test_vllm_tier as tests

        # Small chunks, of which the primary tier holds many.
        tests.CHUNK, tests.CHUNKS = LAYOUT_BYTES, 2 * AT_ONCE
        self.tests = tests
        self.began, self.began_cpu = time.monotonic(), time.process_time()
        self.engine = tests.Engine(str(path), enable_kv_events=True, **STORE)

    def store(self, numbers: list[int]) -> None:
        self.engine.forget()
        self.engine.store(dict.fromkeys(self.tests.keys_of(*numbers), b"1" * LAYOUT_BYTES))
        self.engine.events.clear()

    def hit(self, number: int) -> bool:
        return list(self.engine.load(self.tests.keys_of(number)).values()) == [b"1" * LAYOUT_BYTES]

    def sync(self) -> None:
        self.engine.tier._store.sync()

    def cpu(self) -> dict[str, float]:
        import select

        import numpy as np

        tests, tier = self.tests, self.engine.tier
        figures: dict[str, list[float]] = {"submit": [], "complete": [], "lookup": []}
        for at in range(ROUNDS):
            keys = tests.keys_of(*(1 << 40 | at << 8 | each for each in range(BATCH)))
            request = self.engine.request()
            chunks = np.arange(BATCH, dtype=np.int32)
            job = tests.TransferJob(job_id=at, keys=keys, chunk_ids=chunks, is_promotion=False, req_context=request)
            began = time.thread_time()
            tier.submit_store(job)
            figures["submit"].append(time.thread_time() - began)
            # The end of the batch, and not the wait for it.
            select.select([tier._store.put_fd], [], [], 10)
            began = time.thread_time()
            done = list(tier.get_finished_jobs())
            figures["complete"].append(time.thread_time() - began)
            while not done:
                done = list(tier.get_finished_jobs())
            began = time.thread_time()
            for key in keys:
                tier.lookup(key, request)
            figures["lookup"].append(time.thread_time() - began)
        return per_key(figures)


class Sglang:
    def __init__(self, path: Path) -> None:
        import test_sglang_hicache as tests

        tests.PAGES = AT_ONCE
        self.tests = tests
        self.pool = tests.Pool(2, part_bytes=LAYOUT_BYTES)
        self.pool.kv_buffer.fill_(1)
        self.began, self.began_cpu = time.monotonic(), time.process_time()
        self.backend = tests.attach(str(path), self.pool, extra=STORE)

    def store(self, numbers: list[int]) -> None:
        # A page has two parts, which are two objects to the store.
        pages = numbers[: len(numbers) // 2]
        assert all(self.backend.batch_set_v1(self.tests.hashes(*pages), self.pool.indices(*range(len(pages)))))

    def hit(self, number: int) -> bool:
        self.pool.kv_buffer.zero_()
        done = self.backend.batch_get_v1(self.tests.hashes(number), self.pool.indices(0))
        return done == [True] and bool(self.pool.kv_buffer[:, 0].eq(1).all())

    def sync(self) -> None:
        self.backend._opened().sync()

    def cpu(self) -> dict[str, float]:
        figures: dict[str, list[float]] = {"lookup": []}
        keys = self.tests.hashes(*range(BATCH))
        for _ in range(ROUNDS):
            began = time.thread_time()
            self.backend.batch_exists(keys)
            figures["lookup"].append(time.thread_time() - began)
        return per_key(figures)


def per_key(figures: dict[str, list[float]]) -> dict[str, float]:
    """Medians in microseconds for a key; `lookup_ms` is for a batch."""
    return {name: round(statistics.median(each) / BATCH * 1e6, 2) for name, each in figures.items()}


HOSTS: dict[str, Callable[[Path], Any]] = {"lmcache": Lmcache, "vllm": Vllm, "sglang": Sglang}


def fill(host: str, path: Path) -> None:
    engine = HOSTS[host](path)
    for first in range(0, OBJECTS, AT_ONCE):
        engine.store(list(range(first, first + AT_ONCE)))
    engine.sync()
    # Not closed: as if it were killed.
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True, choices=sorted(HOSTS))
    parser.add_argument("--fill", type=Path)
    options = parser.parse_args()
    if options.fill:
        fill(options.host, options.fill)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        with step(f"{options.host}/restart") as running:
            command = [sys.executable, __file__, "--host", options.host, "--fill", str(path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            engine = HOSTS[options.host](path)
            assert engine.hit(OBJECTS - AT_ONCE)
            seconds, cpu = time.monotonic() - engine.began, time.process_time() - engine.began_cpu
            running.figures = {"seconds": seconds, "cpu_seconds": cpu, "objects": OBJECTS}
            running.figure = (
                f"{seconds:.2f} s to the first hit with {OBJECTS} objects, {cpu:.2f} s of CPU (target {SECONDS_MAX} s)"
            )
        with step(f"{options.host}/cpu") as running:
            figures = engine.cpu()
            lookup_ms = figures.pop("lookup_ms", None)
            running.figures = figures
            running.figure = ", ".join(f"{name} {figure} us a key" for name, figure in figures.items())
            if lookup_ms is not None:
                running.figures["lookup_of_128_ms"] = lookup_ms
                running.figure += f"; lookup of {BATCH} keys {lookup_ms} ms"
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
