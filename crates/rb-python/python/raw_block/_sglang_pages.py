"""Pages of one of SGLang's host pools as values of a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

_LAYOUTS = ("page_first", "page_first_direct")
_PREFIX_BYTES = 16


class Pages:
    """A page is one value for each piece of memory that it consists of, such as K and V."""

    def __init__(self, pool: str, host_pool: Any, storage_config: Any) -> None:
        self.pool = pool
        self._host_pool = host_pool
        layout = getattr(host_pool, "layout", None)
        if layout not in _LAYOUTS:
            raise ValueError(
                f"raw_block: the pool {pool} has the layout {layout!r}, in which a page is many small pieces: start"
                f" SGLang with --hicache-mem-layout {_LAYOUTS[0]}"
            )
        # Sizes by asking for the first page: they are those of all others.
        sizes = self._meta(_first_page(host_pool))[1]
        if not sizes:
            raise ValueError(f"raw_block: the pool {pool} has no memory of its own")
        self.parts = len(sizes)
        identity = _identity(pool, host_pool, storage_config, layout, sizes)
        # One byte names the part, so that the pieces of a page differ in their keys' prefixes only.
        self._prefixes = [identity + bytes((part,)) for part in range(self.parts)]

    def keys(self, hashes: Sequence[str]) -> list[bytes]:
        """Keys of all parts of pages, page by page."""
        prefixes = self._prefixes
        return [prefix + name for name in map(str.encode, hashes) for prefix in prefixes]

    def spans(self, hashes: Sequence[str], indices: Any) -> list[tuple[int, int]]:
        """Where the parts of pages are, page by page."""
        if indices is None:
            raise ValueError("no indices are given")
        addresses, sizes = self._meta(indices)
        if len(addresses) != len(hashes) * self.parts:
            raise ValueError(f"{len(hashes)} keys are given with {len(indices)} indices")
        return list(zip(addresses, sizes))

    def whole(self, parts: Sequence[bool]) -> list[bool]:
        """One answer for each page from one for each part."""
        count = self.parts
        return [all(parts[at : at + count]) for at in range(0, len(parts), count)]

    def memory(self) -> list[tuple[int, int, object]]:
        """All memory of the pool. Tensors that share their memory count once."""
        buffers = self._buffers()
        found = {}
        for buffer in buffers:
            storage = buffer.untyped_storage()
            found[storage.data_ptr()] = (storage.data_ptr(), storage.nbytes(), storage)
        return list(found.values())

    def _buffers(self) -> list[Any]:
        hybrid = getattr(self._host_pool, "get_hybrid_pool_buffer", None)
        buffers = hybrid() if hybrid is not None else self._host_pool.kv_buffer
        return list(buffers) if isinstance(buffers, (list, tuple)) else [buffers]

    def _meta(self, indices: Any) -> tuple[list[int], list[int]]:
        addresses, sizes = self._host_pool.get_page_buffer_meta(indices)
        return addresses, sizes


def _first_page(host_pool: Any) -> Any:
    import torch

    return torch.zeros(getattr(host_pool, "logical_page_size", host_pool.page_size), dtype=torch.int64)


def _identity(pool: str, host_pool: Any, config: Any, layout: str, sizes: list[int]) -> bytes:
    """A digest of all that the bytes of a page depend on: what was stored with another setting is a miss."""
    settings = {
        "form": 1,
        "pool": pool,
        "layout": layout,
        "sizes": list(map(int, sizes)),
        "page_size": host_pool.page_size,
        "dtype": str(getattr(host_pool, "dtype", None)),
        "format": getattr(host_pool, "storage_format_tag", None),
        "model": config.model_name,
        "ranks": [
            getattr(config, name, None)
            for name in ("tp_rank", "tp_size", "pp_rank", "pp_size", "attn_cp_rank", "attn_cp_size", "dcp_rank", "dcp_size")
        ],
    }
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:_PREFIX_BYTES]
