"""A secondary tier of vLLM's tiered KV offloading:

    {"kv_connector": "OffloadingConnector", "kv_role": "kv_both", "kv_connector_extra_config": {
        "spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 10737418240,
        "secondary_tiers": [{"type": "RawBlockTier", "module_path": "raw_block.vllm", "path": "/dev/nvme1n1"}]}}

A store belongs to one engine core: with data parallelism, `path` has to name {dp_rank}.
"""

from __future__ import annotations

import hashlib
import json
import logging
import select
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from vllm.v1.kv_offload.base import Locality, LookupResult, Medium, OffloadingEvent, RequestOffloadingContext
from vllm.v1.kv_offload.file_mapper import FileMapper
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager

from . import _native as native
from ._adopt import adopt
from ._buffers import export
from ._config import Config, open_store, parse
from ._failures import Failures
from ._ledger import Ended, Ledger, Step
from ._vllm_hints import hints_of
from ._vllm_metrics import Figures, definitions

__all__ = ["RawBlockTier"]

_logger = logging.getLogger("vllm.raw_block")

# Changes with the form of the keys.
_FORM = "vllm 1"
_LABEL_MAX = 256
_PREFIX_BYTES = 16
_IO_DEADLINE_MS_DEFAULT = 30_000

# What the device still held at a shutdown. Its memory must not be freed.
_abandoned: list[object] = []


class _Job(NamedTuple):
    id: int
    names: list[Any]  # the keys as vLLM calls them
    keys: list[bytes]
    request: Any
    since: float


@dataclass
class _Hit:
    """The last chunk that a request found."""

    name: Any


@dataclass
class _Failed:
    """Chunks that a request could not load. To that request they are not there, or it would try for ever."""

    names: set[Any]


class RawBlockTier(SecondaryTierManager):  # type: ignore[misc]
    """Stores chunks of vLLM's primary tier in a raw-block store, straight from and to its memory.

    All calls come from one thread, the scheduler's, and none but `drain_jobs` and `shutdown` waits for the device."""

    medium = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        enable_kv_events: bool = False,
        locality: str = "LOCAL",
        **params: Any,
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        # Local by default: nobody else can open the store.
        self.locality = Locality(locality)
        config = parse(params, host="vllm")
        events = _events_wanted(enable_kv_events, offloading_spec, tier_type)
        # The address alone: an export that is kept would keep vLLM from releasing the view.
        self._address, length, _ = export(primary_kv_view, True)
        memory, direct_off = adopt(config, [(self._address, length, primary_kv_view.obj)])
        label, self._prefix = _identity(offloading_spec, self.block_size_bytes)
        self._store = open_store(
            config, label=label, metadata_len_max=0, memory=memory, names=_names(offloading_spec), events=events
        )
        if direct_off is not None:
            _logger.info("raw_block: chunks are copied: %s", direct_off)
        self._learns = config.policy == "learned"
        self._deadline = (config.io_deadline_ms or _IO_DEADLINE_MS_DEFAULT) / 1000
        self._closed = False
        self._puts: dict[int, _Job] = {}
        self._gets: dict[int, _Job] = {}
        self._finished: list[Any] = []
        self._failures = Failures(_logger)
        self._figures = Figures(self._store, tier_type) if config.metrics else None
        self._ended: list[Ended[Any]] = []
        self._ledger: Ledger[Any] | None = None
        if events:
            self._ledger = Ledger(lengths_of=self._lengths_of, size_of=lambda length: length, name_of=self._name_of)

    # ---- Requests ----

    def on_new_request(self, req_context: Any) -> Any:
        hints_of(req_context)
        return RequestOffloadingContext()

    def lookup(self, key: Any, req_context: Any) -> Any:
        """Answered at once, as all keys are in memory. Never says that the host shall ask again.

        vLLM asks for one chunk after the other, up to the first miss. A policy that learns sees chunks of a request
        together, when they are loaded and before they are stored."""
        failed = req_context.get_state(_Failed)
        if failed is not None and key in failed.names or self._is_stuck(self._gets):
            return LookupResult.MISS
        if self._store.lengths([self._prefix + key])[0] < 0:
            return LookupResult.MISS
        req_context.set_state(_Hit(key))
        return LookupResult.HIT

    def touch(self, keys: Collection[Any], req_context: Any) -> None:
        if not self._closed:
            self._store.touch(self._encode(keys))

    # ---- Transfers ----

    def submit_store(self, job_metadata: Any) -> None:
        hints = hints_of(job_metadata.req_context)

        def put(keys: list[bytes], spans: list[tuple[int, int]]) -> int:
            if self._learns:
                # The chain that these chunks continue.
                last = job_metadata.req_context.get_state(_Hit)
                self._store.contains(keys if last is None else [self._prefix + last.name, *keys])
            if self._ledger is not None:
                # Before the store knows: from here on, deletions of these keys wait for the end of the batch.
                self._ledger.begin(keys)
            try:
                return self._store.submit_put(
                    keys, spans, expires=hints.expires, chain_ended=hints.chain_ended, priority=hints.priority
                )
            except BaseException:
                if self._ledger is not None:
                    self._ledger.cancel(keys)
                raise

        self._submit(job_metadata, put, self._puts)

    def submit_load(self, job_metadata: Any) -> None:
        self._submit(job_metadata, self._store_get, self._gets)

    def _store_get(self, keys: list[bytes], spans: list[tuple[int, int]]) -> int:
        return self._store.submit_get(keys, spans)

    def _submit(
        self, metadata: Any, submit: Callable[[list[bytes], list[tuple[int, int]]], int], jobs: dict[int, _Job]
    ) -> None:
        names = list(metadata.keys)
        job = _Job(metadata.job_id, names, self._encode(names), metadata.req_context, time.monotonic())
        if not names:
            self._finished.append(JobResult(job_id=job.id, success=True))
            return
        size = self.block_size_bytes
        spans = [(self._address + chunk * size, size) for chunk in metadata.chunk_ids.tolist()]
        if self._is_stuck(jobs):
            # The host's memory is better used than waiting behind a device that does not answer.
            self._refuse(job)
            return
        try:
            jobs[submit(job.keys, spans)] = job
        except native.Error as error:
            # An exception would end the engine.
            _logger.warning("raw_block: %s", error)
            self._refuse(job)

    def _refuse(self, job: _Job) -> None:
        self._failed(job.request, job.names)
        self._finished.append(JobResult(job_id=job.id, success=False))

    def get_finished_jobs(self) -> Iterable[Any]:
        self._collect()
        finished, self._finished = self._finished, []
        return finished

    def has_pending_work(self) -> bool:
        return bool(self._puts or self._gets or self._finished)

    def drain_jobs(self) -> None:
        """Waits until the device holds none of the host's memory, however long that takes. Cancels nothing."""
        self._collect()
        while self._puts or self._gets:
            select.select([self._store.put_fd, self._store.get_fd], [], [], 1.0)
            self._collect()

    def _collect(self) -> None:
        if self._puts:
            for done in self._store.drain("put"):
                self._put_ended(self._puts.pop(done.id), done)
        if self._gets:
            for done in self._store.drain("get"):
                self._get_ended(self._gets.pop(done.id), done)

    def _put_ended(self, job: _Job, done: native.Done) -> None:
        success = min(done.codes) >= 0
        self._report(job, success, "store", done)
        if self._ledger is not None:
            stored = [(at, done.lengths[at]) for at, code in enumerate(done.codes) if code == native.DONE]
            self._ended.append(Ended(job.keys, job.names, stored))

    def _get_ended(self, job: _Job, done: native.Done) -> None:
        if not any(done.codes):
            self._report(job, True, "load", done)
            return
        loaded = [name for name, code in zip(job.names, done.codes) if code == native.DONE]
        self._failed(job.request, (name for name, code in zip(job.names, done.codes) if code != native.DONE))
        self._report(job, False, "load", done, loaded or None)

    def _report(
        self, job: _Job, success: bool, what: str, done: native.Done, loaded: list[Any] | None = None
    ) -> None:
        if not success:
            self._failures.count(what, done.codes, [self.block_size_bytes] * len(done.codes), done.error)
        self._finished.append(
            JobResult(
                job_id=job.id,
                success=success,
                successful_keys=loaded,
                transfer_time=time.monotonic() - job.since,
                transfer_bytes=sum(done.lengths),
            )
        )

    def _failed(self, request: Any, names: Iterable[Any]) -> None:
        failed = request.get_state(_Failed)
        if failed is None:
            request.set_state(_Failed(set(names)))
        else:
            failed.names.update(names)

    def _is_stuck(self, jobs: dict[int, _Job]) -> bool:
        """Whether no end of new jobs can be expected: one of them is older than any should become, or all is over."""
        if self._closed or not jobs:
            return self._closed
        # The first of a dict is the oldest.
        return time.monotonic() - next(iter(jobs.values())).since > self._deadline

    # ---- Events and figures ----

    def take_events(self) -> Iterable[Any]:
        if self._ledger is None or self._closed:
            return
        # After the ends of batches were taken: so an event is mostly there when the batch ends that it precedes.
        ended, self._ended = self._ended, []
        stored, removed, again = self._ledger.settle(ended, [(key, size) for _, key, size in self._store.poll_events()])
        for step, is_removal in ((stored, False), (removed, True), (again, False)):
            if step.names:
                yield self._event(step, is_removal)

    def _event(self, step: Step[Any], removed: bool) -> Any:
        # Each stored chunk is told again when it is gone, which the host wants to know to keep what it will need then.
        return OffloadingEvent(
            keys=step.names,
            medium=self.medium,
            removed=removed,
            locality=self.locality,
            ownership="raw_block",
            removal_expected=not removed,
        )

    def _lengths_of(self, keys: list[bytes]) -> list[int]:
        # Not a lookup, of which the eviction policy would learn that evicted chunks are wanted again.
        return self._store.lengths(keys)

    @classmethod
    def build_metric_definitions(cls, extra_config: dict[str, Any]) -> dict[str, Any]:
        return definitions() if extra_config.get("metrics", True) else {}

    def get_stats(self) -> Any:
        return None if self._figures is None or self._closed else self._figures.take()

    # ---- Keys ----

    def _encode(self, names: Iterable[Any]) -> list[bytes]:
        prefix = self._prefix
        return [prefix + name for name in names]

    def _name_of(self, key: bytes) -> Any:
        return key[_PREFIX_BYTES:] if key.startswith(self._prefix) else None

    # ---- End ----

    def shutdown(self) -> None:
        """Waits for the jobs, at most the deadline, and releases the device."""
        if self._closed:
            return
        try:
            self._store.close()
        except native.Error:
            _logger.exception("raw_block: %s was not closed properly", self._store.path)
        self._collect()
        self._closed = True
        self._figures = None
        left = len(self._puts) + len(self._gets)
        if left:
            _abandoned.append((self._store, self._primary_kv_view.obj))
            # vLLM keeps its memory mapped then.
            raise RuntimeError(f"raw_block: the device still has {left} jobs, which are never answered")
        # It refers to the memory, which vLLM wants to unmap.
        del self._store


def _events_wanted(enabled: bool, spec: Any, tier_type: str) -> bool:
    if enabled and not spec.kv_events_config.enable_kv_cache_events:
        _logger.warning("raw_block: %s has enable_kv_events, but vLLM's KV cache events are disabled", tier_type)
        return False
    return enabled


def _names(spec: Any) -> dict[str, object]:
    """What a path may name."""
    parallel = spec.config.parallel
    return {
        "engine_id": spec.config.engine_id,
        "dp_rank": parallel.data_parallel_index,
        "tp_rank": parallel.rank,
    }


def _identity(spec: Any, chunk_bytes: int) -> tuple[bytes, bytes]:
    """The store's label and the prefix of the keys.

    The label is for operators: another model in the same store is an error with words. The prefix holds all that the
    bytes of a chunk depend on, so that what was stored with another setting is a miss."""
    mapper = FileMapper.from_offloading_spec(
        root_dir="", offloading_spec=spec, blocks_per_file=spec.blocks_per_chunk, parallel_agnostic=True
    )
    run = mapper.get_run_config()
    run["chunk_bytes"] = chunk_bytes
    layout = run.get("canonical_format") or "direct"
    label = f"{_FORM} {run['model_name']} {run['dtype']} {layout}".encode()
    if len(label) > _LABEL_MAX:
        digest = hashlib.sha256(label).hexdigest()[:16].encode()
        label = label[: _LABEL_MAX - len(digest) - 1] + b" " + digest
    text = json.dumps([_FORM, run], sort_keys=True, separators=(",", ":"))
    return label, hashlib.sha256(text.encode()).digest()[:_PREFIX_BYTES]
