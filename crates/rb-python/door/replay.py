"""A trace of block ids through the real lookup, load and store calls of each adapter, next to `rb simulate`.

What a request missed is stored up to 100 ms of the trace's time after its lookup, in another order than that of the
requests. Blocks have 4 KiB; what counts is which of them are there."""

from __future__ import annotations

import argparse
import heapq
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import step

BLOCK = 4096
CHAIN_MAX = 1024
# A slot has a header of as many bytes as these blocks.
STRIDE = 2 * BLOCK
DELAY_MS = 100
# Each store draws another secret, and with it another sample of the trace.
SHORT_MAX = 0.005


class Lmcache:
    def __init__(self, params: dict[str, Any]) -> None:
        import torch
        from lmcache.v1.distributed.api import ObjectKey
        from raw_block.lmcache import RawBlockAdapter
        from test_lmcache_adapter import obj, wait_for

        torch.set_num_threads(1)
        self._key, self._wait = ObjectKey, wait_for
        self._sources = [obj(1.0, count=BLOCK // 4)] * CHAIN_MAX
        self._targets = [obj(0.0, count=BLOCK // 4) for _ in range(CHAIN_MAX)]
        self.adapter = RawBlockAdapter(params)
        self.store_of = self.adapter._store

    def _keys(self, chain: list[int]) -> list[Any]:
        return [self._key(block.to_bytes(32, "big"), "model", 0) for block in chain]

    def look_up(self, chain: list[int]) -> tuple[list[bool], Any]:
        keys = self._keys(chain)
        task = self.adapter.submit_lookup_and_lock_task(keys, {})
        found = self.adapter.query_lookup_and_lock_result(task)
        here = set(found.get_indices_list())
        hits = [at in here for at in range(len(chain))]
        prefix = prefix_of(hits)
        if prefix:
            task = self.adapter.submit_load_task(keys[:prefix], self._targets[:prefix])
            loaded = self._wait(lambda: self.adapter.query_load_result(task))
            assert len(loaded.get_indices_list()) == prefix
        self.adapter.submit_unlock([key for key, hit in zip(keys, hits) if hit])
        return hits, None

    def put(self, chain: list[int], _: Any) -> None:
        task = self.adapter.submit_store_task(self._keys(chain), self._sources[: len(chain)])
        done: dict[int, Any] = {}
        self._wait(lambda: done.update(self.adapter.pop_completed_store_tasks()) or done.get(task))
        assert int(done[task]) >= 0


class Vllm:
    def __init__(self, params: dict[str, Any]) -> None:
        import test_vllm_tier as tests

        tests.CHUNK, tests.CHUNKS = BLOCK, CHAIN_MAX
        self._tests = tests
        self._engine = tests.Engine(events=False, **params)
        self._tier = self._engine.tier
        self.store_of = self._tier._store
        self._jobs = 0

    def look_up(self, chain: list[int]) -> tuple[list[bool], Any]:
        # Up to the first miss, as vLLM does.
        request, keys = self._engine.request(), self._tests.keys_of(*chain)
        prefix = 0
        for key in keys:
            if self._tier.lookup(key, request) is not self._tests.LookupResult.HIT:
                break
            prefix += 1
        if prefix:
            self._run(self._tier.submit_load, keys[:prefix], True, request)
        return [at < prefix for at in range(len(chain))], request

    def put(self, chain: list[int], request: Any) -> None:
        self._run(self._tier.submit_store, self._tests.keys_of(*chain), False, request)

    def _run(self, submit: Callable[[Any], None], keys: list[Any], is_promotion: bool, request: Any) -> None:
        import numpy as np

        self._jobs += 1
        chunks = np.arange(len(keys), dtype=np.int32)
        job = self._tests.TransferJob(
            job_id=self._jobs, keys=keys, chunk_ids=chunks, is_promotion=is_promotion, req_context=request
        )
        submit(job)
        end = time.monotonic() + 30
        while not list(self._tier.get_finished_jobs()):
            assert time.monotonic() < end, "a job has not ended"


class Sglang:
    def __init__(self, params: dict[str, Any]) -> None:
        import test_sglang_hicache as tests

        tests.PAGES = CHAIN_MAX
        self._tests = tests
        self._pool = tests.Pool(1, part_bytes=BLOCK)
        self._pool.kv_buffer.fill_(1)
        self._backend = tests.attach(params.pop("path"), self._pool, extra=params, is_mla_model=True)
        self.store_of = self._backend._opened()

    def look_up(self, chain: list[int]) -> tuple[list[bool], Any]:
        keys = self._tests.hashes(*chain)
        prefix = self._backend.batch_exists(keys)
        if prefix:
            assert all(self._backend.batch_get_v1(keys[:prefix], self._pool.indices(*range(prefix))))
        return [at < prefix for at in range(len(chain))], None

    def put(self, chain: list[int], _: Any) -> None:
        self._backend.batch_set_v1(self._tests.hashes(*chain), self._pool.indices(*range(len(chain))))


HOSTS: dict[str, Callable[[dict[str, Any]], Any]] = {"lmcache": Lmcache, "vllm": Vllm, "sglang": Sglang}


def prefix_of(hits: list[bool]) -> int:
    return next((at for at, hit in enumerate(hits) if not hit), len(hits))


def requests_of(trace: Path) -> list[tuple[float, list[int]]]:
    lines = trace.read_text().splitlines()
    return [(each["timestamp"], each["hash_ids"]) for each in map(json.loads, lines)]


def replay(engine: Any, requests: list[tuple[float, list[int]]], seed: int) -> float:
    """Returns the part of the blocks that were found before the first miss of their request."""
    delays = random.Random(seed)
    later: list[tuple[float, int, list[int], Any]] = []
    hits = references = 0
    for number, (moment, chain) in enumerate(requests):
        while later and later[0][0] <= moment:
            engine.put(*heapq.heappop(later)[2:])
        found, request = engine.look_up(chain)
        hits += prefix_of(found)
        references += len(chain)
        missed = [block for block, hit in zip(chain, found) if not hit]
        if missed:
            heapq.heappush(later, (moment + delays.uniform(0, DELAY_MS), number, missed, request))
    return hits / references


def simulated(rb: str, trace: Path, slots: int, policy: str, shards: int, seed: int) -> float:
    command = [rb, "simulate", str(trace), "--apart", "--capacity", str(slots), "--policy", policy]
    command += ["--shards", str(shards), "--seed", str(seed), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    points = json.loads(done.stdout)["points"]
    (ratio,) = (point["prefix_hit_ratio"] for point in points if point["policy"] == policy)
    return float(ratio)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True, choices=sorted(HOSTS))
    parser.add_argument("--trace", required=True, type=Path, help="lines of JSON with `timestamp` and `hash_ids`")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--policy", default="learned", choices=("lru", "learned"))
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--rb", required=True, help="the program `rb`")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.stderr.write(f"seed {options.seed}\n")
    with tempfile.TemporaryDirectory() as folder, step(f"{options.host}/replay/{options.policy}") as running:
        params = {
            "path": str(Path(folder) / "store"),
            "bytes": options.slots * STRIDE + (16 << 20),
            "slot_bytes": BLOCK,
            "sparse": True,
            "policy": options.policy,
            "shards": options.shards,
        }
        engine = HOSTS[options.host](params)
        slots = engine.store_of.geometry()["slots"]
        ratio = replay(engine, requests_of(options.trace), options.seed)
        stats = engine.store_of.stats()
        of_simulator = simulated(options.rb, options.trace, slots, options.policy, options.shards, options.seed)
        running.figures = {"slots": slots, "ratio": ratio, "simulated": of_simulator, "puts": stats["puts"]}
        running.figure = f"{slots} slots: {ratio:.4f} of the blocks found, {of_simulator:.4f} in the simulator"
        assert ratio >= of_simulator - SHORT_MAX, f"more than {SHORT_MAX} below the simulator"
    sys.stdout.flush()


if __name__ == "__main__":
    main()
    import os

    os._exit(0)
