"""The native store, without any host."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import raw_block
from raw_block import DONE, EXISTED, MISMATCH, MISS, NO_SPACE, NOT_ADMITTED, REFUSED, TOO_LONG, Memory, Store

SLOT = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "store")
    raw_block.format(path, bytes=96 << 20)
    return path


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    with Store(path, events=True) as store:
        yield store


class Pages:
    """Memory on whole pages, as a host's pool is."""

    def __init__(self, length: int) -> None:
        self.map = mmap.mmap(-1, length)
        kept = (ctypes.c_char * length).from_buffer(self.map)
        self.address = ctypes.addressof(kept)
        self.memory = Memory(self.address, length, kept)

    def write(self, at: int, data: bytes) -> tuple[int, int]:
        self.map[at : at + len(data)] = data
        return self.address + at, len(data)

    def read(self, at: int, length: int) -> bytes:
        return self.map[at : at + length]


def wait(store: Store, kind: str, task: int, seconds: float = 30) -> raw_block.Done:
    """The end of one batch."""
    fd = store.put_fd if kind == "put" else store.get_fd
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        select.select([fd], [], [], end - time.monotonic())
        for done in store.drain(kind):
            assert done.id == task
            return done
    raise AssertionError(f"batch {task} did not end within {seconds} s")


def value(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


LENGTHS = [1, 4095, 4096, 4097, 65536, 262143, 262144, 300_001, SLOT, SLOT + 1, 5 * SLOT, 9_999_999]


@pytest.mark.parametrize("offset", [0, 1, 512, 4096])
def test_every_length_comes_back_from_any_address(store: Store, offset: int) -> None:
    pages = Pages(32 << 20)
    store.adopt(pages.memory)
    source = value(offset, 16 << 20)
    pages.map[offset : offset + len(source)] = source
    for length in LENGTHS:
        key = b"%d" % length
        put = store.submit_put([key], [(pages.address + offset, length)], metadata=[b"m%d" % length])
        done = wait(store, "put", put)
        assert (done.codes, done.lengths, done.error) == ([DONE], [length], None)
        target = offset + (16 << 20)
        pages.map[target : target + length + 2] = b"\xaa" * (length + 2)
        got = store.submit_get([key], [(pages.address + target, length)], expect=[b"m%d" % length])
        done = wait(store, "get", got)
        assert (done.codes, done.lengths, done.error) == ([DONE], [length], None)
        assert pages.read(target, length) == source[:length]
        assert pages.read(target + length, 2) == b"\xaa\xaa", "nothing is written past the length given"
        assert pages.read(offset, len(source)) == source, "the source is never changed"
        store.remove([key])


def test_nothing_is_copied_on_whole_pages(store: Store) -> None:
    pages = Pages(16 << 20)
    store.adopt(pages.memory)
    span = pages.write(0, value(1, 6 << 20))
    assert store.put_many([b"key"], [span]).codes == [DONE]
    assert store.get_many([b"key"], [(pages.address + (8 << 20), 6 << 20)]).codes == [DONE]
    assert pages.read(8 << 20, 6 << 20) == pages.read(0, 6 << 20)
    assert store.stats()["bytes_copied"] == 0


def count(store: Store, name: str) -> int:
    """A counter of the store's metrics."""
    lines = [line for line in store.metrics("x").splitlines() if line.startswith(name + "{")]
    (line,) = lines
    return int(line.split()[-1])


def test_adopted_memory_stays_registered(path: str) -> None:
    """The store forgot the memory when Python dropped its `Memory`, as all hosts do: each value was read and written as
    memory of its own, which the kernel pins for each request."""
    pages = Pages(16 << 20)
    with Store(path, engine="io_uring", memory=[pages.memory]) as store:
        del pages.memory
        gc.collect()
        span = pages.write(0, value(1, 6 << 20))
        assert store.put_many([b"key"], [span]).codes == [DONE]
        assert store.get_many([b"key"], [(pages.address + (8 << 20), 6 << 20)]).codes == [DONE]
        with pytest.raises(ValueError, match="overlap"):
            Memory(pages.address + 4096, 4096, None)
        store.sync()
        parts = count(store, "raw_block_queue_registered_parts_total")
        assert parts >= 12, "six slots each, and headers"
        assert count(store, "raw_block_queue_unregistered_parts_total") == 0


def test_buffers_of_python_serve_as_well(store: Store) -> None:
    for source in (b"bytes" * 1000, bytearray(b"array" * 1000), memoryview(b"view" * 1000)):
        assert store.put(b"key", source)
        assert store.get(b"key") == bytes(source)
        target = bytearray(len(source))
        assert store.get_many([b"key"], [target]).codes == [DONE]
        assert target == bytes(source)
    with pytest.raises(TypeError):
        store.get_many([b"key"], [b"read-only"])
    with pytest.raises(TypeError):
        store.submit_get([b"key"], [memoryview(b"read-only")])


def test_each_key_has_its_own_answer(store: Store) -> None:
    store.put(b"here", b"x" * 100, metadata=b"model")
    targets = [bytearray(100), bytearray(100), bytearray(99), bytearray(101), bytearray(100)]
    keys = [b"here", b"missing", b"here", b"here", b"here"]
    expect = [b"model", None, None, None, b"other"]
    done = store.get_many(keys, targets, expect=expect)
    assert done.codes == [DONE, MISS, MISMATCH, MISMATCH, MISMATCH]
    assert done.lengths == [100, 0, 0, 0, 0]
    assert store.get_many([b"here"], [bytearray(101)], exact=False).lengths == [100]

    done = store.put_many([b"here", b"new", b"long"], [b"y", b"z", bytearray(300 << 20)])
    assert done.codes == [EXISTED, DONE, TOO_LONG]
    assert done.lengths == [0, 1, 0] and done.error is not None
    with pytest.raises(ValueError):
        store.put_many([b"one"], [])
    with pytest.raises(ValueError):
        store.submit_get([b"one"], [bytearray(1)], expect=[])


def test_memory_in_use_refuses_that_key_alone(store: Store) -> None:
    pages = Pages(8 << 20)
    store.put(b"a", b"x" * 8192)
    span = (pages.address, 8192)
    done = store.get_many([b"a", b"a", b"a"], [span, (pages.address + 4096, 8192), (pages.address + 65536, 8192)])
    assert done.codes == [DONE, REFUSED, DONE]
    assert "overlap" in (done.error or "")


def test_memory_of_python_in_use_refuses_that_key_alone(store: Store) -> None:
    """Memory that was not adopted has an arena for each value, and these did not know of each other."""
    store.put(b"a", b"x" * 300_000)
    target = bytearray(300_000)
    assert store.get_many([b"a", b"a"], [target, target]).codes == [DONE, REFUSED]
    view = memoryview(target)
    assert store.get_many([b"a", b"a"], [target, view[100:]], exact=False).codes == [DONE, REFUSED]
    # Several puts may read the same memory.
    assert store.put_many([b"b", b"c"], [target, target]).codes == [DONE, DONE]
    assert store.get_many([b"c"], [target]).codes == [DONE]


def test_the_same_memory_is_the_same_and_overlaps_are_refused() -> None:
    pages = Pages(1 << 20)
    assert Memory(pages.address, 1 << 20, None).address == pages.address
    with pytest.raises(ValueError, match="overlap"):
        Memory(pages.address + 4096, 4096, None)
    with pytest.raises(ValueError):
        Memory(pages.address + 1, 4096, None)


def test_locked_values_stay(path: str) -> None:
    with Store(path, events=True, shards=1) as store:
        assert store.put_many([b"locked"], [b"x" * 1000]).codes == [DONE]
        assert store.lock([b"locked", b"missing", b"locked"]) == [1000, -1, 1000]
        for number in range(200):
            store.put(b"%d" % number, b"y" * SLOT)
        assert store.get(b"locked") == b"x" * 1000
        assert store.remove([b"locked", b"missing", b"199"]) == [-2, -1, SLOT]
        gone = store.poll_events()
        assert len(gone) > 100 and all(kind == "evicted" and length == SLOT for kind, _, length in gone)
        assert store.unlock([b"locked", b"missing"]) == 1
        assert store.remove([b"locked"]) == [-2]
        assert store.unlock([b"locked", b"locked"]) == 1
        assert store.remove([b"locked"]) == [1000]


def test_a_store_full_of_locks_refuses_one_key(path: str) -> None:
    with Store(path) as store:
        slots = store.geometry()["slots"]
        keys = [b"%d" % number for number in range(slots)]
        for key in keys:
            store.put(key, b"x" * SLOT)
        assert all(length == SLOT for length in store.lock(keys))
        assert store.put_many([b"more", b"0"], [b"y", b"z"]).codes == [NO_SPACE, EXISTED]
        store.unlock(keys)
        assert store.put_many([b"more"], [b"y"]).codes == [DONE]


def test_a_write_budget_refuses_what_is_new(path: str) -> None:
    """A refused put is no failure: the key has no value, and what has one keeps it."""
    with Store(path, policy="learned", write_budget_per_day=64 << 10) as store:
        keys = [b"%d" % number for number in range(40)]
        codes = store.put_many(keys, [b"x" * 4096] * 40).codes
        written = codes.count(DONE)
        assert 0 < written < 40 and codes == [DONE] * written + [NOT_ADMITTED] * (40 - written)
        assert store.contains(keys) == [True] * written + [False] * (40 - written)
        assert store.put_many([keys[0], b"new"], [b"y", b"z"]).codes == [EXISTED, NOT_ADMITTED]
        assert store.get(keys[0]) == b"x" * 4096
    with pytest.raises(ValueError, match="policy"):
        Store(path, policy="random")  # type: ignore[arg-type]


def test_lookups(store: Store) -> None:
    for key in (b"a", b"b", b"d"):
        store.put(key, b"x", metadata=b"meta")
    assert store.contains([b"a", b"c", b"d"]) == [True, False, True]
    assert store.longest_prefix([b"a", b"b", b"c", b"d"]) == 2
    assert store.touch([b"a", b"c"]) == [True, False]
    page, cursor = store.list(limit=2, order="oldest")
    assert page == [(b"a", 1, b"meta"), (b"b", 1, b"meta")]
    page, cursor = store.list(cursor, limit=2)
    assert page == [(b"d", 1, b"meta")] and cursor is None
    keys, lengths, cursor = store.keys(limit=2, order="newest")
    assert (keys, lengths) == ([b"d", b"b"], [1, 1])
    keys, lengths, cursor = store.keys(cursor, limit=2)
    assert (keys, lengths, cursor) == ([b"a"], [1], None)
    assert store.lengths([b"a", b"c"]) == [1, -1]
    assert store.charge(1) == SLOT and store.charge(SLOT + 1) == 2 * SLOT
    geometry = store.geometry()
    assert geometry["capacity_bytes"] == geometry["slots"] * SLOT
    with pytest.raises(ValueError):
        store.charge(0)
    assert "raw_block_puts_total" in store.metrics("name")
    assert store.health()["healthy"]


def test_expired_values_are_misses(store: Store) -> None:
    store.put(b"key", b"x", expires=time.time() + 1)
    time.sleep(2.5)
    assert store.get(b"key") is None
    with pytest.raises(ValueError):
        store.put(b"key", b"x", expires=-1.0)


def test_what_was_put_is_there_after_a_restart(path: str) -> None:
    with Store(path) as store:
        store.put(b"key", b"value", metadata=b"meta")
        uuid = store.uuid
    # The device is free as soon as the store is closed, though the object is still there.
    assert store.closed
    with pytest.raises(raw_block.Closed):
        store.get(b"key")
    assert store.drain("get") == [] and store.unlock([b"key"]) == 0
    store.close()
    with Store(path, uuid=uuid) as again:
        assert again.recovery()["clean"] and again.get(b"key") == b"value"


def test_openings_that_fail_have_their_own_errors(path: str, tmp_path: Path) -> None:
    with Store(path):
        with pytest.raises(raw_block.InUse):
            Store(path)
    with pytest.raises(raw_block.Unexpected):
        Store(path, slot_bytes=[4096])
    with pytest.raises(raw_block.Unexpected):
        Store(path, label=b"other")
    with pytest.raises(raw_block.Unexpected):
        Store(path, uuid="00000000-0000-0000-0000-000000000001")
    with pytest.raises(raw_block.Consent):
        raw_block.format(path)
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 20))
    assert raw_block.is_store(path) and not raw_block.is_store(str(empty))
    with pytest.raises(raw_block.NotAStore):
        Store(str(empty))
    for wrong in ({"engine": "x"}, {"durability": "x"}, {"validate": "x"}, {"uuid": "x"}, {"io_deadline_ms": 0}):
        with pytest.raises(ValueError):
            Store(path, **wrong)


def test_threads_that_put_get_and_remove_see_only_what_was_put(path: str) -> None:
    """Each value begins with its key and is that key repeated, so that any mixture is noticed."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    failures: list[str] = []
    with Store(path, events=True) as store:

        def work(number: int) -> None:
            rng = random.Random(seed + number)
            pages = Pages(4 << 20)
            for _ in range(150):
                key = b"%04d" % rng.randrange(120)
                length = rng.choice([4, 4096, 40_000, 400_000, 2 << 20])
                match rng.randrange(4):
                    case 0 | 1:
                        span = pages.write(0, (key * (length // 4 + 1))[:length])
                        code = store.put_many([key], [span], replace=rng.random() < 0.5).codes[0]
                        if code not in (DONE, EXISTED, raw_block.SUPERSEDED):
                            failures.append(f"put: {code}")
                    case 2:
                        done = store.get_many([key], [(pages.address, 4 << 20)], exact=False)
                        if done.codes == [DONE]:
                            length = done.lengths[0]
                            if pages.read(0, length) != (key * (length // 4 + 1))[:length]:
                                failures.append(f"wrong bytes of {key!r}")
                        elif done.codes != [MISS]:
                            failures.append(f"get: {done.codes} {done.error}")
                    case 3:
                        store.remove([key])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        # The sum of the slots is exact at the end.
        used = 0
        cursor = None
        while True:
            page, cursor = store.list(cursor, 100)
            used += sum(store.charge(length) // SLOT for _, length, _ in page)
            if cursor is None:
                break
        live = sum(found["live"] for found in store.stats()["index"]["classes"])
        assert used == live


def test_a_fork_has_no_store(store: Store) -> None:
    store.put(b"key", b"value")
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (lambda: store.get(b"key"), lambda: store.drain("put"), store.close, store.stats):
            try:
                call()
            except raw_block.Forked:
                refused += 1
        os._exit(0 if refused == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.get(b"key") == b"value"


KILLED = """
import sys, raw_block
store = raw_block.Store(sys.argv[1])
number = 0
while True:
    store.put(b"%d" % number, (b"%d," % number) * 20000)
    if number % 5 == 4:
        store.sync()
        print(number, flush=True)
    number += 1
"""


def test_what_was_synced_survives_a_kill(path: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    synced = 0
    for _ in range(6):
        synced = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    with Store(path) as store:
        assert not store.recovery()["clean"]
        for number in range(synced + 1):
            assert store.get(b"%d" % number) == (b"%d," % number) * 20000


def test_an_exit_without_a_close_closes(path: str) -> None:
    program = "import sys, raw_block; store = raw_block.Store(sys.argv[1]); store.put(b'key', b'value')"
    subprocess.run([sys.executable, "-c", program, path], check=True)
    with Store(path) as store:
        assert store.recovery()["clean"] and store.get(b"key") == b"value"


def test_batches_in_progress_end_when_the_store_is_closed(path: str) -> None:
    store = Store(path)
    pages = Pages(64 << 20)
    tasks = {store.submit_put([b"%d" % n], [(pages.address + (n << 21), 2 << 20)]) for n in range(30)}
    store.close()
    ended = {done.id: done.codes[0] for done in store.drain("put")}
    assert ended.keys() == tasks
    with pytest.raises(raw_block.Closed):
        store.submit_put([b"key"], [b"value"])
    with Store(path) as again:
        stored = {task for task, code in ended.items() if code == DONE}
        assert sum(again.contains([b"%d" % n for n in range(30)])) == len(stored)
