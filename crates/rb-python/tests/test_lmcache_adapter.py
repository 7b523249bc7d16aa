"""The adapter as LMCache drives it."""

from __future__ import annotations

import json
import logging
import random
import select
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch, which lmcache needs")
pytest.importorskip("lmcache.v1.distributed.l2_adapters.base", reason="needs lmcache")

import torch
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.internal_api import L1MemoryDesc, L2AdapterListener
from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj

import raw_block
from raw_block._config import parse
from raw_block._lmcache_host import adopt
from raw_block._lmcache_keys import KeyCodec, Layouts
from raw_block._lmcache_listener import CatchingUp
from raw_block.lmcache import RawBlockAdapter

SLOT = 64 << 10
BYTES = 32 << 20


def key(number: int, model: str = "model", salt: str = "", group: int = 0) -> ObjectKey:
    return ObjectKey(number.to_bytes(32, "big"), model, 0x0102_0304, group, salt)


def obj(fill: float = 0.0, count: int = 1000, dtype: torch.dtype = torch.float32) -> TensorMemoryObj:
    data = torch.full((count,), fill, dtype=dtype)
    size = count * dtype.itemsize
    meta = MemoryObjMetadata(torch.Size([count]), dtype, 0, size, 1, fmt=MemoryFormat.KV_2LTD)
    return TensorMemoryObj(data.view(torch.uint8), meta, parent_allocator=None)


class Listener(L2AdapterListener):  # type: ignore[misc]
    """What a listener believes is stored, and how it came to that."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[ObjectKey]]] = []
        self.sizes: dict[ObjectKey, int] = {}
        self.twice: list[ObjectKey] = []

    def on_l2_keys_stored(self, keys: Sequence[ObjectKey], sizes: Sequence[int]) -> None:
        self.calls.append(("stored", list(keys)))
        for one, size in zip(keys, sizes, strict=True):
            if one in self.sizes:
                self.twice.append(one)
            self.sizes[one] = size

    def on_l2_keys_accessed(self, keys: Sequence[ObjectKey]) -> None:
        self.calls.append(("accessed", list(keys)))

    def on_l2_keys_deleted(self, keys: Sequence[ObjectKey]) -> None:
        self.calls.append(("deleted", list(keys)))
        for one in keys:
            self.sizes.pop(one, None)


class Failing(L2AdapterListener):  # type: ignore[misc]
    def on_l2_keys_stored(self, keys: Sequence[ObjectKey], sizes: Sequence[int]) -> None:
        raise RuntimeError("stored")

    def on_l2_keys_accessed(self, keys: Sequence[ObjectKey]) -> None:
        raise RuntimeError("accessed")

    def on_l2_keys_deleted(self, keys: Sequence[ObjectKey]) -> None:
        raise RuntimeError("deleted")


def open_adapter(path: Path, **more: Any) -> RawBlockAdapter:
    return RawBlockAdapter({"path": str(path), "bytes": BYTES, "slot_bytes": SLOT, **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def adapter(path: Path) -> Iterator[RawBlockAdapter]:
    adapter = open_adapter(path)
    yield adapter
    adapter.close()


def readable(fd: int, seconds: float = 10.0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_for(answer: Any, seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while (found := answer()) is None:
        assert time.monotonic() < end, "no answer"
        time.sleep(0.001)
    return found


def store(adapter: RawBlockAdapter, keys: list[ObjectKey], objects: list[Any]) -> Any:
    task = adapter.submit_store_task(keys, objects)
    done: dict[int, Any] = {}

    def popped() -> Any:
        done.update(adapter.pop_completed_store_tasks())
        return done.get(task)

    result = wait_for(popped)
    rest(adapter)
    return result


def load(adapter: RawBlockAdapter, keys: list[ObjectKey], objects: list[Any]) -> list[int]:
    task = adapter.submit_load_task(keys, objects)
    found = wait_for(lambda: adapter.query_load_result(task))
    rest(adapter)
    return list(found.get_indices_list())


def lookup(adapter: RawBlockAdapter, keys: list[ObjectKey]) -> list[int]:
    found = adapter.query_lookup_and_lock_result(adapter.submit_lookup_and_lock_task(keys, {}))
    return list(found.get_indices_list())


def rest(adapter: RawBlockAdapter) -> None:
    """Waits until the listeners know all."""
    adapter._pump.wake()
    time.sleep(0.002)
    with adapter._order:
        pass
    adapter._outbox.deliver()


def slots_of(adapter: RawBlockAdapter) -> int:
    return int(adapter.get_usage().total_capacity_bytes // adapter._store.charge(1))


def truth(adapter: RawBlockAdapter) -> dict[ObjectKey, int]:
    entries, cursor = adapter._store.list(None, 1_000_000)
    assert cursor is None
    return {adapter._codec.decode(each): adapter._store.charge(length) for each, length, _ in entries}


def assert_exact(adapter: RawBlockAdapter, *listeners: Listener) -> None:
    kept = truth(adapter)
    usage = adapter.get_usage()
    assert usage.total_bytes_used == sum(kept.values())
    by_salt: Counter[str] = Counter()
    for one, size in kept.items():
        by_salt[one.cache_salt] += size
    assert dict(usage.bytes_by_cache_salt) == dict(by_salt)
    for listener in listeners:
        assert listener.sizes == kept


# ---- Keys and layouts ----


@pytest.mark.parametrize("one", [key(1), key(2, "org/mödel", "user:1", 7), ObjectKey(b"", "", 0xFFFF_FFFF)])
def test_keys_are_reversible(one: ObjectKey) -> None:
    codec = KeyCodec()
    (encoded,) = codec.encode([one])
    assert codec.decode(encoded) == one
    assert codec.salt_of(encoded) == one.cache_salt
    others = [key(3), one, key(4, "model", "salt"), one, key(5)]
    encoded_all = codec.encode(others)
    junk = [b"", encoded_all[0][:-1]]
    assert codec.decode_all([*encoded_all, *junk, *encoded_all]) == [*others, None, None, *others]
    assert list(codec.salts_of([*junk, *encoded_all])) == [None, None, *(each.cache_salt for each in others)]


def test_a_key_without_a_form_fails_alone(adapter: RawBlockAdapter) -> None:
    bad = ObjectKey(b"x" * 32, "model", 1 << 40)
    assert KeyCodec().encode([key(1), bad])[1] == b""
    assert not store(adapter, [key(1), bad], [obj(), obj()]).is_successful()
    assert lookup(adapter, [key(1), bad]) == [0]


@pytest.mark.parametrize(
    "junk",
    [b"", b"\x01", b"\x02" + bytes(20), b"\x01" + bytes(8) + b"\xff", b"\x01" + bytes(9) + b"\x09\x00x"],
)
def test_junk_is_no_key(junk: bytes) -> None:
    assert KeyCodec().decode(junk) is None


def test_layouts_tell_apart_what_must_not_be_mixed() -> None:
    hashes = Layouts().of([obj(), obj(), obj(count=999), obj(dtype=torch.int32), obj(dtype=torch.uint8)])
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
    assert hashes[4] == bytes(8)


# ---- Tasks ----


def test_round_trip(adapter: RawBlockAdapter) -> None:
    assert store(adapter, [key(1), key(3)], [obj(1.0), obj(3.0)]).bytes_transferred() == 8000
    assert lookup(adapter, [key(1), key(2), key(3)]) == [0, 2]
    targets = [obj(), obj(), obj()]
    assert load(adapter, [key(1), key(2), key(3)], targets) == [0, 2]
    assert [float(target.tensor[999]) for target in targets] == [1.0, 0.0, 3.0]
    adapter.submit_unlock([key(1), key(2), key(3)])
    adapter.submit_unlock([key(1)])


def test_results_are_popped_once(adapter: RawBlockAdapter) -> None:
    store(adapter, [key(1)], [obj()])
    assert adapter.pop_completed_store_tasks() == {}
    task = adapter.submit_lookup_and_lock_task([key(1)])
    assert adapter.query_lookup_and_lock_result(task) is not None
    assert adapter.query_lookup_and_lock_result(task) is None
    assert adapter.query_load_result(99_999) is None


def test_listeners_know_before_the_descriptor_is_readable(adapter: RawBlockAdapter) -> None:
    listener = Listener()
    adapter.register_listener(listener)
    task = adapter.submit_store_task([key(1)], [obj()])
    assert readable(adapter.get_store_event_fd())
    assert listener.calls == [("stored", [key(1)])]
    assert task in adapter.pop_completed_store_tasks()
    task = adapter.submit_load_task([key(1), key(2)], [obj(), obj()])
    assert readable(adapter.get_load_event_fd())
    assert listener.calls[1:] == [("accessed", [key(1)])]
    assert adapter.query_load_result(task) is not None
    adapter.submit_lookup_and_lock_task([key(1)])
    assert readable(adapter.get_lookup_and_lock_event_fd())


def test_bad_batches(adapter: RawBlockAdapter) -> None:
    for submit in (adapter.submit_store_task, adapter.submit_load_task):
        with pytest.raises(ValueError):
            submit([], [])
        with pytest.raises(ValueError):
            submit([key(1)], [obj(), obj()])
    with pytest.raises(ValueError):
        adapter.submit_lookup_and_lock_task([])


def test_an_existing_key_is_kept_and_not_told_again(adapter: RawBlockAdapter) -> None:
    listener = Listener()
    adapter.register_listener(listener)
    store(adapter, [key(1)], [obj(1.0)])
    again = store(adapter, [key(1)], [obj(2.0)])
    assert again.is_successful() and again.bytes_transferred() == 0
    assert listener.calls == [("stored", [key(1)])]
    target = obj()
    assert load(adapter, [key(1)], [target]) == [0]
    assert float(target.tensor[0]) == 1.0


def test_another_layout_is_a_miss(adapter: RawBlockAdapter) -> None:
    store(adapter, [key(1)], [obj(1.0)])
    assert load(adapter, [key(1)], [obj(0, dtype=torch.int32)]) == []
    assert adapter.report_status()["failures"] == {"load_mismatch": 1}


def test_plain_bytes_may_be_shorter_than_their_memory(adapter: RawBlockAdapter) -> None:
    store(adapter, [key(1), key(2)], [obj(7, 100, torch.uint8), obj(2.0)])
    short, long, exact = obj(0, 99, torch.uint8), obj(0, 200, torch.uint8), obj()
    assert load(adapter, [key(1)], [short]) == []
    assert int(short.tensor.sum()) == 0
    # A mixed batch: bounds for some, exact lengths for others.
    assert load(adapter, [key(1), key(2), key(2)], [long, exact, obj(count=2000)]) == [0, 1]
    assert long.tensor[:100].eq(7).all() and long.tensor[100:].eq(0).all()


def test_too_large_fails_alone_and_warns_once(adapter: RawBlockAdapter, caplog: pytest.LogCaptureFixture) -> None:
    count = BYTES // 4 + 1
    with caplog.at_level(logging.WARNING, logger="lmcache.raw_block"):
        for _ in range(2):
            assert not store(adapter, [key(1), key(2)], [obj(count=count), obj()]).is_successful()
    assert lookup(adapter, [key(1), key(2)]) == [1]
    assert adapter.report_status()["unplaceable_sizes"] == {4 * count: 2}
    assert len([record for record in caplog.records if str(4 * count) in record.getMessage()]) == 1


# ---- Deleting, evicting, usage ----


def test_delete_spares_what_is_locked(adapter: RawBlockAdapter) -> None:
    listener = Listener()
    adapter.register_listener(listener)
    store(adapter, [key(1)], [obj()])
    assert lookup(adapter, [key(1)]) == [0]
    adapter.delete([key(1), key(2)])
    assert_exact(adapter, listener)
    assert key(1) in listener.sizes
    adapter.submit_unlock([key(1)])
    adapter.delete([key(1), key(2)])
    assert listener.calls[-1] == ("deleted", [key(1)])
    assert_exact(adapter, listener)
    assert adapter.get_usage().total_bytes_used == 0


def test_evictions_are_told_and_counted(adapter: RawBlockAdapter) -> None:
    listener = Listener()
    adapter.register_listener(listener)
    slots = slots_of(adapter)
    for start in range(0, 2 * slots, 16):
        numbers = range(start, start + 16)
        assert store(adapter, [key(n, salt=str(n % 3)) for n in numbers], [obj(n) for n in numbers]).is_successful()
    rest(adapter)
    assert_exact(adapter, listener)
    assert any(kind == "deleted" for kind, _ in listener.calls)
    assert not listener.twice
    assert 0.0 < adapter.get_usage().usage_fraction <= 1.0


def test_touch(adapter: RawBlockAdapter) -> None:
    listener = Listener()
    adapter.register_listener(listener)
    store(adapter, [key(1)], [obj()])
    adapter.submit_touch([key(1), key(2)])
    assert listener.calls[-1] == ("accessed", [key(1)])


def test_a_listener_that_fails_stops_nothing(adapter: RawBlockAdapter) -> None:
    listener = Listener()
    adapter.register_listener(Failing())
    adapter.register_listener(listener)
    assert store(adapter, [key(1)], [obj()]).is_successful()
    assert load(adapter, [key(1)], [obj()]) == [0]
    adapter.delete([key(1)])
    assert [kind for kind, _ in listener.calls] == ["stored", "accessed", "deleted"]


def test_a_listener_may_call_the_adapter(adapter: RawBlockAdapter) -> None:
    class Deleting(Listener):
        def on_l2_keys_stored(self, keys: Sequence[ObjectKey], sizes: Sequence[int]) -> None:
            super().on_l2_keys_stored(keys, sizes)
            adapter.delete(list(keys))

    first, second = Deleting(), Listener()
    adapter.register_listener(first)
    adapter.register_listener(second)
    store(adapter, [key(1)], [obj()])
    rest(adapter)
    assert [kind for kind, _ in second.calls] == ["stored", "deleted"]
    assert_exact(adapter, first, second)


# ---- Restart ----


def test_recovered_keys_are_counted_and_told_oldest_first(path: Path) -> None:
    first = open_adapter(path)
    for number in range(20):
        store(first, [key(number, salt=str(number % 2))], [obj(number)])
    first.close()
    second = open_adapter(path)
    try:
        assert_exact(second)
        listener = Listener()
        second.register_listener(listener)
        assert [int.from_bytes(one.chunk_hash, "big") for one in listener.sizes] == list(range(20))
        assert_exact(second, listener)
        target = obj()
        assert load(second, [key(5, salt="1")], [target]) == [0]
        assert float(target.tensor[0]) == 5.0
    finally:
        second.close()


def test_a_key_is_told_once_though_it_is_in_a_page_and_told() -> None:
    told = Listener()
    listener = CatchingUp(told, lambda keys: [key.encode() for key in keys])
    listener.on_l2_keys_deleted(["a"])  # not yet told of it
    listener.on_l2_keys_stored(["b"], [1])
    listener.page([b"a", b"b", b"c"], ["a", "b", "c"], [1, 1, 1], None)
    listener.on_l2_keys_stored(["c"], [1])
    listener.page([b"d"], ["d"], [1], {b"a"})
    listener.on_l2_keys_stored(["a"], [1])  # its put was under way
    listener.on_l2_keys_deleted(["a", "b"])
    listener.on_l2_keys_stored(["a"], [1])
    assert told.calls == [
        ("stored", ["b"]),
        ("stored", ["a", "c"]),
        ("stored", ["d"]),
        ("deleted", ["a", "b"]),
        ("stored", ["a"]),
    ]


# ---- Listing, state, opening ----


def test_pages_of_keys(adapter: RawBlockAdapter) -> None:
    keys = [key(number, f"model{number % 2}") for number in range(30)]
    store(adapter, keys, [obj() for _ in keys])
    found, token = [], None
    while True:
        page = adapter.list_l2_keys("model1", 4, token)
        assert len(page.entries) <= 4
        found += [entry.key.to_object_key() for entry in page.entries]
        assert all(entry.size_bytes == 4000 for entry in page.entries)
        token = page.next_page_token
        if token is None:
            break
    assert sorted(found, key=repr) == sorted(keys[1::2], key=repr)
    with pytest.raises(ValueError):
        adapter.list_l2_keys(page_size=0)
    with pytest.raises(ValueError):
        adapter.list_l2_keys(cursor="nonsense")


def test_status(adapter: RawBlockAdapter) -> None:
    store(adapter, [key(1)], [obj()])
    status = adapter.report_status()
    json.dumps(status)
    assert status["is_healthy"] and status["reason"] is None
    assert status["direct"].startswith("off: ")
    assert status["uuid"] and status["engine"]
    adapter.close()
    assert not adapter.report_status()["is_healthy"]


def test_tags(adapter: RawBlockAdapter) -> None:
    if not hasattr(adapter, "get_memory_tags"):
        pytest.skip("this lmcache has no tags")
    assert adapter.get_memory_tags().residency.value == "local"
    adapter.set_backend_identity("plugin", shared=True)
    assert adapter.get_memory_tags().residency.value == "remote"


def test_whole_pages_of_the_memory_are_adopted() -> None:
    memory = torch.empty(64 << 10, dtype=torch.uint8)
    begin = memory.data_ptr() + 1
    (adopted,), why = adopt(parse({"path": "x"}, host="test"), L1MemoryDesc(begin, 60 << 10, 4096))
    assert why is None
    assert adopted.address % 4096 == 0 and adopted.length % 4096 == 0
    assert begin <= adopted.address and adopted.address + adopted.length <= begin + (60 << 10)


def test_why_nothing_is_adopted() -> None:
    auto = parse({"path": "x"}, host="test")
    for desc in (None, L1MemoryDesc(4096, 1 << 20, 64)):
        memory, why = adopt(auto, desc)
        assert not memory and why
        with pytest.raises(ValueError, match="require"):
            adopt(parse({"path": "x", "direct": "require"}, host="test"), desc)


def test_loads_as_a_plugin(path: Path) -> None:
    from lmcache.v1.distributed.l2_adapters.plugin_l2_adapter import PluginL2AdapterConfig, _create_plugin_adapter

    spec = {
        "module_path": "raw_block.lmcache",
        "class_name": "RawBlockAdapter",
        "adapter_params": {"path": str(path), "bytes": BYTES, "slot_bytes": SLOT},
    }
    adapter = _create_plugin_adapter(PluginL2AdapterConfig.from_dict(spec))
    try:
        assert isinstance(adapter, RawBlockAdapter)
        assert adapter.supports_global_eviction
    finally:
        adapter.close()


# ---- Close ----


def test_close_ends_everything_and_frees_the_device(path: Path) -> None:
    adapter = open_adapter(path)
    threads_before = threading.active_count()
    tasks = [adapter.submit_store_task([key(n)], [obj(n)]) for n in range(50)]
    closers = [threading.Thread(target=adapter.close) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(30)
        assert not closer.is_alive()
    adapter.close()
    assert threading.active_count() < threads_before
    assert set(adapter.pop_completed_store_tasks()) == set(tasks)
    assert adapter.get_store_event_fd() == -1
    for submit in (adapter.submit_store_task, adapter.submit_load_task):
        with pytest.raises(RuntimeError):
            submit([key(1)], [obj()])
    with pytest.raises(RuntimeError):
        adapter.submit_lookup_and_lock_task([key(1)])
    adapter.submit_unlock([key(1)])
    open_adapter(path).close()


def test_a_failed_opening_leaves_nothing(path: Path) -> None:
    first = open_adapter(path)
    with pytest.raises(raw_block.InUse):
        open_adapter(path)
    first.close()
    open_adapter(path).close()


# ---- All at once ----


def test_listeners_that_come_while_keys_are_stored_are_told_each_once(adapter: RawBlockAdapter) -> None:
    slots = slots_of(adapter)
    keys = [key(number) for number in range(slots * 3 // 4)]
    buffer, listeners = obj(), []
    for start in range(0, len(keys), 4):
        adapter.submit_store_task(keys[start : start + 4], [buffer] * len(keys[start : start + 4]))
        listeners.append(Listener())
        adapter.register_listener(listeners[-1])
    wait_for(lambda: None if adapter._puts else True)
    rest(adapter)
    assert len(adapter.pop_completed_store_tasks()) == len(listeners)
    assert not any(listener.twice for listener in listeners)
    assert_exact(adapter, *listeners)


@pytest.mark.parametrize("seed", range(3))
def test_the_last_notification_agrees_with_the_store(path: Path, seed: int) -> None:
    adapter = open_adapter(path)
    slots = slots_of(adapter)
    names = [key(number, salt=str(number % 3)) for number in range(slots * 5 // 4)]
    listeners = [Listener()]
    adapter.register_listener(listeners[0])
    end = time.monotonic() + 1.5
    failures: list[BaseException] = []

    def work(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        buffers = [obj(n, 100 * (1 + n % 3)) for n in range(24)]
        waiting: set[int] = set()
        while time.monotonic() < end:
            keys = rng.sample(names, rng.randint(1, len(buffers)))
            kind = rng.random()
            if kind < 0.5:
                adapter.submit_store_task(keys, buffers[: len(keys)])
            elif kind < 0.7:
                adapter.delete(keys)
            elif kind < 0.85:
                adapter.submit_lookup_and_lock_task(keys)
                adapter.submit_unlock(keys)
            else:
                waiting.add(adapter.submit_load_task(keys, [obj(count=300) for _ in keys]))
            waiting = {task for task in waiting if adapter.query_load_result(task) is None}
            time.sleep(rng.random() * 0.002)

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        late = Listener()
        adapter.register_listener(late)
        listeners.append(late)
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert not failures
    wait_for(lambda: None if adapter._puts or adapter._gets else True)
    for _ in range(5):
        rest(adapter)
        time.sleep(0.01)
    assert not adapter._ledger.keys_in_flight()
    assert not adapter._ledger._held
    assert_exact(adapter, *listeners)
    adapter.close()
    again = open_adapter(path)
    assert_exact(again)
    again.close()
