"""What the adapter takes from LMCache, and how LMCache's objects are handed to the store."""

from __future__ import annotations

import importlib.metadata
import logging
import re
from collections.abc import Sequence
from typing import Any

try:
    from lmcache.v1.distributed import api
    from lmcache.v1.distributed.internal_api import L2AdapterListener, L2StoreResult
    from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface
except ImportError as error:
    raise ImportError(f"raw_block.lmcache needs lmcache 0.5.5 to 0.5.7: {error}") from error
try:
    from lmcache.lmcache_native import Bitmap
except ImportError:  # its older name
    from lmcache.native_storage_ops import Bitmap

from . import _adopt
from . import _native as native
from ._config import Config

__all__ = [
    "L2AdapterInterface",
    "L2AdapterListener",
    "L2StoreResult",
    "adopt",
    "api",
    "bitmap",
    "check_batch",
    "logger",
    "spans_of",
]

logger = logging.getLogger("lmcache.raw_block")

_OLDEST, _NEWEST = (0, 5, 5), (0, 5, 7)
_PAGE = 4096


def _check_version() -> None:
    try:
        version = importlib.metadata.version("lmcache")
    except importlib.metadata.PackageNotFoundError:
        return  # a source tree
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if not _OLDEST <= numbers <= _NEWEST:
        logger.warning("raw_block: tested with lmcache 0.5.5 to 0.5.7, and this is %s", version)


_check_version()


def adopt(config: Config, desc: Any) -> tuple[list[native.Memory], str | None]:
    """LMCache's memory for the device to use without a copy, or why it cannot."""
    if config.direct == "off" or desc is not None and desc.align_bytes % _PAGE == 0:
        return _adopt.adopt(config, [] if desc is None else [(desc.ptr, desc.size, desc)])
    why = "LMCache has given no memory"
    if desc is not None:
        why = f"LMCache aligns objects to {desc.align_bytes} bytes, which is no multiple of {_PAGE}"
    if config.direct == "require":
        raise ValueError(f'raw_block: `direct` is "require", but {why}')
    return [], why


def check_batch(keys: Sequence[Any], objects: Sequence[Any]) -> None:
    if not keys or not objects:
        raise ValueError("keys and objects must be non-empty")
    if len(keys) != len(objects):
        raise ValueError("keys and objects must have the same length")


def spans_of(objects: Sequence[Any]) -> tuple[list[int], list[tuple[int, int]]]:
    """The sizes of objects, and where they are."""
    sizes = [obj.get_size() for obj in objects]
    try:
        return sizes, [(obj.data_ptr, size) for obj, size in zip(objects, sizes)]
    except NotImplementedError as error:
        raise ValueError(f"raw_block: objects without an address in memory cannot be moved: {error}") from error


def bitmap(count: int, indices: Sequence[int]) -> Any:
    """A bitmap of `count` bits, of which those at `indices` are set."""
    if len(indices) == count:
        return Bitmap(count, count)
    bits = Bitmap(count)
    bits.batched_set(indices)
    return bits
