"""Runs the whole core of LMCache's raw_block (index, slots, I/O) under the load of `cargo xtask bench --lmcache`.

Prints one line of JSON. As with the wheel alone, a call moves a batch with the io_uring engine, with O_DIRECT, over
registered buffers. A slot is deleted before it is rewritten, because the core itself evicts nothing. Objects have
only the fields that the core requires, so they are cheaper than LMCache's own. Periodic checkpoints are off: the
core's need a pause in the traffic anyway.
"""

import os
from types import SimpleNamespace

# lmcache reads these when it is imported.
os.environ.update(LMCACHE_TRACK_USAGE="false", DO_NOT_TRACK="1", LMCACHE_LOG_LEVEL="ERROR")

from lmcache.v1.distributed.l2_adapters.raw_block import core  # noqa: E402

from lmcache_wheel import BLOCK, Slots, main  # noqa: E402

# Space for two mirrored checkpoints of an index of at most this benchmark's size.
META_BYTES = 64 << 20


class CoreSlots(Slots):
    """The same slots, each under its own key."""

    def open(self, file, queue_depth):
        config = core.RawBlockCoreConfig(
            device_path=file,
            capacity_bytes=0,
            block_align=BLOCK,
            header_bytes=BLOCK,
            slot_bytes=self.stride,
            use_odirect=True,
            enable_zero_copy=True,
            meta_total_bytes=META_BYTES,
            meta_magic=b"LMCIDX01",
            meta_version=1,
            meta_checkpoint_interval_sec=3600,
            meta_idle_quiet_ms=100,
            meta_enable_periodic=False,
            meta_verify_on_load=False,
            load_checkpoint_on_init=False,
            io_engine="io_uring",
            iouring_queue_depth=queue_depth,
        )
        self.core = core.RawBlockCore(config, key_namespace="object")
        self.core.register_fixed_buffer_range(self.arena_start, len(self.arena))
        self.device = self.core.raw_device()
        self.count = (self.device.size_bytes() - META_BYTES) // self.stride
        self.keys = [core.RawBlockKeySpec(f"bench@0x00000000@0@{slot:064x}", slot) for slot in range(self.count)]
        metadata = SimpleNamespace(shape=None, dtype=None, cached_positions=None, fmt=None)
        start = self.arena_start + BLOCK
        self.objects = [
            SimpleNamespace(byte_array=payload, data_ptr=start + at * self.stride, metadata=metadata)
            for at, payload in enumerate(self.payloads)
        ]

    def write(self, slots):
        keys = [self.keys[slot] for slot in slots]
        self.core.delete_many([key.encoded for key in keys])
        if not all(self.core.put_many(keys, self.objects[: len(keys)]).results):
            raise SystemExit("the core refused a put")

    def read(self, slots):
        keys = [self.keys[slot].encoded for slot in slots]
        if not all(self.core.load_many_into(keys, self.objects[: len(keys)])):
            raise SystemExit("the core missed a key that was put")

    def close(self):
        self.core.close()


if __name__ == "__main__":
    main(CoreSlots)
