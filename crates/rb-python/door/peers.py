"""The speed of LMCache objects through the adapter, alternating with LMCache's own raw_block, both engines, and `rb bench`.

Each contender has a device of its own: a file in memory behind a loop device, or a file on the disk. In each round each
one stores the same objects and loads them again, and every byte that a load returns is compared."""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from report import Skip, step

KIB, MIB = 1 << 10, 1 << 20

# Bytes of the objects of a turn.
TURN_BYTES = 256 * MIB
DEVICE_BYTES = 1024 * MIB
META_BYTES = 64 * MIB
BLOCK = 4096

RAW_BLOCK = ("posix", "io_uring")


class Case(NamedTuple):
    name: str
    sizes: tuple[int, ...]
    batch: int
    in_flight: int
    # Targets of the ratio to the better engine, on the loop device and on the disk.
    loop: tuple[float, float]
    disk: tuple[float, float] = (1.0, 1.0)


CASES = (
    Case("64KiB", (64 * KIB,), 32, 4, (1.8, 1.4)),
    Case("1MiB", (MIB,), 16, 4, (1.1, 1.1)),
    Case("16MiB", (16 * MIB,), 4, 2, (0.9, 0.9)),
    Case("mixed", (64 * KIB, MIB, 4 * MIB), 12, 4, (0.95, 1.0)),
)


class Contender:
    """A process with an adapter on a device, which stores and loads when its parent says so."""

    def __init__(self, kind: str, case: Case, device: str) -> None:
        command = [sys.executable, __file__, "--child", kind, "--case", case.name, "--device", device]
        environment = {**os.environ, "LMCACHE_TRACK_USAGE": "false", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.say("ready")

    def say(self, what: str) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("TURN "):
                return json.loads(line.removeprefix("TURN "))
        raise RuntimeError(f"a contender has ended with {self.process.wait()}")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


class Child:
    """The adapter, and memory for the objects of a turn, twice: what is stored, and what is loaded into."""

    def __init__(self, kind: str, case: Case, device: str) -> None:
        import numpy as np
        import torch
        from lmcache.v1.distributed.internal_api import L1MemoryDesc
        from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj

        torch.set_num_threads(1)
        self.case = case
        count = TURN_BYTES // sum(case.sizes) * len(case.sizes)
        self.sizes = [case.sizes[at % len(case.sizes)] for at in range(count)]
        self.bytes = sum(self.sizes)
        # Like LMCache's L1: memory of torch, whose objects begin on pages.
        whole = torch.empty(2 * self.bytes + BLOCK, dtype=torch.uint8)
        skipped = -whole.data_ptr() % BLOCK
        self.memory = whole[skipped : skipped + 2 * self.bytes]
        self.flat = self.memory.numpy()
        self.flat[: self.bytes] = np.frombuffer(np.random.default_rng(1).bytes(self.bytes), dtype=np.uint8)
        self.flat[self.bytes :] = 0

        def objects(at: int) -> Iterator[Any]:
            for size in self.sizes:
                meta = MemoryObjMetadata(
                    torch.Size([size // 2]), torch.bfloat16, at, size, 1, fmt=MemoryFormat.KV_2LTD
                )
                yield TensorMemoryObj(self.memory[at : at + size], meta, parent_allocator=None)
                at += size

        self.sources, self.targets = list(objects(0)), list(objects(self.bytes))
        desc = L1MemoryDesc(
            ptr=self.memory.data_ptr(),
            size=2 * self.bytes,
            align_bytes=BLOCK,
            stable_registration_size=2 * self.bytes,
        )
        self.kind, self.device = kind, device
        self.adapter = adapter_of(kind, case, device, desc)
        self.turns = 0
        self.keys: list[Any] = []

    def store(self) -> dict[str, float]:
        from lmcache.v1.distributed.api import ObjectKey

        old, self.turns = self.keys, self.turns + 1
        if old:
            self.adapter.delete(old)
        self.keys = [
            ObjectKey((self.turns << 32 | number).to_bytes(32, "big"), "model", 0) for number in range(len(self.sizes))
        ]
        stored = 0

        def popped() -> list[int]:
            nonlocal stored
            done = self.adapter.pop_completed_store_tasks()
            for result in done.values():
                assert int(result) >= 0, "a store failed"
                stored += 1
            return list(done)

        figures = self._turn(
            lambda part: self.adapter.submit_store_task(self.keys[part], self.sources[part]),
            popped,
            self.adapter.get_store_event_fd(),
        )
        assert stored == -(-len(self.keys) // self.case.batch)
        began = time.perf_counter()
        self._sync()
        seconds = self.bytes / figures["gb_per_second"] / 1e9 + time.perf_counter() - began
        return {**figures, "synced_gb_per_second": self.bytes / seconds / 1e9}

    def _sync(self) -> None:
        """Until a loss of power costs nothing. LMCache's raw_block never does this."""
        if self.kind == "ours":
            self.adapter._store.sync()
            return
        with open(self.device, "rb+") as file:
            os.fdatasync(file.fileno())

    def load(self) -> dict[str, float]:
        self.flat[self.bytes :] = 0
        found = self.adapter.submit_lookup_and_lock_task(self.keys, {})
        while (hits := self.adapter.query_lookup_and_lock_result(found)) is None:
            time.sleep(0.001)
        assert len(hits.get_indices_list()) == len(self.keys)
        running: dict[int, int] = {}

        def submit(part: slice) -> int:
            task = self.adapter.submit_load_task(self.keys[part], self.targets[part])
            running[task] = len(self.keys[part])
            return int(task)

        def popped() -> list[int]:
            ended = []
            for task in list(running):
                result = self.adapter.query_load_result(task)
                if result is not None:
                    assert len(result.get_indices_list()) == running.pop(task), "a miss"
                    ended.append(task)
            return ended

        figures = self._turn(submit, popped, self.adapter.get_load_event_fd())
        self.adapter.submit_unlock(self.keys)
        import numpy as np

        half = self.bytes
        figures["wrong"] = 0 if np.array_equal(self.flat[:half], self.flat[half:]) else 1
        return figures

    def _turn(self, submit: Any, popped: Any, fd: int) -> dict[str, float]:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        batch, count = self.case.batch, len(self.keys)
        parts = [slice(at, min(at + batch, count)) for at in range(0, count, batch)]
        cpu, began = cpu_seconds(), time.perf_counter()
        running = 0
        while parts or running:
            while parts and running < self.case.in_flight:
                submit(parts.pop(0))
                running += 1
            if poll.poll(60_000):
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass
                running -= len(popped())
            else:
                raise AssertionError("a task is not answered")
        seconds = time.perf_counter() - began
        return {
            "gb_per_second": self.bytes / seconds / 1e9,
            "cpu_seconds_per_gb": (cpu_seconds() - cpu) / self.bytes * 1e9,
        }

    def copied(self) -> int:
        """The bytes that the store has copied."""
        return int(self.adapter.report_status()["stats"]["bytes_copied"])


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def adapter_of(kind: str, case: Case, device: str, desc: Any) -> Any:
    if kind == "ours":
        from raw_block.lmcache import RawBlockAdapter

        slot = min(MIB, max(case.sizes))
        return RawBlockAdapter({"path": device, "slot_bytes": slot, "consent": True}, desc)
    from lmcache.v1.distributed.l2_adapters.raw_block_l2_adapter import RawBlockL2Adapter, RawBlockL2AdapterConfig

    config = RawBlockL2AdapterConfig(
        device_path=device,
        slot_bytes=max(case.sizes) + BLOCK,
        meta_total_bytes=META_BYTES,
        io_engine=kind,
        load_checkpoint_on_init=False,
    )
    return RawBlockL2Adapter(config, desc)


def child(kind: str, case: Case, device: str) -> None:
    running = Child(kind, case, device)
    for line in sys.stdin:
        word = line.strip()
        answer: Any = None
        if word in ("store", "load"):
            answer = getattr(running, word)()
        elif word == "copied":
            answer = running.copied()
        sys.stdout.write(f"TURN {json.dumps(answer)}\n")
        sys.stdout.flush()
    running.adapter.close()
    sys.stdout.flush()
    os._exit(0)


@contextmanager
def device(target: str, folder: Path, name: str, size: int) -> Iterator[str]:
    """A file on the disk, or a loop device over a file in memory."""
    if target == "disk":
        file = folder / name
        with file.open("wb") as made:
            # Written, not sparse: the first writes to new space are slower than others.
            for _ in range(size // (16 * MIB)):
                made.write(bytes(16 * MIB))
            os.fsync(made.fileno())
        yield str(file)
        file.unlink()
        return
    file = Path("/dev/shm") / f"raw-block-{os.getpid()}-{name}"
    with file.open("wb") as made:
        for _ in range(size // (16 * MIB)):
            made.write(bytes(16 * MIB))
    loop = None
    try:
        command = ["losetup", "--find", "--show", "--direct-io=off", str(file)]
        made_loop = subprocess.run(command, capture_output=True, text=True, check=False)
        if made_loop.returncode:
            raise Skip(f"no loop device can be made: {made_loop.stderr.strip()}")
        loop = made_loop.stdout.strip()
        yield loop
    finally:
        if loop is not None:
            subprocess.run(["losetup", "--detach", loop], check=False)
        file.unlink()


def rb_bench(rb: str, path: str, case: Case, op: str, *more: str) -> float:
    """The rate of `rb bench` with the same batch, as many threads as tasks in flight."""
    command = [
        *(rb, "bench", "--store", path, "--op", op, "--value-bytes", str(case.sizes[0]), "--batch", str(case.batch)),
        *("--threads", str(case.in_flight), "--blocking", "--seconds", "1", "--json", *more),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["bytes_per_second"]) / 1e9


def measure(case: Case, target: str, rounds: int, rb: str | None, folder: Path) -> dict[str, Any]:
    from contextlib import ExitStack

    kinds = ("ours", *RAW_BLOCK)
    rates: dict[str, dict[str, list[float]]] = {}
    cpu: dict[str, dict[str, list[float]]] = {}
    wrong = 0
    with ExitStack() as open_:
        contenders = {}
        for kind in kinds:
            # An object of the mixed case takes the largest slot of LMCache's raw_block.
            count = TURN_BYTES // sum(case.sizes) * len(case.sizes)
            size = max(DEVICE_BYTES, META_BYTES + count * (max(case.sizes) + BLOCK) + 16 * MIB)
            size = DEVICE_BYTES if kind == "ours" else -(-size // (16 * MIB)) * 16 * MIB
            contenders[kind] = Contender(kind, case, open_.enter_context(device(target, folder, kind, size)))
            open_.callback(contenders[kind].end)
        bench = None
        if rb is not None and len(case.sizes) == 1 and case.sizes[0] >= MIB:
            bench = open_.enter_context(device(target, folder, "bench", DEVICE_BYTES))
            rb_bench(str(rb), bench, case, "put", "--fresh", "--yes", "--size", str(DEVICE_BYTES))
        for round_ in range(rounds + 1):
            # The order changes, so that none is always the first.
            order = [kinds[(at + round_) % len(kinds)] for at in range(len(kinds))]
            for op in ("store", "load"):
                for kind in order:
                    figures = contenders[kind].say(op)
                    wrong += figures.get("wrong", 0)
                    if round_ and "synced_gb_per_second" in figures:
                        rates.setdefault("synced", {}).setdefault(kind, []).append(figures["synced_gb_per_second"])
                    if round_:  # the first warms up
                        rates.setdefault(op, {}).setdefault(kind, []).append(figures["gb_per_second"])
                        cpu.setdefault(op, {}).setdefault(kind, []).append(figures["cpu_seconds_per_gb"])
                if bench is not None:
                    rate = rb_bench(str(rb), bench, case, {"store": "put", "load": "get"}[op])
                    if round_:
                        rates[op].setdefault("rb", []).append(rate)
        copied = contenders["ours"].say("copied")
    assert wrong == 0, f"{wrong} turns had wrong bytes"
    found: dict[str, Any] = {"copied": copied, "rounds": rounds}
    synced = rates.pop("synced")
    medians = {kind: statistics.median(each) for kind, each in synced.items()}
    best = max(RAW_BLOCK, key=lambda kind: medians[kind])
    found["synced_store"] = {
        "ratio": round(statistics.median(a / b for a, b in zip(synced["ours"], synced[best])), 2),
        "against": best,
        "gb_per_second": {kind: round(each, 2) for kind, each in medians.items()},
    }
    for op, by_kind in rates.items():
        medians = {kind: statistics.median(each) for kind, each in by_kind.items()}
        best = max(RAW_BLOCK, key=lambda kind: medians[kind])
        ratio = statistics.median(a / b for a, b in zip(by_kind["ours"], by_kind[best]))
        found[op] = {
            "ratio": round(ratio, 2),
            "against": best,
            "gb_per_second": {kind: round(each, 2) for kind, each in medians.items()},
            "cpu_seconds_per_gb": {kind: round(statistics.median(each), 3) for kind, each in cpu[op].items()},
        }
        if "rb" in by_kind:
            found[op]["of_rb_bench"] = round(statistics.median(a / b for a, b in zip(by_kind["ours"], by_kind["rb"])), 2)
    return found


def words(found: dict[str, Any], targets: tuple[float, float]) -> str:
    parts = []
    for op, target in zip(("store", "load"), targets):
        each = found[op]
        rates = each["gb_per_second"]
        cpu = each["cpu_seconds_per_gb"]
        line = f"{op} {each['ratio']:.2f} of {each['against']} (target {target}; {rates['ours']} GB/s;"
        line += f" CPU {cpu['ours']} s/GB, io_uring {cpu['io_uring']})"
        if "of_rb_bench" in each:
            line += f", {each['of_rb_bench']:.2f} of rb bench"
        parts.append(line)
    synced = found["synced_store"]
    rate = synced["gb_per_second"]["ours"]
    parts.append(f"store and sync {synced['ratio']:.2f} of {synced['against']} ({rate} GB/s)")
    return f"{'; '.join(parts)}; {found['copied']} bytes copied; every byte compared"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child")
    parser.add_argument("--case", choices=[case.name for case in CASES])
    parser.add_argument("--device")
    parser.add_argument("--target", choices=("loop", "disk"), default="loop")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rb")
    options = parser.parse_args()
    cases = [case for case in CASES if options.case in (None, case.name)]
    if options.child:
        child(options.child, cases[0], options.device)
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            with step(f"lmcache/peers/{options.target}/{case.name}") as running:
                found = measure(case, options.target, options.rounds, options.rb, Path(folder))
                running.figures = found
                running.figure = words(found, getattr(case, options.target))


if __name__ == "__main__":
    main()
