"""A plugin of pytest that puts RawBlockAdapter in the place of two adapters of LMCache, for LMCache's own tests of them.

The tests are not changed. What they ask of the mock that no adapter has is added here: the `debug_` methods, and usage
that counts payload, where raw-block counts slots."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from types import SimpleNamespace
from typing import Any

from lmcache import torch_dev
from lmcache.v1.distributed import config as lmcache_config
from lmcache.v1.distributed.l2_adapters import mock_l2_adapter, raw_block_l2_adapter
from raw_block._lmcache_keys import Layouts
from raw_block.lmcache import RawBlockAdapter

_MOCK_BYTES = 32 << 20
_MOCK_SLOT = 64 << 10
_RAW_BLOCK_BYTES_MIN = 8 << 20


class _NumberedProcess:
    """Says another process id each time. Without a GPU, LMCache names its shared memory after the process: two of its L1
    managers in one process, which tests make, would share it."""

    def __init__(self) -> None:
        self._pids = itertools.count(os.getpid() << 16)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def getpid(self) -> int:
        return next(self._pids)


class _CountingLocks:
    """A store that knows which keys are locked."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.locks: Counter[bytes] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def lock(self, keys: list[bytes]) -> Any:
        lengths = self._store.lock(keys)
        self.locks.update(key for key, length in zip(keys, lengths) if length >= 0)
        return lengths

    def unlock(self, keys: list[bytes]) -> Any:
        self.locks.subtract(keys)
        self.locks = +self.locks
        return self._store.unlock(keys)


class _AnyFormat(Layouts):
    """Tests of the prefetch controller store objects without a format, and load them into L1's, which have one."""

    def _hash(self, meta: Any) -> bytes:
        fields = {name: getattr(meta, name) for name in ("shapes", "shape", "dtypes", "dtype")}
        return super()._hash(SimpleNamespace(**fields, fmt=None))


class InPlaceOfMock(RawBlockAdapter):
    """The mock is made with a size and a bandwidth, and keeps its objects in memory."""

    def __init__(self, config: Any) -> None:
        file, self._file = tempfile.mkstemp(prefix="raw-block-door-")
        os.close(file)
        super().__init__({"path": self._file, "bytes": _MOCK_BYTES, "slot_bytes": _MOCK_SLOT, "metrics": False})
        self._store: Any = _CountingLocks(self._store)
        self._layouts = _AnyFormat()

    def _charge(self, length: int) -> int:
        return length

    def debug_get_stored_object_count(self) -> int:
        entries, _ = self._store.list(None, 1_000_000)
        return len(entries)

    def debug_has_key(self, key: Any) -> bool:
        return bool(self._store.contains(self._codec.encode([key]))[0])

    def debug_get_locked_key_count(self) -> int:
        return len(self._store.locks)

    def close(self) -> None:
        super().close()
        if os.path.exists(self._file):
            os.unlink(self._file)


class InPlaceOfRawBlock(RawBlockAdapter):
    """LMCache's own raw_block gets a device that exists, and a capacity that counts from its beginning."""

    def __init__(self, config: Any, l1_memory_desc: Any = None) -> None:
        params = {
            "path": config.device_path,
            "slot_bytes": config.slot_bytes,
            "bytes": max(config.capacity_bytes, _RAW_BLOCK_BYTES_MIN),
            "consent": True,
            "metrics": False,
        }
        super().__init__(params, l1_memory_desc)


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--in-place-of", choices=("mock", "raw_block"), required=True)


def pytest_configure(config: Any) -> None:
    named: Any = lmcache_config
    named.os = _NumberedProcess()
    if config.getoption("--in-place-of") == "mock":
        mock: Any = mock_l2_adapter
        mock.MockL2Adapter = InPlaceOfMock
    else:
        raw_block: Any = raw_block_l2_adapter
        raw_block.RawBlockL2Adapter = InPlaceOfRawBlock
    # Files of tests that use no GPU refuse to be collected without one.
    torch_dev.is_available = lambda: True


def pytest_collection_finish(session: Any) -> None:
    del torch_dev.is_available
