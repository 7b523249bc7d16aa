"""Runs LMCache's I/O layer under the load of `cargo xtask bench`; prints one line of JSON.

Needs only the wheel lmcache-rust-raw-block-io. One call moves a batch of values with its io_uring engine, with
O_DIRECT, over registered buffers, and waits for all of them, as its core does. A put writes what the core
writes: a header block and the payload, as two requests of the same batch. The wheel verifies no checksums and
never flushes. A latency is that of a whole batch, because earlier completions are not visible.
"""

import argparse
import ctypes
import json
import mmap
import random
import resource
import time

from lmcache_rust_raw_block_io import RawBlockDevice

BLOCK = 4096
# Maximum bytes of the values that gets choose from: more would only take longer to fill.
FILL_BYTES = 1 << 30
# Number of batches that are read back after puts and compared whole.
CHECKED_BATCHES = 8


class Slots:
    """Numbered slots of the device, each with a header block, and one buffer per value of a batch."""

    def __init__(self, options):
        self.value_bytes, self.batch = options.value_bytes, options.batch
        self.stride = -(-self.value_bytes // BLOCK) * BLOCK + BLOCK
        # Anonymous maps begin at a page boundary, as O_DIRECT requires.
        self.arena = mmap.mmap(-1, self.stride * self.batch)
        self.arena_start = ctypes.addressof(ctypes.c_char.from_buffer(self.arena))
        whole = memoryview(self.arena)
        views = [whole[at * self.stride : (at + 1) * self.stride] for at in range(self.batch)]
        self.headers = [view[:BLOCK] for view in views]
        self.payloads = [view[BLOCK : BLOCK + self.value_bytes] for view in views]
        noise = random.Random(1).randbytes(self.value_bytes + self.batch * 64)
        # Different values without a copy for each put: windows into one run of random bytes.
        self.bodies = [noise[at * 64 : at * 64 + self.value_bytes] for at in range(self.batch)]
        # A ring that takes all requests of a batch together.
        self.open(options.file, max(256, 2 * self.batch))
        if self.count < self.batch:
            raise SystemExit(f"{options.file}: {self.count} slots, a batch takes {self.batch}")
        registered, _ = self.device.fixed_buffer_status()
        if not registered:
            raise SystemExit("the wheel could not register its buffers")

    def open(self, file, queue_depth):
        self.device = RawBlockDevice(
            file, True, use_odirect=True, alignment=BLOCK, io_engine="io_uring", iouring_queue_depth=queue_depth
        )
        self.device.register_fixed_buffers([self.arena_start], [len(self.arena)])
        self.count = self.device.size_bytes() // self.stride

    def close(self):
        self.device.close()

    def write(self, slots):
        """Writes header and payload of each slot; the payloads are those in the buffers."""
        offsets = [slot * self.stride for slot in slots]
        used = len(offsets)
        batch = self.device.batched_write(
            offsets + [offset + BLOCK for offset in offsets],
            self.headers[:used] + self.payloads[:used],
            [BLOCK] * used + [self.stride - BLOCK] * used,
            None,
            [BLOCK] * used + [self.value_bytes] * used,
        )
        self.wait(batch, 2 * used)

    def read(self, slots):
        """Reads the payload of each slot into the buffers."""
        offsets = [slot * self.stride + BLOCK for slot in slots]
        used = len(offsets)
        batch = self.device.batched_read(offsets, self.payloads[:used], [self.stride - BLOCK] * used)
        self.wait(batch, used)

    def wait(self, batch, expected):
        done, errors = self.device.wait_iouring(batch)
        if errors or sum(byte.bit_count() for byte in bytes(done)) != expected:
            raise SystemExit(f"a batch failed: {errors[:3]}")

    def fill_buffers(self):
        for payload, body in zip(self.payloads, self.bodies):
            payload[:] = body

    def wrong(self, slots):
        """Reads the slots and counts those whose bytes differ from what was written."""
        for payload in self.payloads:
            payload[:16] = bytes(16)
        self.read(slots)
        return sum(self.payloads[at] != self.bodies[slot % self.batch] for at, slot in enumerate(slots))


def run_of(first, batch):
    """A batch of consecutive slots, each with the body of its number."""
    return range(first, first + batch)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(kind, options):
    slots = kind(options)
    batch = options.batch
    runs = slots.count // batch
    wrong = verified = 0
    if options.op == "get":
        runs = max(1, min(runs, FILL_BYTES // slots.stride // batch))
        slots.fill_buffers()
        for run in range(runs):
            slots.write(run_of(run * batch, batch))
        for run in range(runs):
            wrong += slots.wrong(run_of(run * batch, batch))
            verified += batch
        step = slots.read
    else:
        slots.fill_buffers()
        step = slots.write
    choice = random.Random(2)
    latencies, calls = [], 0
    cpu, start = cpu_seconds(), time.perf_counter()
    while True:
        before = time.perf_counter()
        if before - start >= options.seconds:
            break
        if options.op == "get":
            wanted = [choice.randrange(runs * batch) for _ in range(batch)]
        else:
            wanted = run_of(calls % runs * batch, batch)
        step(wanted)
        latencies.append(time.perf_counter() - before)
        calls += 1
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    if options.op == "put":
        for run in range(min(CHECKED_BATCHES, runs, calls)):
            wrong += slots.wrong(run_of(run * batch, batch))
            verified += batch
    else:
        # The last batch is still in the buffers.
        wrong += sum(slots.payloads[at] != slots.bodies[slot % batch] for at, slot in enumerate(wanted))
        verified += batch
    slots.close()
    latencies.sort()
    values = calls * batch
    gigabytes = values * options.value_bytes / 1e9
    return {
        "op": options.op,
        "engine": "io_uring",
        "value_bytes": options.value_bytes,
        "batch": batch,
        "depth": batch,
        "gbps": gigabytes / seconds,
        "ops_per_s": values / seconds,
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[int(len(latencies) * 0.99)] * 1e6,
        "cpu_s_per_gb": cpu / gigabytes,
        "verified_bytes": verified * options.value_bytes,
        "wrong_bytes": wrong * options.value_bytes,
    }


def main(kind):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", required=True, help="a file or block device that already has its size; its content is lost")
    parser.add_argument("--op", choices=["put", "get"], required=True)
    parser.add_argument("--value-bytes", type=int, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    print(json.dumps(measure(kind, parser.parse_args())))


if __name__ == "__main__":
    main(Slots)
