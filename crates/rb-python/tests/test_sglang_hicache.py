"""The backend inside of SGLang's own factory, with SGLang's own memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import raw_block

try:
    import torch
    from sglang.srt.mem_cache.hicache_storage import (
        HiCacheStorageConfig,
        PoolHitPolicy,
        PoolName,
        PoolTransfer,
    )
    from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory
    from sglang.srt.mem_cache.storage.mmap import alloc_mmap
except Exception as error:  # whatever an import of a host may raise
    pytest.skip(f"SGLang cannot be imported: {error!r}", allow_module_level=True)

from raw_block.sglang import RawBlockHiCache

STORE = 64 << 20
PAGES = 8
PAGE = 64
PART = 256 << 10


class Pool:
    """A host pool as SGLang makes them, without a GPU behind it: pages of K and V, or of one piece as with MLA."""

    dtype = torch.bfloat16

    def __init__(self, parts: int = 2, layout: str = "page_first", page_size: int = PAGE, part_bytes: int = PART) -> None:
        self.layout, self.page_size, self.parts, self.part_bytes = layout, page_size, parts, part_bytes
        self.kv_buffer = alloc_mmap((parts, PAGES, part_bytes), torch.uint8)

    def get_page_buffer_meta(self, indices: Any) -> tuple[list[int], list[int]]:
        assert len(indices) % self.page_size == 0
        pages = [index // self.page_size for index in indices.tolist()[:: self.page_size]]
        base, each = self.kv_buffer.data_ptr(), self.part_bytes
        addresses = [base + (part * PAGES + page) * each for page in pages for part in range(self.parts)]
        return addresses, [each] * len(addresses)

    def write(self, page: int, value: bytes) -> None:
        data = torch.frombuffer(bytearray(value), dtype=torch.uint8)
        self.kv_buffer[:, page] = data.view(self.parts, self.part_bytes)

    def read(self, page: int) -> bytes:
        return bytes(self.kv_buffer[:, page].contiguous().view(-1).numpy())

    def indices(self, *pages: int) -> Any:
        each = torch.arange(self.page_size, dtype=torch.int64)
        return torch.cat([each + page * self.page_size for page in pages]) if pages else each[:0]

    def value(self, seed: int) -> bytes:
        return random.Random(seed).randbytes(self.parts * self.part_bytes)

    def fill(self, *seeds: int) -> tuple[list[str], Any]:
        """Writes values to the first pages, and returns keys and indices for them."""
        for page, seed in enumerate(seeds):
            self.write(page, self.value(seed))
        return hashes(*seeds), self.indices(*range(len(seeds)))


def hashes(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


def config_of(path: str, **options: Any) -> Any:
    extra = {
        "backend_name": "raw_block",
        "module_path": "raw_block.sglang",
        "class_name": "RawBlockHiCache",
        "interface_v1": 1,
        "path": path,
        "bytes": STORE,
        **options.pop("extra", {}),
    }
    fields = {
        "tp_rank": 0,
        "tp_size": 1,
        "pp_rank": 0,
        "pp_size": 1,
        "attn_cp_rank": 0,
        "attn_cp_size": 1,
        "is_mla_model": False,
        "enable_storage_metrics": True,
        "is_page_first_layout": True,
        "model_name": "org/model",
    }
    return HiCacheStorageConfig(**{**fields, **options}, extra_config=extra)


def attach(path: str, pool: Any, **options: Any) -> RawBlockHiCache:
    """As SGLang's cache controller does it."""
    backend = StorageBackendFactory.create_backend("dynamic", config_of(path, **options), pool)
    backend.register_mem_pool_host(pool)
    backend.on_host_pools_registered()
    assert isinstance(backend, RawBlockHiCache)
    return backend


def pool_of_sglang(layout: str) -> Any:
    """SGLang's own host pool of a small model, on the CPU."""
    from sglang.srt.mem_cache.device_pool_info import KVBufferLayout, KVBuffers, MHABufferInfo
    from sglang.srt.mem_cache.pool_host.base import host_memory_budget_scope
    from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost

    layers, heads, width = 4, 8, 64
    k, v = (tuple(torch.zeros(PAGE, heads, width, dtype=torch.bfloat16) for _ in range(layers)) for _ in "kv")
    table = [torch.tensor([each.data_ptr() for each in side], dtype=torch.uint64) for side in (k, v)]
    info = MHABufferInfo(
        buffers=KVBuffers(k=k, v=v, k_data_ptrs=table[0], v_data_ptrs=table[1], layout=KVBufferLayout.NHD),
        page_size=PAGE,
        head_num=heads,
        head_dim=width,
        v_head_dim=width,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )
    with host_memory_budget_scope(1 << 30):
        return MHATokenToKVPoolHost(
            info,
            host_to_device_ratio=2.0,
            host_size=0,
            page_size=PAGE,
            layout=layout,
            pin_memory=False,
            device_capacity_tokens=PAGE,
            start_layer=0,
            end_layer=layers,
            host_token_capacity=PAGES * PAGE,
        )


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def backend(path: str, pool: Pool) -> Iterator[RawBlockHiCache]:
    backend = attach(path, pool)
    yield backend
    backend.close()


def stats(backend: RawBlockHiCache) -> Any:
    return backend.status()["stats"]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("layout", ["page_first", "page_first_direct"])
def test_pages_come_back_and_nothing_is_copied(path: str, parts: int, layout: str) -> None:
    pool = Pool(parts, layout)
    backend = attach(path, pool)
    seeds = range(6)
    keys, indices = pool.fill(*seeds)
    assert backend.batch_exists(keys) == 0
    assert backend.batch_set_v1(keys, indices) == [True] * 6
    assert backend.batch_exists([*keys, *hashes(99)]) == 6 and backend.exists(keys[0])
    pool.kv_buffer.zero_()
    # To other pages than they came from.
    assert backend.batch_get_v1(keys, pool.indices(7, 6, 5, 4, 3, 2)) == [True] * 6
    assert [pool.read(7 - seed) for seed in seeds] == [pool.value(seed) for seed in seeds]
    assert stats(backend)["bytes_copied"] == 0
    assert stats(backend)["bytes_direct"] == 2 * 6 * parts * PART
    backend.close()


@pytest.mark.parametrize("layout", ["page_first", "page_first_direct"])
def test_a_pool_of_sglang(path: str, layout: str) -> None:
    pool = pool_of_sglang(layout)
    backend = attach(path, pool)
    wanted = torch.randn(pool.kv_buffer.shape).to(torch.bfloat16)
    pool.kv_buffer.copy_(wanted)
    keys, indices = hashes(*range(PAGES)), torch.arange(PAGES * PAGE, dtype=torch.int64)
    assert backend.batch_set_v1(keys, indices) == [True] * PAGES
    pool.kv_buffer.zero_()
    assert backend.batch_get_v1(keys, indices) == [True] * PAGES
    assert torch.equal(pool.kv_buffer, wanted)
    assert stats(backend)["bytes_copied"] == 0
    assert stats(backend)["bytes_direct"] == 2 * wanted.nbytes
    backend.close()


def test_what_is_there_is_not_written_again(backend: RawBlockHiCache, pool: Pool) -> None:
    keys, indices = pool.fill(1, 2)
    for _ in range(2):
        assert backend.batch_set_v1(keys, indices) == [True, True]
    assert stats(backend)["puts"] == 4


def test_the_longest_prefix_counts(backend: RawBlockHiCache, pool: Pool) -> None:
    keys, indices = pool.fill(0, 1, 2, 3)
    backend.batch_set_v1([keys[0], keys[1], keys[3]], pool.indices(0, 1, 3))
    assert backend.batch_exists(keys) == 2
    assert backend.batch_get_v1(keys, indices) == [True, True, False, True]
    assert backend.batch_exists([]) == 0 and backend.batch_get_v1([], pool.indices()) == []


def test_a_page_with_one_part_is_none(backend: RawBlockHiCache, pool: Pool) -> None:
    keys, indices = pool.fill(0)
    backend.batch_set_v1(keys, indices)
    value_key = backend._pages["kv"].keys(keys)[1]
    assert backend._opened().remove([value_key]) == [PART]
    assert backend.batch_exists(keys) == 0 and not backend.exists(keys[0])
    assert backend.batch_get_v1(keys, indices) == [False]
    assert backend.batch_set_v1(keys, indices) == [True] and backend.exists(keys[0])


def test_a_restart_finds_them(path: str, pool: Pool) -> None:
    keys, indices = pool.fill(0, 1, 2)
    backend = attach(path, pool)
    backend.batch_set_v1(keys, indices)
    backend.close()
    pool.kv_buffer.zero_()
    backend = attach(path, pool)
    assert backend.batch_exists(keys) == 3
    assert backend.batch_get_v1(keys, indices) == [True] * 3
    assert [pool.read(page) for page in range(3)] == [pool.value(seed) for seed in range(3)]
    backend.close()


@pytest.mark.parametrize("other", [{"model_name": "other/model"}, {"tp_rank": 1, "tp_size": 2}])
def test_pages_of_another_setting_are_misses(tmp_path: Path, pool: Pool, other: dict[str, Any]) -> None:
    path = str(tmp_path / "{tp_rank}")
    keys, indices = pool.fill(0)
    backend = attach(path, pool)
    backend.batch_set_v1(keys, indices)
    backend.close()
    os.symlink("0", tmp_path / "1")
    backend = attach(path, pool, **other)
    assert not backend.exists(keys[0])
    backend.close()
    backend = attach(path, Pool(part_bytes=PART // 2))
    assert not backend.exists(keys[0])
    backend.close()


def test_a_flipped_byte_is_a_miss(path: str, backend: RawBlockHiCache, pool: Pool) -> None:
    keys, indices = pool.fill(0, 1, 2)
    backend.batch_set_v1(keys, indices)
    backend._opened().sync()
    with open(path, "r+b") as file:
        at = file.read().index(pool.value(1)[PART + 8192 : PART + 8192 + 64])
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 128,)))
        os.fsync(file.fileno())
    assert backend.batch_get_v1(keys, indices) == [True, False, True]
    assert backend.batch_exists(keys) == 1
    pool.fill(0, 1, 2)
    assert backend.batch_set_v1(keys, indices) == [True] * 3
    assert backend.batch_get_v1(keys, indices) == [True] * 3


def test_a_full_store_evicts(backend: RawBlockHiCache, pool: Pool) -> None:
    slots = backend.status()["geometry"]["slots"]
    for first in range(0, slots + 2 * PAGES, PAGES):
        keys, indices = pool.fill(*range(first, first + PAGES))
        assert backend.batch_set_v1(keys, indices) == [True] * PAGES
    assert backend.batch_exists(hashes(0)) == 0
    assert backend.batch_get_v1(keys, indices) == [True] * PAGES
    assert stats(backend)["index"]["evictions"] > 0


def test_a_second_opener_learns_who_holds_the_store(path: str, backend: RawBlockHiCache, pool: Pool) -> None:
    with pytest.raises(raw_block.InUse, match=f"process {os.getpid()} holds"):
        attach(path, pool)


def test_what_cannot_work_is_refused_with_words(path: str, pool: Pool) -> None:
    with pytest.raises(ValueError, match="has to name {tp_rank}"):
        attach(path, pool, tp_size=2)
    with pytest.raises(ValueError, match="cannot share a store"):
        attach(path + "{tp_rank}", pool, tp_size=2, is_mla_model=True)
    with pytest.raises(ValueError, match="interface_v1"):
        attach(path, pool, extra={"interface_v1": 0})
    with pytest.raises(ValueError, match="layer_first.*page_first"):
        attach(path, Pool(layout="layer_first"))
    with pytest.raises(ValueError, match="unknown key 'byte'"):
        attach(path, pool, extra={"byte": 1})
    assert not os.path.exists(path)


def test_pools_of_their_own_sizes(backend: RawBlockHiCache, pool: Pool) -> None:
    """A state of few pages beside KV, and an index beside each page of it."""
    state, index = Pool(1, page_size=1, part_bytes=3 * 4096), Pool(1, part_bytes=1000)
    backend.register_mem_host_pool_v2(state, PoolName.MAMBA)
    backend.register_mem_host_pool_v2(index, PoolName.INDEXER)
    keys, indices = pool.fill(0, 1, 2, 3)
    backend.batch_set_v1(keys, indices)
    index.fill(0, 1, 2)
    state.write(5, state.value(1))
    transfers = [
        PoolTransfer(PoolName.INDEXER, host_indices=index.indices(0, 1, 2), keys=keys[:3]),
        PoolTransfer(
            PoolName.MAMBA,
            host_indices=state.indices(5),
            keys=[keys[1]],
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
        ),
    ]
    assert backend.batch_set_v2(transfers) == {PoolName.INDEXER: [True] * 3, PoolName.MAMBA: [True]}
    found = backend.batch_exists_v2(keys, transfers)
    assert (found.kv_hit_pages, found.restorable_prefix_pages) == (2, [2])
    assert found.extra_pool_hit_pages == {PoolName.KV: 4, PoolName.INDEXER: 3, PoolName.MAMBA: 2}
    assert backend.batch_exists_v2(keys).kv_hit_pages == 4
    assert backend.batch_exists_v2(hashes(77), transfers).kv_hit_pages == 0
    state.kv_buffer.zero_()
    index.kv_buffer.zero_()
    assert backend.batch_get_v2(transfers) == {PoolName.INDEXER: [True] * 3, PoolName.MAMBA: [True]}
    assert state.read(5) == state.value(1)
    assert [index.read(page) for page in range(3)] == [index.value(seed) for seed in range(3)]
    wrong = PoolTransfer(PoolName.INDEXER, host_indices=index.indices(0), keys=keys[:2])
    assert backend.batch_get_v2([wrong]) == {PoolName.INDEXER: [False, False]}


def test_clear_removes_all(backend: RawBlockHiCache, pool: Pool) -> None:
    keys, indices = pool.fill(0, 1)
    backend.batch_set_v1(keys, indices)
    assert backend.clear() and backend.batch_exists(keys) == 0
    assert backend.batch_set_v1(keys, indices) == [True, True] and backend.batch_exists(keys) == 2


def test_figures_for_the_metrics_endpoint(backend: RawBlockHiCache, pool: Pool) -> None:
    keys, indices = pool.fill(0, 1)
    backend.batch_set_v1(keys, indices)
    backend.batch_get_v1(keys, indices)
    figures = backend.get_stats()
    assert (figures.backup_pgs, figures.prefetch_pgs) == ([2], [2])
    assert figures.backup_bandwidth[0] > 0 and figures.prefetch_bandwidth[0] > 0
    assert backend.get_stats().backup_pgs == []


def test_calls_after_the_end_are_harmless(path: str, pool: Pool) -> None:
    backend = attach(path, pool)
    keys, indices = pool.fill(0)
    backend.close()
    backend.close()
    assert backend.batch_exists(keys) == 0
    assert backend.batch_set_v1(keys, indices) == [False] and backend.batch_get_v1(keys, indices) == [False]
    attach(path, pool).close()


def test_other_threads_go_on_while_the_device_works(backend: RawBlockHiCache, pool: Pool) -> None:
    keys, indices = pool.fill(*range(PAGES))
    results: list[list[bool]] = []

    def work(start: int) -> None:
        for number in range(start, start + 5):
            results.append(backend.batch_set_v1([f"{number}-{key}" for key in keys], indices))
            results.append(backend.batch_get_v1(keys[:1], pool.indices(0)) if not number else [True])

    threads = [threading.Thread(target=work, args=(start,)) for start in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 30 and all(map(all, results))


CHILD = """
import sys
sys.path.insert(0, {tests!r})
import test_sglang_hicache as t
pool = t.Pool()
backend = t.attach({path!r}, pool, extra={{"durability": "batch"}})
backend.batch_set_v1(*pool.fill(*range(6)))
print("stored", flush=True)
first = 100
while True:
    backend.batch_set_v1(*pool.fill(*range(first, first + 4)))
    first = 100 + (first + 4) % 12
"""


def test_a_killed_server_loses_nothing_that_was_stored(path: str, pool: Pool) -> None:
    code = CHILD.format(tests=str(Path(__file__).parent), path=path)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "stored":
                break
        with pytest.raises(raw_block.InUse, match=f"process {child.pid} holds"):
            attach(path, pool)
        time.sleep(0.2)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    backend = attach(path, pool)
    keys, indices = hashes(*range(6)), pool.indices(*range(6))
    assert backend.batch_exists(keys) == 6
    assert backend.batch_get_v1(keys, indices) == [True] * 6
    assert [pool.read(page) for page in range(6)] == [pool.value(seed) for seed in range(6)]
    backend.close()
