"""Callers that do what they should not. No call may crash, hang, panic, or hand out wrong bytes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import raw_block
from raw_block import CLOSED, DONE, INVALID, MISS, NO_SPACE, REFUSED, TOO_LONG, Memory, Store
from test_store import Pages, value, wait

SLOT = 64 << 10


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "store")
    raw_block.format(path, bytes=32 << 20, slot_bytes=SLOT)
    return path


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    with Store(path) as store:
        yield store


class Growing(list[Any]):
    """Says one length and has another."""

    def __init__(self, elements: list[Any], length: int) -> None:
        super().__init__(elements)
        self.length = length

    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("submit", ["submit_put", "submit_get", "put_many", "get_many"])
def test_spans_that_change_while_they_are_read(store: Store, submit: str, length: int) -> None:
    spans = Growing([bytearray(10) for _ in range(3)], length)
    keys = [b"%d" % at for at in range(length)]
    with pytest.raises(ValueError, match="changed"):
        getattr(store, submit)(keys, spans)
    # No memory is left lent.
    assert store.put_many([b"key"], [spans[0]]).codes == [DONE]


# Any mistake of these is one of Python's own exceptions or of ours; a panic is none of them.
REFUSALS = (raw_block.Error, ValueError, TypeError, OverflowError)

ODD: list[Any] = [None, True, -1, 0, 1, 3, 1 << 31, (1 << 63) - 1, 1 << 64, 1.5, float("nan"), "", "x", b"", b"x", [], {}, ()]


def odd_calls(store: Store) -> dict[str, Callable[[Any], Any]]:
    target = bytearray(10)
    return {
        "keys": lambda odd: store.put_many(odd, [b"value"]),
        "key": lambda odd: store.put_many([odd], [b"value"]),
        "put": lambda odd: store.put(odd, b"value"),
        "value": lambda odd: store.put(b"key", odd),
        "spans": lambda odd: store.get_many([b"key"], odd),
        "span": lambda odd: store.get_many([b"key"], [odd]),
        "address": lambda odd: store.get_many([b"key"], [(odd, 0)]),
        "metadata": lambda odd: store.put_many([b"key"], [b"value"], metadata=odd),
        "one metadata": lambda odd: store.put_many([b"key"], [b"value"], metadata=[odd]),
        "expires": lambda odd: store.put_many([b"key"], [b"value"], expires=odd),
        "priority": lambda odd: store.put_many([b"key"], [b"value"], priority=odd),
        "expect": lambda odd: store.get_many([b"key"], [target], expect=odd),
        "one expect": lambda odd: store.get_many([b"key"], [target], expect=[odd]),
        "contains": lambda odd: store.contains(odd),
        "longest_prefix": lambda odd: store.longest_prefix(odd),
        "touch": lambda odd: store.touch(odd),
        "lock": lambda odd: store.unlock(odd) if isinstance(odd, list) and store.lock(odd) else store.lock(odd),
        "unlock": lambda odd: store.unlock(odd),
        "lengths": lambda odd: store.lengths(odd),
        "remove": lambda odd: store.remove(odd),
        "cursor": lambda odd: store.list(odd),
        "limit": lambda odd: store.list(None, odd),
        "order": lambda odd: store.list(None, 10, order=odd),
        "charge": lambda odd: store.charge(odd),
        "drain": lambda odd: store.drain(odd),
        "adopt": lambda odd: store.adopt(odd),
        "metrics": lambda odd: store.metrics(odd),
    }


def test_odd_arguments_are_refused_with_an_exception(store: Store) -> None:
    for name, call in odd_calls(store).items():
        for odd in ODD:
            try:
                call(odd)
            except REFUSALS as refusal:
                assert "panicked" not in str(refusal), (name, odd)
    assert store.put(b"key", b"value") and store.get(b"key") == b"value"
    assert store.health()["healthy"]


OPTIONS = (
    *("engine", "memory", "read_only", "start_empty", "force", "queue_depth", "queues", "buffer_bytes", "durability"),
    *("sync_interval_ms", "validate", "scrub_bytes_per_second", "discard_freed", "on_lost_metadata", "io_deadline_ms"),
    *("direct_min", "slot_bytes", "label", "uuid", "shards", "events", "monitor"),
    *("policy", "write_budget_per_day", "placement_metadata", "placement_lifetimes"),
)


@pytest.mark.parametrize("option", OPTIONS)
def test_odd_options_are_refused_or_work(path: str, option: str) -> None:
    for odd in ODD:
        named: dict[str, Any] = {option: odd}
        try:
            store = Store(path, **named)
        except REFUSALS:
            continue
        except MemoryError:
            pytest.fail(f"{option}={odd!r} takes all memory")
        if option == "io_deadline_ms" and odd < 1000:
            # The device is not as fast: that is reported, too.
            with contextlib.suppress(raw_block.Error):
                store.close()
            continue
        with store:
            if option != "read_only" or not odd:
                store.put(b"key", b"value")
                assert store.get(b"key") == b"value", (option, odd)
    with Store(path) as store:
        assert store.put(b"key", b"value")


@pytest.mark.parametrize("option", ["bytes", "slot_bytes", "key_len_max", "metadata_len_max", "log_bytes"])
def test_odd_formats_are_refused_or_work(tmp_path: Path, option: str) -> None:
    path = str(tmp_path / "new")
    for odd in ODD:
        named: dict[str, Any] = {"bytes": 32 << 20, "sparse": True, option: odd}
        try:
            raw_block.format(path, **named)
        except REFUSALS:
            continue
        with Store(path) as store:
            store.put(b"k", b"value")
            assert store.get(b"k") == b"value", (option, odd)
        os.unlink(path)


def test_sizes_at_the_ends(store: Store) -> None:
    pages = Pages(1 << 20)
    huge = [(pages.address, 0), (pages.address, 1 << 62), ((1 << 64) - 4096, 8192), (1, (1 << 64) - 1), (0, 10)]
    for span in huge:
        for call in (store.put_many, store.get_many):
            (code,) = call([b"key"], [span]).codes
            assert code in (REFUSED, TOO_LONG, INVALID, MISS), (span, code)
    assert store.put_many([b"", b"k" * 513, b"k" * 512], [b"value"] * 3).codes == [INVALID, INVALID, DONE]
    assert store.put_many([], []).codes == [] and store.get_many([], []).codes == []
    with pytest.raises(raw_block.Error):
        store.put(b"key", b"")


def test_a_batch_of_many_keys(tmp_path: Path) -> None:
    path = str(tmp_path / "small")
    raw_block.format(path, bytes=256 << 20, slot_bytes=4096)
    with Store(path) as store:
        values = [b"%d" % number for number in range(20_000)]
        assert set(store.put_many(values, values).codes) == {DONE}
        targets = [bytearray(5) for _ in values]
        done = store.get_many(values, targets, exact=False)
        assert set(done.codes) == {DONE}
        assert all(target[:length] == one for target, length, one in zip(targets, done.lengths, values))


def test_a_batch_that_is_larger_than_the_store(store: Store) -> None:
    values = [b"%d" % number for number in range(5000)]
    done = store.put_many(values, values)
    assert set(done.codes) <= {DONE, NO_SPACE}
    for one, found in zip(values, store.contains(values)):
        assert not found or store.get(one) == one


def test_the_same_key_twice_in_a_batch(store: Store) -> None:
    done = store.put_many([b"key", b"key"], [b"first", b"other"], replace=True)
    assert all(code >= 0 for code in done.codes)
    assert store.get(b"key") in (b"first", b"other")


def test_a_close_amid_all_operations(path: str) -> None:
    """Threads that use a store while another closes it. Each submitted batch is answered once."""
    for seed in range(6):
        store = Store(path, queues=4)
        submitted: list[set[int]] = [set(), set()]
        errors: list[BaseException] = []
        stop = threading.Event()

        def use(number: int, store: Store = store, submitted: list[set[int]] = submitted,
                errors: list[BaseException] = errors, stop: threading.Event = stop, seed: int = seed) -> None:
            chance = random.Random(seed * 100 + number)
            while not stop.is_set():
                key = b"%d" % chance.randrange(50)
                try:
                    kind = chance.randrange(8)
                    if kind < 2:
                        submitted[0].add(store.submit_put([key], [value(1, 100_000)]))
                    elif kind < 4:
                        submitted[1].add(store.submit_get([key], [bytearray(100_000)]))
                    elif kind == 4:
                        store.lock([key])
                        store.unlock([key])
                    elif kind == 5:
                        store.remove([key])
                    elif kind == 6:
                        store.list(None, 10)
                        store.stats()
                        store.health()
                    else:
                        got = store.get(key)
                        assert got in (None, value(1, 100_000))
                except raw_block.Closed:
                    return
                except BaseException as error:
                    errors.append(error)
                    return

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05 * seed)
        closers = [threading.Thread(target=store.close) for _ in range(3)]
        for thread in closers:
            thread.start()
        for thread in closers:
            thread.join(60)
        stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not errors, errors
        for kind, ids in zip(("put", "get"), submitted):
            answered: list[int] = []
            end = time.monotonic() + 20
            while len(answered) < len(ids) and time.monotonic() < end:
                answered += [done.id for done in store.drain(kind)]
            assert sorted(answered) == sorted(ids)
        # The device is free at once.
        Store(path).close()


def test_a_store_that_is_dropped_with_batches_in_progress(path: str) -> None:
    for _ in range(20):
        store = Store(path)
        memory = bytearray(1 << 20)
        for number in range(20):
            store.submit_put([b"%d" % number], [bytes(1 << 16)])
        store.submit_get([b"1"], [memory])
        del store, memory
        gc.collect()
        # The last one may still be closing.
        end = time.monotonic() + 20
        while True:
            try:
                Store(path).close()
                break
            except raw_block.InUse:
                assert time.monotonic() < end
                time.sleep(0.01)


class Owner:
    pass


def test_memory_lives_as_long_as_a_store_uses_it(path: str) -> None:
    buffer = ctypes.create_string_buffer(1 << 20)
    address = -(-ctypes.addressof(buffer) // 4096) * 4096
    owner = Owner()
    owner.buffer = buffer  # type: ignore[attr-defined]
    seen = weakref.ref(owner)
    memory = Memory(address, 512 << 10, owner)
    store = Store(path, memory=[memory])
    del memory, owner, buffer
    gc.collect()
    assert seen() is not None, "a store has this memory"
    store.submit_put([b"key"], [(address, 300_000)])
    store.close()
    store.drain("put")
    del store
    end = time.monotonic() + 20
    while seen() is not None:
        assert time.monotonic() < end, "nobody has this memory"
        gc.collect()
        time.sleep(0.01)


def test_a_buffer_in_use_cannot_be_resized(store: Store) -> None:
    memory = bytearray(4 << 20)
    task = store.submit_put([b"key"], [memory])
    with pytest.raises(BufferError):
        memory.extend(b"more")
    assert wait(store, "put", task).codes == [DONE]
    gc.collect()
    memory.extend(b"more")


def test_the_interpreter_is_free_while_the_store_works(store: Store) -> None:
    turns = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal turns
        while not stop.is_set():
            turns += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    for number in range(20):
        store.put(b"%d" % number, bytes(1 << 20))
        store.sync()
    stop.set()
    thread.join()
    assert turns > 100


PROGRAMS = {
    # Operations in flight, and memory that the interpreter frees.
    "in flight": """
store = raw_block.Store(path)
for number in range(200):
    store.submit_put([b"%d" % number], [bytes(60000)])
    store.submit_get([b"%d" % number], [bytearray(60000)])
""",
    # Threads that are in calls.
    "in calls": """
store = raw_block.Store(path)
def work():
    while True:
        store.put(b"key", bytes(60000))
        store.get(b"key")
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
""",
    # The store is part of a cycle, which is collected at the end or never.
    "cycle": """
store = raw_block.Store(path)
class Cycle: pass
cycle = Cycle()
cycle.self, cycle.store = cycle, store
store.put(b"key", b"value")
del store
""",
    # A fork that ends as any process does, and one that opens the store of its own.
    "fork": """
store = raw_block.Store(path)
store.submit_put([b"key"], [bytes(60000)])
child = os.fork()
if child == 0:
    try:
        store.put(b"key", b"other")
    except raw_block.Forked:
        sys.exit(7)
    sys.exit(8)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert store.get(b"key") == bytes(60000)
""",
    # Locks remember threads that wait for them, of which a fork has none: the process would crash.
    "own store of a fork amid a store": """
store = raw_block.Store(path)
raw_block.format(path + "2", bytes=32 << 20)
for number in range(50):
    store.submit_put([b"%d" % number], [bytes(60000)])
child = os.fork()
if child == 0:
    try:
        raw_block.Store(path + "2")
    except raw_block.Forked as why:
        sys.exit(7 if "spawn" in str(why) else 9)
    sys.exit(8)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
""",
    "own store of a fork": """
raw_block.format(path + "2", bytes=32 << 20)
with raw_block.Store(path) as store:
    store.put(b"key", b"value")
child = os.fork()
if child == 0:
    with raw_block.Store(path + "2") as own:
        own.put(b"key", b"own")
        assert own.get(b"key") == b"own"
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
""",
    "exit in a thread": """
store = raw_block.Store(path)
def work():
    store.put(b"key", b"value")
    store.submit_get([b"key"], [bytearray(5)])
thread = threading.Thread(target=work)
thread.start()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_exits_of_the_interpreter(path: str, name: str) -> None:
    program = f"import os, sys, threading, time, raw_block\npath = sys.argv[1]\n{PROGRAMS[name]}"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", program, path],
        timeout=60, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "panicked" not in done.stderr
    with Store(path) as store:
        assert store.recovery()["clean"]
        assert store.get(b"key") in (None, b"value", bytes(60000))


def test_descriptors_after_a_close(store: Store) -> None:
    fds = [store.put_fd, store.get_fd, store.event_fd]
    task = store.submit_put([b"key"], [b"value"])
    store.close()
    # They live as long as the object, so that a thread that polls them polls no other file.
    assert [store.put_fd, store.get_fd, store.event_fd] == fds
    select.select(fds, [], [], 0)
    (done,) = store.drain("put")
    assert done.id == task and done.codes[0] in (DONE, CLOSED)
    assert store.drain("put") == [] and store.poll_events() == []
    assert store.unlock([b"key"]) == 0
    for call in (lambda: store.get(b"key"), lambda: store.contains([b"key"]), lambda: store.lock([b"key"])):
        with pytest.raises(raw_block.Closed):
            call()


def test_reopening_many_times_leaves_nothing(path: str) -> None:
    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    for number in range(3):
        with Store(path) as store:
            store.put(b"%d" % number, b"value")
    del store
    before = counts()
    for number in range(30):
        with Store(path) as store:
            store.put(b"%d" % number, b"value")
            store.submit_get([b"%d" % number], [bytearray(5)])
        del store
    end = time.monotonic() + 20
    while any(now > then for now, then in zip(counts(), before)):
        assert time.monotonic() < end, f"{counts()} instead of {before}"
        time.sleep(0.05)
