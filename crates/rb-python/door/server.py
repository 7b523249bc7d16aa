"""`lmcache server` with the adapter as its plugin, driven by the client of vLLM's connector.

LMCache's client moves CPU tensors where there is no GPU: so this is all of the server's way, without an engine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from report import step

MODEL = "door"
TOKENS = 16
CHUNK_TOKENS = 256
BLOCKS = 64
LAYERS = 4
# Seconds that the client waits for an answer; a server that was killed gives none.
ANSWER = 5.0
CHUNKS = BLOCKS * TOKENS // CHUNK_TOKENS

BENCH_KIB = (64, 1024, 16384)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def adapter_spec(path: Path, bytes_: str = "512MiB") -> str:
    return json.dumps(
        {
            "type": "plugin",
            "module_path": "raw_block.lmcache",
            "class_name": "RawBlockAdapter",
            "adapter_params": {"path": str(path), "bytes": bytes_},
        }
    )


class Server:
    """A server process."""

    def __init__(self, store: Path) -> None:
        self.port, self.http = free_port(), free_port()
        lmcache = Path(sys.executable).with_name("lmcache")
        command = [
            *(str(lmcache), "server", "--port", str(self.port), "--http-port", str(self.http)),
            *("--chunk-size", str(CHUNK_TOKENS), "--l1-size-gb", "0.25", "--eviction-policy", "LRU"),
            *("--supported-transfer-mode", "engine_driven", "--l2-adapter", adapter_spec(store)),
        ]
        self.process = subprocess.Popen(command, env={**os.environ, "LMCACHE_TRACK_USAGE": "false"})
        end = time.monotonic() + 120
        while True:
            try:
                self.get("/healthcheck")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.1)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(how)
        self.process.wait(60)


# Contexts of clients that were closed. One that is collected waits for its sockets to a server that may be gone: forever.
LEFT: list[Any] = []


class Client:
    """What vLLM's connector does, with paged KV tensors on the CPU."""

    def __init__(self, server: Server) -> None:
        import torch
        import zmq
        from lmcache.integration.vllm import vllm_multi_process_adapter as mp

        self.mp = mp
        self.context = zmq.Context()
        url = f"tcp://127.0.0.1:{server.port}"
        strategy = mp.ParallelStrategy(
            mla_only=False, vllm_world_size=1, vllm_worker_id=0, tp_size=1, pp_size=1, n_servers=1
        )
        self.scheduler = mp.LMCacheMPSchedulerAdapter([url], self.context, MODEL, TOKENS, strategy, mq_timeout=ANSWER)
        self.worker = mp.LMCacheMPWorkerAdapter(
            url, self.context, MODEL, TOKENS, strategy, mq_timeout=ANSWER
        )
        torch.manual_seed(1)
        self.caches = {f"layer.{at}": torch.zeros(2, BLOCKS, TOKENS, 8, 64, dtype=torch.float16) for at in range(LAYERS)}
        self.worker.register_kv_caches(self.caches, layout_hints={"kv_layout": "NHD"})

    def op(self, seed: int) -> Any:
        from lmcache.v1.multiprocess.token_codec import pack_token_ids

        tokens = [seed * 100_000 + at for at in range(BLOCKS * TOKENS)]
        packed = pack_token_ids(tokens)
        return self.mp.LoadStoreOp(packed, [list(range(BLOCKS))], 0, len(tokens))

    def fill(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)
        for cache in self.caches.values():
            cache.copy_(torch.randn(cache.shape).to(cache.dtype))

    def store(self, seed: int) -> None:
        self.fill(seed)
        request = f"store-{seed}"
        self.worker.submit_store_request(request, self.op(seed), None)
        assert self.worker.store_futures[request].result(30)

    def load(self, seed: int) -> int:
        """Returns how many tokens were found. The tensors hold them then."""
        for cache in self.caches.values():
            cache.zero_()
        op, request = self.op(seed), f"load-{seed}-{time.monotonic_ns()}"
        assert self.scheduler.maybe_submit_lookup_request(request, op.token_bytes)
        end = time.monotonic() + 30
        while (found := self.scheduler.check_lookup_result(request)) is None:
            assert time.monotonic() < end, "the lookup is not answered"
            time.sleep(0.001)
        if found == op.end:
            self.worker.submit_retrieve_request(request, op, None)
            future, *_ = self.worker.retrieve_futures[request]
            assert future.result(30)
        self.scheduler.cleanup_lookup_result(request)
        return int(found)

    def wrong(self, seed: int) -> int:
        """How many layers differ from what was stored."""
        import torch

        torch.manual_seed(seed)
        return sum(
            not torch.equal(cache, torch.randn(cache.shape).to(cache.dtype)) for cache in self.caches.values()
        )

    def close(self) -> None:
        self.scheduler.shutdown()
        LEFT.append(self.context)
        self.worker.shutdown()


def stored_keys(server: Server) -> int:
    return len(json.loads(server.get("/cache/objects?tier=l2&page_size=5000"))["entries"])


def wait_stored(server: Server, count: int) -> None:
    end = time.monotonic() + 60
    while stored_keys(server) < count:
        assert time.monotonic() < end, f"{stored_keys(server)} of {count} objects are stored"
        time.sleep(0.05)


def restart(folder: Path, how: signal.Signals) -> str:
    requests = 8
    store = folder / f"store-{how.name}"
    server = Server(store)
    client = Client(server)
    try:
        for seed in range(requests):
            client.store(seed)
        wait_stored(server, requests * CHUNKS)
        # Longer than `sync_interval_ms`: so all is on the device.
        time.sleep(0.5)
    finally:
        server.stop(how)
        client.close()
    server = Server(store)
    client = Client(server)
    try:
        hits = 0
        for seed in range(requests):
            found = client.load(seed)
            assert found == BLOCKS * TOKENS, f"{found} tokens of {BLOCKS * TOKENS} were found"
            assert client.wrong(seed) == 0
            hits += found
        assert client.load(requests + 1) == 0
        status = server.get("/status")
        assert "RawBlockAdapter" in status and json.loads(status)["is_healthy"]
        metrics = sorted(set(re.findall(r"^(raw_block_\w+)", server.get("/metrics"), re.MULTILINE)))
        assert metrics, "no metric of raw_block is exported"
        adapters = json.loads(server.get("/config/adapters"))["adapters"]
        assert any(each["type_name"] == "plugin" for each in adapters)
    finally:
        server.stop()
        client.close()
    return f"{hits} tokens hit, 0 wrong layers; /status healthy; {len(metrics)} metrics in /metrics"


def runtime(folder: Path) -> str:
    """The server's HTTP interface lists adapters and cannot add one: its storage manager can."""
    from hosts_lmcache import manager_of, plugin_config

    manager = manager_of([])
    try:
        rounds = 3
        for _ in range(rounds):
            adapter_id = manager.add_l2_adapter(plugin_config(folder / "runtime", bytes="64MiB"))
            assert [desc.index for desc, _ in manager.l2_adapters()] == [adapter_id]
            manager.delete_l2_adapter(adapter_id)
            assert not manager.l2_adapters()
    finally:
        manager.close()
    return f"added and removed {rounds} times on one file, over StorageManager: /config/adapters only lists"


def bench(folder: Path, kib: int) -> str:
    keys = max(2, min(32, 64 * 1024 // kib))
    total = f"{max(256, keys * kib * 8 // 1024)}MiB"
    command = [
        *(str(Path(sys.executable).with_name("lmcache")), "bench", "l2", "--no-skip-verify"),
        *("--num-keys", str(keys), "--data-size-kb", str(kib), "--rounds", "3", "--l1-align-bytes", "4096"),
        *("--l2-adapter", adapter_spec(folder / f"bench-{kib}", total)),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "LMCACHE_TRACK_USAGE": "false", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    output = done.stdout + done.stderr
    sys.stdout.write(output)
    assert done.returncode == 0, f"it ended with {done.returncode}"
    verified = re.search(r"All \d+ keys data verified OK", output)
    assert verified is not None, "nothing was verified"
    return verified[0]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for how in (signal.SIGINT, signal.SIGKILL):
            with step(f"lmcache/server/restart-{how.name}") as running:
                running.figure = restart(folder, how)
        with step("lmcache/server/runtime") as running:
            running.figure = runtime(folder)
        for kib in BENCH_KIB:
            with step(f"lmcache/bench/{kib}KiB") as running:
                running.figure = bench(folder, kib)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # At its exit, Python would destroy the contexts of ZMQ.
    os._exit(0)
