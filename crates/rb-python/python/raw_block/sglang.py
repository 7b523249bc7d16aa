"""A HiCache storage backend for SGLang, loaded with `--hicache-storage-backend dynamic` and

    --hicache-storage-backend-extra-config '{"backend_name": "raw_block", "module_path": "raw_block.sglang",
        "class_name": "RawBlockHiCache", "interface_v1": 1, "path": "/data/raw-block-{tp_rank}", "bytes": "200GiB"}'

A store belongs to one process: with several ranks, `path` has to name them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from sglang.srt.mem_cache.hicache_storage import HiCacheStorage, PoolHitPolicy, PoolName, PoolTransferResult
from sglang.srt.observability.metrics_collector import StorageMetrics

from . import _native as native
from ._adopt import adopt
from ._config import Config, open_store, parse
from ._failures import Failures
from ._sglang_pages import Pages

__all__ = ["RawBlockHiCache"]

_logger = logging.getLogger("sglang.srt.raw_block")

# Changes with the form of the keys.
_LABEL = b"sglang 1"
# What SGLang reads in the same table.
_OTHERS_KEYS = frozenset(("backend_name", "module_path", "class_name", "interface_v1", "allocator", "tp_lcm_size"))
_REMOVED_AT_ONCE = 10_000


class RawBlockHiCache(HiCacheStorage):  # type: ignore[misc]
    """Stores pages of SGLang's host pools in a raw-block store, straight from and to their memory.

    SGLang calls from threads of its own, which wait for the device. Other threads of Python go on meanwhile."""

    def __init__(self, storage_config: Any, kwargs: Any = None) -> None:
        extra = dict(storage_config.extra_config or {})
        if not extra.get("interface_v1"):
            raise ValueError('raw_block: "interface_v1": 1 is needed: pages move without a copy, which is its interface')
        self._config: Config = parse({key: extra[key] for key in extra if key not in _OTHERS_KEYS}, host="sglang")
        _check_ranks(storage_config, self._config.path)
        self._storage_config = storage_config
        self._store: native.Store | None = None
        self._pages: dict[str, Pages] = {}
        self._failures = Failures(_logger)
        self._metrics_lock = threading.Lock()
        self._metrics = StorageMetrics()

    # ---- Pools ----

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        super().register_mem_pool_host(mem_pool_host)
        pages = Pages(PoolName.KV.value, mem_pool_host, self._storage_config)
        memory = self._adopt(pages)
        if self._store is None:
            config = self._storage_config
            names = {name: getattr(config, name, 0) for name, _ in _RANKS} | {"dp_rank": getattr(config, "dp_rank", 0)}
            self._store = open_store(
                self._config, label=_LABEL, metadata_len_max=0, memory=memory, names=names, events=False
            )
        else:
            self._adopt_late(memory)
        self._pages[pages.pool] = pages

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        super().register_mem_host_pool_v2(host_pool, host_pool_name)
        name = str(getattr(host_pool_name, "value", host_pool_name))
        if name in self._pages:
            return
        pages = Pages(name, host_pool, self._storage_config)
        self._adopt_late(self._adopt(pages))
        self._pages[name] = pages

    def _adopt(self, pages: Pages) -> list[native.Memory]:
        memory, why = adopt(self._config, pages.memory())
        if why is not None:
            _logger.info("raw_block: pages of the pool %s are copied: %s", pages.pool, why)
        return memory

    def _adopt_late(self, memory: Iterable[native.Memory]) -> None:
        for each in memory:
            self._opened().adopt(each)

    # ---- Pages of the main pool ----

    def batch_exists(self, keys: list[str], extra_info: Any = None) -> int:
        try:
            pages = self._pages[PoolName.KV.value]
            return self._opened().longest_prefix(pages.keys(keys)) // pages.parts
        except native.Error as error:
            # An exception would end a thread of SGLang's, and with it all of its storage.
            _logger.error("raw_block: pages cannot be looked for: %s", error)
            return 0

    def exists(self, key: str) -> bool:
        return self.batch_exists([key]) == 1

    def batch_set_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        return self._put(self._pages[PoolName.KV.value], keys, host_indices)

    def batch_get_v1(self, keys: list[str], host_indices: Any, extra_info: Any = None) -> list[bool]:
        return self._get(self._pages[PoolName.KV.value], keys, host_indices)

    # ---- Pages of several pools ----

    def batch_exists_v2(self, keys: list[str], pool_transfers: Any = None, extra_info: Any = None) -> Any:
        """The longest prefix of which all pools have what they need, and how far each pool comes by itself."""
        count = self.batch_exists(keys)
        hits: dict[Any, int] = {PoolName.KV: count} if count else {}
        usable = set(range(1, count + 1))
        for transfer in pool_transfers or ():
            if not usable:
                break
            lengths = self._usable(transfer, keys[:count])
            if lengths is None:
                continue
            if lengths:
                hits[transfer.name] = max(lengths)
            usable &= lengths
        return PoolTransferResult(max(usable, default=0), hits, sorted(usable))

    def _usable(self, transfer: Any, keys: list[str]) -> set[int] | None:
        """Lengths of prefixes for which a pool has what it needs; None if it has no say in it."""
        if transfer.hit_policy == PoolHitPolicy.ALL_PAGES:
            needed = len(keys)
        elif transfer.hit_policy == PoolHitPolicy.TRAILING_PAGES:
            needed = max(1, len(transfer.keys or ()))
        else:
            return None
        lengths, run = set(), 0
        for length, here in enumerate(self._here(self._pages_of(transfer), keys), start=1):
            run = run + 1 if here else 0
            if run >= min(needed, length):
                lengths.add(length)
        return lengths

    def _here(self, pages: Pages, keys: list[str]) -> list[bool]:
        return pages.whole(self._opened().contains(pages.keys(keys)))

    def batch_set_v2(self, transfers: Any, extra_info: Any = None) -> dict[str, list[bool]]:
        return {each.name: self._put(self._pages_of(each), each.keys or [], each.host_indices) for each in transfers}

    def batch_get_v2(self, transfers: Any, extra_info: Any = None) -> dict[str, list[bool]]:
        return {each.name: self._get(self._pages_of(each), each.keys or [], each.host_indices) for each in transfers}

    def _pages_of(self, transfer: Any) -> Pages:
        return self._pages[str(getattr(transfer.name, "value", transfer.name))]

    # ---- Transfers ----

    def _put(self, pages: Pages, keys: list[str], indices: Any) -> list[bool]:
        return self._move("store", pages, keys, indices)

    def _get(self, pages: Pages, keys: list[str], indices: Any) -> list[bool]:
        return self._move("load", pages, keys, indices)

    def _move(self, what: str, pages: Pages, keys: list[str], indices: Any) -> list[bool]:
        """Moves whole pages: one of which a part failed counts as not moved."""
        if not keys:
            return []
        began = time.monotonic()
        try:
            store = self._opened()
            names, spans = pages.keys(keys), pages.spans(keys, indices)
            done = store.put_many(names, spans) if what == "store" else store.get_many(names, spans)
        except (native.Error, ValueError) as error:
            # No exception, for the same reason.
            _logger.error("raw_block: %d pages of the pool %s cannot be moved: %s", len(keys), pages.pool, error)
            return [False] * len(keys)
        # To a get, only 0 is a success; to a put, a page that is there already is one, too.
        ok = [code >= 0 if what == "store" else code == native.DONE for code in done.codes]
        if not all(ok):
            self._failures.count(what, done.codes, [length for _, length in spans], done.error)
        if pages.pool == PoolName.KV.value and self._storage_config.enable_storage_metrics:
            self._count(what, len(keys), sum(done.lengths), time.monotonic() - began)
        return pages.whole(ok)

    def _count(self, what: str, pages: int, moved: int, seconds: float) -> None:
        with self._metrics_lock:
            metrics = self._metrics
            counts, rates = (
                (metrics.backup_pgs, metrics.backup_bandwidth)
                if what == "store"
                else (metrics.prefetch_pgs, metrics.prefetch_bandwidth)
            )
            counts.append(pages)
            if moved:
                rates.append(moved / seconds / 2**30)

    def get_stats(self) -> Any:
        """What happened since the last call, in the form of SGLang's own metrics."""
        with self._metrics_lock:
            metrics, self._metrics = self._metrics, StorageMetrics()
        return metrics

    def status(self) -> dict[str, Any]:
        """The state of the store, for whoever debugs it."""
        store = self._opened()
        return {**store.health(), "stats": store.stats(), "geometry": store.geometry(), **self._failures.status()}

    # ---- The older interface, in which values are copied ----

    def get(self, key: str, target_location: Any = None, target_sizes: Any = None) -> Any:
        raise NotImplementedError("raw_block: only interface_v1 is supported")

    def batch_get(self, keys: list[str], target_locations: Any = None, target_sizes: Any = None) -> Any:
        raise NotImplementedError("raw_block: only interface_v1 is supported")

    def set(self, key: str, value: Any = None, target_location: Any = None, target_sizes: Any = None) -> bool:
        raise NotImplementedError("raw_block: only interface_v1 is supported")

    def batch_set(
        self, keys: list[str], values: Any = None, target_locations: Any = None, target_sizes: Any = None
    ) -> bool:
        raise NotImplementedError("raw_block: only interface_v1 is supported")

    # ---- End ----

    def clear(self) -> bool:
        """Removes all pages. Goes on while others read and write, which a store made anew would not allow."""
        store = self._opened()
        cursor: native.Cursor | None = None
        while True:
            keys, _, cursor = store.keys(cursor, _REMOVED_AT_ONCE)
            store.remove(keys, unless_locked=False)
            if cursor is None:
                return True

    def close(self) -> None:
        # It refers to the memory of the pools, which may be freed then.
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except native.Error:
                # SGLang has no use for an exception at its end.
                _logger.exception("raw_block: %s was not closed properly", store.path)

    def _opened(self) -> native.Store:
        if self._store is None:
            raise native.Closed("the store is not open")
        return self._store


# Ranks that a path may name, and how many there are of each.
_RANKS = (
    ("tp_rank", "tp_size"),
    ("pp_rank", "pp_size"),
    ("attn_cp_rank", "attn_cp_size"),
    ("dcp_rank", "dcp_size"),
)


def _check_ranks(config: Any, path: str) -> None:
    for rank, size in _RANKS:
        if getattr(config, size, 1) > 1 and f"{{{rank}}}" not in path:
            raise ValueError(
                f"raw_block: {size} is {getattr(config, size)}, and each rank needs a store of its own:"
                f" `path` {path!r} has to name {{{rank}}}"
            )
    if config.is_mla_model and config.tp_size > 1:
        raise ValueError(
            f"raw_block: SGLang stores pages of this model on one rank of {config.tp_size} and reads them on all, and"
            " ranks cannot share a store: use DP attention, so that each rank has its own pages"
        )
    if config.should_split_heads:
        raise ValueError("raw_block: pages cannot be split by heads: remove tp_lcm_size")
