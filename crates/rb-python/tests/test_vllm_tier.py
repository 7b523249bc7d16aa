"""The tier inside of vLLM's own spec, factory and manager."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import raw_block

try:
    from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats
    from vllm.v1.kv_offload.base import (
        LookupResult,
        Medium,
        OffloadingCounterMetadata,
        ReqContext,
        ScheduleEndContext,
        make_offload_key,
    )
    from vllm.v1.kv_offload.config import (
        OffloadingCacheConfig,
        OffloadingConfig,
        OffloadingGroupConfig,
        OffloadingModelConfig,
        OffloadingParallelConfig,
    )
    from vllm.v1.kv_offload.tiering.base import TransferJob
    from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec
except Exception as error:  # whatever an import of a host may raise
    pytest.skip(f"vLLM cannot be imported: {error!r}", allow_module_level=True)

import numpy as np
from raw_block import vllm as module
from raw_block.vllm import RawBlockTier
from test_late_device import Slow, slow  # noqa: F401, a fixture

CHUNK = 256 << 10
CHUNKS = 8
STORE = 64 << 20


def spec_of(path: str, *, events: bool = True, model: str = "org/model", dp_rank: int = 0, **tier: Any) -> Any:
    """The spec with one tier, as vLLM makes it from its configuration."""
    tier = {"type": "RawBlockTier", "module_path": "raw_block.vllm", "path": path, "bytes": STORE, **tier}
    return TieringOffloadingSpec(
        OffloadingConfig(
            groups=(OffloadingGroupConfig(tokens_per_block=16, layer_names=("layer.0",), group_id=0),),
            worker_kv_bytes_per_block=CHUNK,
            enable_kv_cache_events=events,
            extra_config={"cpu_bytes_to_use": CHUNK * CHUNKS, "secondary_tiers": [tier]},
            engine_id=f"raw-block-{os.getpid()}-{uuid4()}",
            model=OffloadingModelConfig(name=model, dtype="bfloat16"),
            cache=OffloadingCacheConfig(tokens_per_hash=16, blocks_per_chunk=1),
            parallel=OffloadingParallelConfig(
                rank=0,
                world_size=1,
                tp_size=1,
                pp_size=1,
                pcp_size=1,
                dcp_size=1,
                data_parallel_index=dp_rank,
                data_parallel_size=1,
                data_parallel_rank_local=None,
                is_parallelism_agnostic=False,
            ),
        )
    )


class Engine:
    """Does what vLLM's scheduler does with a manager, with chunks that a GPU would write."""

    def __init__(self, path: str, **options: Any) -> None:
        self.manager = spec_of(path, **options).get_manager()
        self.tier: RawBlockTier = self.manager.secondary_tiers[0]
        self.view = self.manager.primary_tier.get_kv_memoryview()
        self.events: list[Any] = []
        self.requests = 0

    def request(self, params: dict[str, Any] | None = None) -> Any:
        self.requests += 1
        context = ReqContext(req_id=f"request {self.requests}", kv_transfer_params=params)
        self.manager.on_new_request(context)
        return context

    def step(self) -> None:
        self.manager.on_schedule_end(ScheduleEndContext(new_req_ids=(), preempted_req_ids=()))
        self.events += self.manager.take_events()

    def settle(self) -> None:
        end = time.monotonic() + 30
        self.step()
        while self.manager.has_pending_work():
            assert time.monotonic() < end, "the jobs have not ended within 30 s"
            time.sleep(0.001)
            self.step()

    def bytes_at(self, chunk: int) -> memoryview:
        flat = self.view.cast("B")
        return flat[chunk * CHUNK : (chunk + 1) * CHUNK]

    def store(self, values: dict[Any, bytes], params: dict[str, Any] | None = None) -> None:
        """From the GPU to the primary tier, and from there to ours."""
        request = self.request(params)
        prepared = self.manager.prepare_store(list(values), request)
        assert prepared is not None and prepared.keys_to_store == list(values)
        for key, chunk in zip(prepared.keys_to_store, prepared.store_spec.chunk_ids):
            self.bytes_at(int(chunk))[:] = values[key]
        self.manager.complete_store(prepared.keys_to_store, request)
        self.manager.on_request_finished(request)
        self.settle()

    def load(self, keys: list[Any]) -> dict[Any, bytes | None]:
        """As a request does: looks up until each chunk is in the primary tier or nowhere."""
        request = self.request()
        for _ in range(3):
            found = {key: self.manager.lookup(key, request) for key in keys}
            if LookupResult.HIT_PENDING not in found.values():
                break
            self.settle()
        hits = [key for key in keys if found[key] is LookupResult.HIT]
        assert all(found[key] is LookupResult.MISS for key in keys if key not in hits)
        loaded: dict[Any, bytes | None] = dict.fromkeys(keys)
        if hits:
            chunks = self.manager.prepare_load(hits, request).chunk_ids
            loaded.update((key, bytes(self.bytes_at(int(chunk)))) for key, chunk in zip(hits, chunks))
            self.manager.complete_load(hits, request)
        self.manager.on_request_finished(request)
        return loaded

    def forget(self) -> None:
        """Empties the primary tier, as a sleep or an update of weights does. The store keeps its chunks."""
        self.manager.reset_cache()

    def close(self) -> None:
        self.manager.shutdown()


def keys_of(*numbers: int) -> list[Any]:
    return [make_offload_key(number.to_bytes(32, "big"), 0) for number in numbers]


def values_of(*numbers: int) -> dict[Any, bytes]:
    return {key: random.Random(number).randbytes(CHUNK) for key, number in zip(keys_of(*numbers), numbers)}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def engine(path: str) -> Iterator[Engine]:
    engine = Engine(path, enable_kv_events=True)
    yield engine
    engine.close()


def told(engine: Engine) -> list[tuple[bool, Any]]:
    """What our tier has told: whether it was a removal, and the key."""
    ours = [event for event in engine.events if event.medium is Medium.STORAGE]
    assert all((event.ownership, event.locality.value) == ("raw_block", "LOCAL") for event in ours)
    return [(event.removed, key) for event in ours for key in event.keys]


def test_chunks_come_back_and_nothing_is_copied(engine: Engine) -> None:
    values = values_of(*range(6))
    engine.store(values)
    engine.forget()
    assert engine.load(list(values)) == values
    stats = engine.tier._store.stats()
    assert (stats["bytes_copied"], stats["bytes_direct"]) == (0, 2 * 6 * CHUNK)
    assert told(engine) == [(False, key) for key in values]
    assert engine.load(keys_of(99)) == {keys_of(99)[0]: None}


def test_a_chunk_that_is_there_is_not_written_again(engine: Engine) -> None:
    values = values_of(1, 2)
    engine.store(values)
    engine.forget()
    engine.store(values)
    assert engine.tier._store.stats()["puts"] == 2
    assert len(told(engine)) == 2


class Spy:
    """A store, and the keys of each call of `contains`."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[list[bytes]] = []

    def contains(self, keys: list[bytes]) -> list[bool]:
        self.asked.append(keys)
        return list(self._store.contains(keys))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("policy", ["lru", "learned"])
def test_a_policy_that_learns_sees_chains(path: str, policy: str) -> None:
    """vLLM asks for one chunk after the other, and each was a chain of its own: a replay had .025 fewer hits."""
    engine = Engine(path, policy=policy)
    try:
        engine.store(values_of(1))
        tier = engine.tier
        spy = Spy(tier._store)
        tier._store = spy
        found, *missing = keys_of(1, 2, 3)
        request = engine.request()
        assert tier.lookup(found, request) is LookupResult.HIT
        assert tier.lookup(missing[0], request) is LookupResult.MISS
        chunks = np.array([1, 2], dtype=np.int32)
        tier.submit_store(
            TransferJob(job_id=7, keys=missing, chunk_ids=chunks, is_promotion=False, req_context=request)
        )
        seen = [tier._prefix + key for key in (found, *missing)]
        assert spy.asked == ([seen] if policy == "learned" else [])
        while not list(tier.get_finished_jobs()):
            time.sleep(0.001)
        tier._store = spy._store
    finally:
        engine.close()


def test_empty_jobs_succeed(engine: Engine) -> None:
    request = engine.request()
    for number, submit in enumerate((engine.tier.submit_store, engine.tier.submit_load)):
        submit(
            TransferJob(
                job_id=number, keys=[], chunk_ids=np.array([], dtype=np.int32), is_promotion=False, req_context=request
            )
        )
    assert engine.tier.has_pending_work()
    assert [(result.job_id, result.success) for result in engine.tier.get_finished_jobs()] == [(0, True), (1, True)]
    assert not engine.tier.has_pending_work()


def shared_memory_of(pid: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"vllm_offload_raw-block-{pid}-*"))


def test_a_restart_finds_them(path: str) -> None:
    values = values_of(*range(4))
    for _ in range(2):
        engine = Engine(path)
        if engine.tier._store.recovery()["entries"] == 0:
            engine.store(values)
        else:
            assert engine.load(list(values)) == values
        engine.close()
    assert shared_memory_of(os.getpid()) == [], "vLLM could unmap its memory"


def test_another_model_is_refused_with_words(path: str) -> None:
    Engine(path).close()
    with pytest.raises(raw_block.Unexpected, match="org/model bfloat16 direct.*other/model"):
        Engine(path, model="other/model")
    with pytest.raises(raw_block.Consent, match="consent"):
        Engine(path, model="other/model", on_mismatch="clear")
    Engine(path, model="other/model", on_mismatch="clear", consent=True).close()


def test_a_second_opener_learns_who_holds_the_store(path: str, engine: Engine) -> None:
    with pytest.raises(raw_block.InUse, match=f"process {os.getpid()} holds"):
        Engine(path)


def test_each_engine_core_has_its_own_store(tmp_path: Path) -> None:
    for rank in range(2):
        Engine(str(tmp_path / "dp{dp_rank}"), dp_rank=rank).close()
    assert sorted(os.listdir(tmp_path)) == ["dp0", "dp1"]
    with pytest.raises(ValueError, match="known are"):
        Engine(str(tmp_path / "{nothing}"))


def test_unknown_parameters_are_errors(path: str) -> None:
    with pytest.raises(ValueError, match="unknown key 'queue_dept'.*'queue_depth'"):
        Engine(path, queue_dept=1)


def flip(path: str, value: bytes) -> None:
    """Changes one bit of a value on the device."""
    with open(path, "r+b") as file:
        at = file.read().index(value[4096 : 4096 + 64])
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 1,)))
        os.fsync(file.fileno())


def test_a_flipped_byte_is_a_miss_and_the_rest_of_the_load_counts(path: str, engine: Engine) -> None:
    values = values_of(*range(4))
    engine.store(values)
    engine.forget()
    engine.tier._store.sync()
    bad = keys_of(2)[0]
    flip(path, values[bad])
    assert engine.load(list(values)) == {**values, bad: None}
    engine.settle()
    assert (True, bad) in told(engine)
    assert engine.load([bad]) == {bad: None}
    engine.forget()
    engine.store({bad: values[bad]})
    engine.forget()
    assert engine.load([bad]) == {bad: values[bad]}


def test_a_failed_load_is_not_tried_for_ever(engine: Engine) -> None:
    """If a chunk is found and cannot be loaded, the request goes on without it, and another request tries again."""
    values = values_of(1)
    engine.store(values)
    engine.forget()
    request, other = engine.request(), engine.request()
    assert engine.manager.lookup(keys_of(1)[0], request) is LookupResult.HIT_PENDING
    real, engine.tier._store_get = engine.tier._store_get, _refuse  # type: ignore[method-assign]
    engine.settle()
    engine.tier._store_get = real  # type: ignore[method-assign]
    assert engine.manager.lookup(keys_of(1)[0], request) is LookupResult.MISS
    assert engine.manager.lookup(keys_of(1)[0], other) is LookupResult.HIT_PENDING
    engine.settle()
    assert engine.manager.lookup(keys_of(1)[0], request) is LookupResult.HIT


def _refuse(keys: list[bytes], spans: list[tuple[int, int]]) -> int:
    raise raw_block.Error("refused")


def test_a_device_that_does_not_answer_gets_no_more_work(engine: Engine) -> None:
    values = values_of(1, 2)
    engine.store(values)
    request = engine.request()
    tier = engine.tier
    assert tier.lookup(keys_of(1)[0], request) is LookupResult.HIT
    stuck = SimpleNamespace(since=time.monotonic() - 31)
    tier._gets[-1] = stuck  # type: ignore[assignment]
    assert tier.lookup(keys_of(1)[0], request) is LookupResult.MISS
    del tier._gets[-1]
    tier._puts[-1] = stuck  # type: ignore[assignment]
    assert tier.lookup(keys_of(1)[0], request) is LookupResult.HIT
    job = TransferJob(
        job_id=7, keys=keys_of(3), chunk_ids=np.array([0], dtype=np.int32), is_promotion=False, req_context=request
    )
    tier.submit_store(job)
    del tier._puts[-1]
    assert [(result.job_id, result.success) for result in tier.get_finished_jobs()] == [(7, False)]


def test_a_full_store_evicts_and_says_so(engine: Engine) -> None:
    slots = engine.tier._store.geometry()["slots"]
    count = slots + 2 * CHUNKS
    for first in range(0, count, CHUNKS):
        engine.store(values_of(*range(first, first + CHUNKS)))
        engine.forget()
    stored = [key for removed, key in told(engine) if not removed]
    removed = [key for removed, key in told(engine) if removed]
    assert len(stored) >= count and len(set(removed)) == len(removed) > 0
    here = [key for key in stored if engine.tier.lookup(key, engine.request()) is LookupResult.HIT]
    assert set(here) == set(stored) - set(removed)
    last = values_of(*range(first, first + CHUNKS))
    assert engine.load(list(last)) == last


def test_touched_chunks_stay(engine: Engine) -> None:
    slots = engine.tier._store.geometry()["slots"]
    engine.store(values_of(0, 1))
    engine.forget()
    for first in range(2, 2 + 2 * slots, CHUNKS):
        engine.manager.touch(keys_of(0), engine.request())
        engine.store(values_of(*range(first, first + CHUNKS)))
        engine.forget()
    assert engine.load(keys_of(0, 1)) == {**values_of(0), keys_of(1)[0]: None}


def test_hints_of_requests_reach_the_store(engine: Engine) -> None:
    engine.store(values_of(1), {"raw_block": {"ttl_seconds": 0.3, "priority": 9, "chain_ended": True}})
    engine.store(values_of(2), {"raw_block": {"ttl_seconds": "soon", "priority": -1, "unknown": 1}})
    engine.store(values_of(3), {"raw_block": "wrong"})
    engine.forget()
    # The store counts expiry in whole seconds, rounded up.
    time.sleep(1.5)
    assert engine.load(keys_of(1, 2, 3)) == {keys_of(1)[0]: None, **values_of(2, 3)}


def test_no_events_unless_wanted(path: str) -> None:
    for options in ({"enable_kv_events": False}, {"enable_kv_events": True, "events": False}):
        engine = Engine(path, **options)
        engine.store(values_of(1))
        assert told(engine) == []
        engine.close()


def test_figures_for_the_metrics_endpoint(engine: Engine) -> None:
    known = TieringOffloadingSpec.build_metric_definitions(
        {"cpu_bytes_to_use": 1, "secondary_tiers": [{"type": "RawBlockTier", "module_path": "raw_block.vllm"}]}
    )
    name = "vllm:kv_offload_raw_block_"
    assert isinstance(known[name + "evictions"], OffloadingCounterMetadata)
    engine.store(values_of(1, 2))
    stats = engine.manager.get_stats()
    assert isinstance(stats, OffloadingConnectorStats)
    values = stats.data["data"]
    assert values[name + "puts"] == {("RawBlockTier",): 2}
    assert values[name + "bytes_put"] == {("RawBlockTier",): 2 * CHUNK}
    assert values[name + "entries"] == {("RawBlockTier",): 2}
    assert values[name + "healthy"] == {("RawBlockTier",): 1}
    assert set(values) - {each for each in values if each.startswith(name)} < set(known)
    assert {each for each in values if each.startswith(name)} <= set(known)
    again = engine.tier.get_stats()
    assert again is None, "gathered once a second at most"
    json.dumps({key: list(map(list, value)) for key, value in values.items()})


def test_after_shutdown_the_device_is_free_and_calls_are_harmless(path: str) -> None:
    engine = Engine(path)
    tier = engine.tier
    engine.store(values_of(1))
    request = engine.request()
    engine.close()
    tier.shutdown()
    assert tier.lookup(keys_of(1)[0], request) is LookupResult.MISS
    tier.touch(keys_of(1), request)
    assert tier.get_stats() is None and list(tier.take_events()) == []
    Engine(path).close()


def test_shutdown_with_jobs_in_progress(path: str) -> None:
    engine = Engine(path)
    request = engine.request()
    values = values_of(*range(CHUNKS))
    prepared = engine.manager.prepare_store(list(values), request)
    for key, chunk in zip(prepared.keys_to_store, prepared.store_spec.chunk_ids):
        engine.bytes_at(int(chunk))[:] = values[key]
    engine.manager.complete_store(list(values), request)
    engine.close()
    engine = Engine(path)
    assert engine.load(list(values)) == values
    engine.close()


def test_jobs_on_a_device_that_hangs_keep_their_memory(slow: Slow) -> None:  # noqa: F811
    engine = Engine(slow.device, bytes=None, io_deadline_ms=1000)
    values = values_of(1, 2)
    first, second = values
    engine.store(values)
    engine.tier._store.sync()
    engine.forget()
    slow.hold("read", True)
    request, other = engine.request(), engine.request()
    assert engine.manager.lookup(first, request) is LookupResult.HIT_PENDING
    engine.step()
    time.sleep(1.5)
    engine.step()
    assert engine.manager.lookup(first, request) is LookupResult.HIT_PENDING, "the device still has the memory"
    began = time.monotonic()
    assert engine.manager.lookup(second, other) is LookupResult.MISS, "no more work for it"
    assert time.monotonic() - began < 0.5
    slow.hold("read", False)
    engine.tier.drain_jobs()
    engine.settle()
    assert engine.manager.lookup(first, request) is LookupResult.MISS
    assert engine.load(list(values)) == values

    engine.forget()
    slow.hold("read", True)
    assert engine.manager.lookup(first, engine.request()) is LookupResult.HIT_PENDING
    engine.step()
    with pytest.raises(RuntimeError, match="still has 1 jobs"):
        engine.close()
    # vLLM has not unmapped its memory.
    assert len(engine.view) == CHUNKS
    slow.hold("read", False)
    end = time.monotonic() + 30
    while not module._abandoned[-1][0].drain("get"):
        assert time.monotonic() < end
        time.sleep(0.1)
    module._abandoned.clear()
    del engine.tier._store
    engine.manager.primary_tier.shutdown()


CHILD = """
import sys
sys.path.insert(0, {tests!r})
import test_vllm_tier as t
engine = t.Engine({path!r}, durability="batch")
engine.store(t.values_of(*range(6)))
print("stored", flush=True)
while True:
    engine.store(t.values_of(*range(100, 106)))
    engine.forget()
"""


def test_a_killed_engine_loses_nothing_that_was_stored(path: str) -> None:
    code = CHILD.format(tests=str(Path(__file__).parent), path=path)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "stored":
                break
        with pytest.raises(raw_block.InUse, match=f"process {child.pid} holds"):
            Engine(path)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        for left in shared_memory_of(child.pid):
            left.unlink()
    engine = Engine(path)
    try:
        assert not engine.tier._store.recovery()["clean"]
        values = values_of(*range(6))
        assert engine.load(list(values)) == values
    finally:
        engine.close()
