"""LMCache's own storage manager with the adapter as its plugin, on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lmcache.v1.distributed.config import EvictionConfig, L1ManagerConfig, L1MemoryManagerConfig, StorageManagerConfig
from lmcache.v1.distributed.l2_adapters.config import L2AdaptersConfig
from lmcache.v1.distributed.l2_adapters.plugin_l2_adapter import PluginL2AdapterConfig
from lmcache.v1.distributed.storage_manager import StorageManager

L1_BYTES = 64 << 20


def plugin_config(path: Path, **params: Any) -> Any:
    return PluginL2AdapterConfig.from_dict(
        {
            "type": "plugin",
            "module_path": "raw_block.lmcache",
            "class_name": "RawBlockAdapter",
            "adapter_params": {"path": str(path), **params},
        }
    )


def manager_of(adapters: list[Any]) -> Any:
    memory = L1MemoryManagerConfig(
        size_in_bytes=L1_BYTES,
        use_lazy=False,
        init_size_in_bytes=L1_BYTES,
        align_bytes=4096,
        shm_name=f"raw-block-door-{os.getpid()}",
    )
    return StorageManager(
        StorageManagerConfig(
            l1_manager_config=L1ManagerConfig(memory_config=memory, write_ttl_seconds=600, read_ttl_seconds=300),
            eviction_config=EvictionConfig(eviction_policy="LRU"),
            l2_adapter_config=L2AdaptersConfig(adapters=adapters),
        )
    )
