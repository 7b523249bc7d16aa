"""vLLM's tiered offloading for workers on the CPU.

vLLM's own spec refuses these: it copies blocks with the streams of a GPU.

Named in vLLM's configuration by `spec_module_path`. Manager, primary tier, factory and our tier are vLLM's own way."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.kv_offload.base import TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class CpuTieringSpec(TieringOffloadingSpec):  # type: ignore[misc]
    def get_worker(self, kv_caches: Any) -> Any:
        if self._worker is None:
            region = SharedOffloadRegion(
                engine_id=self.config.engine_id,
                num_chunks=self.num_chunks,
                rank=self.config.parallel.rank,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker: Any = Copying(kv_caches, self.blocks_per_chunk, region)
        return self._worker


class Copying:
    """Copies when it is asked to."""

    def __init__(self, kv_caches: Any, blocks_per_chunk: int, region: Any) -> None:
        self.region = region
        self.blocks_per_chunk = blocks_per_chunk
        self.groups = kv_caches.group_data_refs
        self.engine: list[torch.Tensor] = []
        self.host: list[torch.Tensor] = []
        for each in kv_caches.tensors:
            self.engine.append(each.tensor.view(torch.int8).view(-1, each.page_size_bytes))
            self.host.append(region.create_next_worker_view(each.page_size_bytes * blocks_per_chunk))
        self.finished: list[Any] = []

    def submit_store(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, src_spec, dst_spec, store=True)

    def submit_load(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        return self._copy(job_id, dst_spec, src_spec, store=False)

    def _copy(self, job_id: int, engine: Any, host: Any, *, store: bool) -> bool:
        copied = 0
        blocks, chunks = iter(engine.block_ids.tolist()), iter(host.block_ids.tolist())
        for refs, size, first in zip(self.groups, engine.group_sizes, engine.block_indices):
            chunk = None
            for at in range(size):
                part = (first + at) % self.blocks_per_chunk
                if chunk is None or part == 0:
                    chunk = next(chunks)
                block = next(blocks)
                for ref in refs:
                    page = self.engine[ref.tensor_idx][block]
                    length = page.numel()
                    slot = self.host[ref.tensor_idx][chunk, part * length : (part + 1) * length]
                    (slot.copy_(page) if store else page.copy_(slot))
                    copied += length
        self.finished.append(TransferResult(job_id=job_id, success=True, transfer_size=copied, transfer_time=1e-6))
        return True

    def get_finished(self) -> list[Any]:
        finished, self.finished = self.finished, []
        return finished

    def wait(self, job_ids: set[int]) -> None:
        pass

    def shutdown(self) -> None:
        self.engine.clear()
        self.host.clear()
        self.region.cleanup()
