"""An L2 adapter for LMCache:

    {"type": "plugin", "module_path": "raw_block.lmcache", "class_name": "RawBlockAdapter",
     "adapter_params": {"path": "/dev/nvme1n1"}}
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from . import _native as native
from . import prometheus
from ._config import Config, open_store, parse
from ._failures import Failures
from ._garbage import paused
from ._ledger import Ended, Ledger, Outbox, Step
from ._lmcache_host import L2AdapterInterface, L2StoreResult, adopt, api, bitmap, check_batch, logger, spans_of
from ._lmcache_keys import LAYOUT_BYTES, KeyCodec, Layouts
from ._lmcache_listener import CatchingUp
from ._lmcache_listing import Listing
from ._pump import Pump

__all__ = ["RawBlockAdapter"]

# Who wrote the values. Changes with the form of keys and metadata.
_LABEL = b"lmcache 1"
# A page in the order of age looks at all entries.
_REPLAY_KEYS = 200_000
_CHARGES_MAX = 4096
_SECONDS_FOR_LISTENERS = 1.0
_IO_DEADLINE_MS_DEFAULT = 30_000

# Stores with batches that the device still had at close, and their objects: their memory must not be freed.
_abandoned: list[object] = []


class _Task(NamedTuple):
    id: int
    keys: list[bytes]
    names: list[Any]
    objects: list[Any]
    sizes: list[int]
    # Lengths that a load must have, -1 for any; None if the store checks them all, or none has to be checked.
    lengths: list[int] | None = None


class _Charges(dict[int, int]):
    """What values are charged, by their length."""

    def __init__(self, charge: Callable[[int], int]) -> None:
        super().__init__()
        self._charge = charge

    def __missing__(self, length: int) -> int:
        if len(self) >= _CHARGES_MAX:
            self.clear()
        charge = self[length] = self._charge(length)
        return charge


class RawBlockAdapter(L2AdapterInterface):  # type: ignore[misc]
    """Stores LMCache's objects in a raw-block store.

    Nothing here waits for the device: the store runs the batches, and one thread takes their ends, tells the listeners
    and signals LMCache.

    Two locks, `_order` before `_lock`. `_order` is held while what the store did is put into the order in which it is
    told; `_lock` guards the tables and is held for moments only. No listener is called under either."""

    def __init__(self, params: Mapping[str, Any] | Config, l1_memory_desc: Any = None) -> None:
        config = params if isinstance(params, Config) else parse(params, host="lmcache")
        memory, self._direct_off = adopt(config, l1_memory_desc)
        store = open_store(config, label=_LABEL, metadata_len_max=LAYOUT_BYTES, memory=memory)
        try:
            super().__init__(max_capacity_bytes=store.geometry()["capacity_bytes"])
            self._init(config, store)
        except BaseException:
            store.close()
            raise
        if self._direct_off is not None:
            logger.info("raw_block: values are copied: %s", self._direct_off)

    def _init(self, config: Config, store: native.Store) -> None:
        self._config = config
        self._store = store
        self._codec = KeyCodec()
        self._layouts = Layouts()
        self._charges = _Charges(self._charge)
        self._ledger: Ledger[Any] = Ledger(
            lengths_of=self._lengths_of, size_of=self._charges.__getitem__, name_of=self._codec.decode
        )
        self._outbox = Outbox()
        self._order = threading.Lock()
        self._lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._closing = False
        self._closed = False
        self._last_id = -1
        self._puts: dict[int, _Task] = {}
        self._gets: dict[int, _Task] = {}
        self._stored: dict[int, Any] = {}
        self._found: dict[int, Any] = {}
        self._loaded: dict[int, Any] = {}
        self._failures = Failures(logger)
        self._listing = Listing(store, self._codec)
        with paused():
            self._seed()
        self._fd_lock = threading.Lock()
        self._fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3)]
        self._pump = Pump("raw-block-pump", (store.put_fd, store.get_fd, store.event_fd), self._cycle)
        self._pump.start()
        if config.metrics:
            prometheus.export(store.uuid, store)

    # ---- Event descriptors ----

    def get_store_event_fd(self) -> int:
        return self._fds[0]

    def get_lookup_and_lock_event_fd(self) -> int:
        return self._fds[1]

    def get_load_event_fd(self) -> int:
        return self._fds[2]

    def _signal(self, which: int) -> None:
        # Under a lock, as after a close the number may be that of another descriptor.
        with self._fd_lock:
            if self._fds[which] >= 0:
                os.eventfd_write(self._fds[which], 1)

    # ---- Store ----

    def submit_store_task(self, keys: list[Any], objects: list[Any]) -> int:
        check_batch(keys, objects)
        encoded = self._codec.encode(keys)
        sizes, spans = spans_of(objects)
        layouts = self._layouts.of(objects)
        with self._lock:
            self._check_open()
            # Before the store knows: from here on, deletions of these keys wait for the end of the batch.
            self._ledger.begin(encoded)
            try:
                batch = self._store.submit_put(encoded, spans, metadata=layouts)
            except BaseException:
                self._ledger.cancel(encoded)
                self._pump.wake()
                raise
            task = _Task(self._next_id(), encoded, list(keys), list(objects), sizes)
            self._puts[batch] = task
        return task.id

    def pop_completed_store_tasks(self) -> dict[int, Any]:
        with self._lock:
            stored, self._stored = self._stored, {}
        return stored

    # ---- Lookup ----

    def submit_lookup_and_lock_task(self, keys: list[Any], *_: Any) -> int:
        """Answered at once: a lookup needs no device."""
        if not keys:
            raise ValueError("keys must be non-empty")
        lengths = self._store.lock(self._codec.encode(keys))
        found = bitmap(len(keys), [at for at, length in enumerate(lengths) if length >= 0])
        with self._lock:
            self._check_open()
            task = self._next_id()
            self._found[task] = found
        self._signal(1)
        return task

    def query_lookup_and_lock_result(self, task_id: int) -> Any:
        with self._lock:
            return self._found.pop(task_id, None)

    def submit_unlock(self, keys: list[Any]) -> None:
        self._store.unlock(self._codec.encode(keys))

    # ---- Load ----

    def submit_load_task(self, keys: list[Any], objects: list[Any]) -> int:
        check_batch(keys, objects)
        encoded = self._codec.encode(keys)
        sizes, spans = spans_of(objects)
        expect, loose = self._layouts.expected(objects)
        lengths = None
        if 0 < loose < len(objects):
            # The store takes all lengths or exact ones for a whole batch: in a mixed one, the exact are checked here.
            lengths = [-1 if layout is None else size for layout, size in zip(expect, sizes)]
        with self._lock:
            self._check_open()
            batch = self._store.submit_get(encoded, spans, expect=expect, exact=loose == 0)
            task = _Task(self._next_id(), encoded, list(keys), list(objects), sizes, lengths)
            self._gets[batch] = task
        return task.id

    def query_load_result(self, task_id: int) -> Any:
        with self._lock:
            return self._loaded.pop(task_id, None)

    # ---- What the store did ----

    def _cycle(self) -> None:
        """Takes what has ended: makes the results visible, tells the listeners, then signals LMCache."""
        puts: list[native.Done] = []
        gets: list[native.Done] = []
        try:
            with self._order:
                self._take(puts, gets)
            self._outbox.deliver()
        finally:
            # Whatever failed above: the results are there.
            if puts:
                self._signal(0)
            if gets:
                self._signal(2)

    def _take(self, puts: list[native.Done], gets: list[native.Done]) -> None:
        puts += self._store.drain("put")
        gets += self._store.drain("get")
        # After the drain: so an event is mostly there when the batch ends that it precedes.
        events = self._store.poll_events()
        with self._lock:
            put_tasks = [(self._puts.pop(done.id), done) for done in puts]
            get_tasks = [(self._gets.pop(done.id), done) for done in gets]
        ended = [self._put_ended(task, done) for task, done in put_tasks]
        loaded = [self._get_ended(task, done) for task, done in get_tasks]
        self._settle(ended, [(key, length) for _, key, length in events])
        for names in filter(None, loaded):
            self._outbox.put(partial(self._tell, self._notify_keys_accessed, names))

    def _put_ended(self, task: _Task, done: native.Done) -> Ended[Any]:
        codes, lengths = done.codes, done.lengths
        stored = None
        success = True
        total = sum(lengths)
        if any(codes):
            stored = [(at, lengths[at]) for at, code in enumerate(codes) if code == native.DONE]
            total = sum(length for _, length in stored)
            success = min(codes) >= 0
            if not success:
                self._failures.count("store", codes, task.sizes, done.error)
        with self._lock:
            self._stored[task.id] = L2StoreResult(success, total)
        return Ended(task.keys, task.names, stored, lengths)

    def _get_ended(self, task: _Task, done: native.Done) -> list[Any]:
        """Returns the keys that were loaded."""
        codes, names = done.codes, task.names
        if task.lengths is not None:
            for at, (wanted, length) in enumerate(zip(task.lengths, done.lengths)):
                if wanted >= 0 and codes[at] == native.DONE and length != wanted:
                    codes[at] = native.MISMATCH
        hits: Sequence[int] = range(len(names))
        if any(codes):
            self._failures.count("load", codes, task.sizes, done.error)
            hits = [at for at, code in enumerate(codes) if code == native.DONE]
            names = [names[at] for at in hits]
        loaded = bitmap(len(codes), hits)
        with self._lock:
            self._loaded[task.id] = loaded
        return names

    def _settle(self, ended: list[Ended[Any]], deleted: list[tuple[bytes, int]]) -> None:
        """Puts what was stored and deleted into the order in which it is told. Under `_order`."""
        first, gone, last = self._ledger.settle(ended, deleted)
        for notify, step in (
            (self._notify_keys_stored, first),
            (self._notify_keys_deleted, gone),
            (self._notify_keys_stored, last),
        ):
            if step.names:
                self._outbox.put(partial(self._tell, notify, step.names, step.sizes))

    def _tell(self, notify: Callable[..., None], *what: Any) -> None:
        try:
            notify(*what)
        except Exception:
            logger.exception("raw_block: a notification failed")

    def _lengths_of(self, keys: list[bytes]) -> list[int]:
        try:
            return self._store.lengths(keys)
        except native.Closed:
            return [-1] * len(keys)

    def _charge(self, length: int) -> int:
        return self._store.charge(length)

    # ---- Listeners and usage ----

    def register_listener(self, listener: Any) -> None:
        """Tells the listener of all keys there are, oldest first, and from then on of what happens."""
        catching_up = CatchingUp(listener, self._codec.encode)
        with self._order:
            super().register_listener(catching_up)
        with paused():
            self._tell_all(catching_up)

    def _tell_all(self, catching_up: CatchingUp) -> None:
        cursor: native.Cursor | None = None
        while True:
            # Under `_order`, so that a page is told exactly where it belongs among the notifications.
            with self._order:
                try:
                    keys, lengths, cursor = self._store.keys(cursor, _REPLAY_KEYS, order="oldest")
                except native.Closed:
                    return
                in_flight = set(self._ledger.keys_in_flight()) if cursor is None else None
                self._outbox.put(partial(self._replay, catching_up, keys, lengths, in_flight))
            self._outbox.deliver()
            if cursor is None:
                return

    def _replay(
        self, listener: CatchingUp, keys: list[bytes], lengths: list[int], in_flight: set[bytes] | None
    ) -> None:
        names = self._codec.decode_all(keys)
        if None in names:
            known = [at for at, name in enumerate(names) if name is not None]
            keys, names, lengths = [keys[at] for at in known], [names[at] for at in known], [lengths[at] for at in known]
        listener.page(keys, names, list(map(self._charges.__getitem__, lengths)), in_flight)

    def _seed(self) -> None:
        """Counts what was recovered."""
        salt_of, charge = self._codec.salt_of, self._charges.__getitem__
        pages: list[list[bytes]] = []
        counts: Counter[tuple[str | None, int]] = Counter()
        cursor: native.Cursor | None = None
        while True:
            keys, lengths, cursor = self._store.keys(cursor, _REPLAY_KEYS)
            counts.update(zip(self._codec.salts_of(keys), lengths))
            pages.append(keys)
            if cursor is None:
                break
        dropped = self._store.poll_events()
        if dropped:
            # By the validation meanwhile, before or after they were counted.
            counted = set(chain.from_iterable(pages))
            counts.subtract([(salt_of(key), length) for _, key, length in dropped if key in counted])
        by_salt: Counter[str] = Counter()
        for (salt, length), count in counts.items():
            if salt is not None:
                by_salt[salt] += count * charge(length)
        with self._usage_lock:
            self._total_bytes_used = sum(by_salt.values())
            self._bytes_by_cache_salt = {salt: size for salt, size in by_salt.items() if size > 0}

    def submit_touch(self, keys: list[Any]) -> None:
        present = self._store.touch(self._codec.encode(keys))
        names = [name for name, is_there in zip(keys, present) if is_there]
        if names:
            self._outbox.put(partial(self._tell, self._notify_keys_accessed, names))
            self._outbox.deliver(timeout=0)

    def delete(self, keys: list[Any]) -> None:
        """Removes keys, except those that are locked."""
        encoded = self._codec.encode(keys)
        with self._order:
            removed = self._store.remove(encoded, unless_locked=True)
            self._settle([], [(key, length) for key, length in zip(encoded, removed) if length >= 0])
        if -3 in removed:
            # Not an exception, which would end LMCache's thread.
            logger.warning("raw_block: %d of %d keys could not be removed", removed.count(-3), len(keys))
        # Bounded: the caller may hold a lock that a listener waits for in another thread.
        self._outbox.deliver(timeout=_SECONDS_FOR_LISTENERS)

    def list_l2_keys(self, model_name: str | None = None, page_size: int = 500, cursor: str | None = None) -> Any:
        return self._listing.page(model_name, page_size, cursor)

    if hasattr(api, "MemoryTags"):

        def get_memory_tags(self) -> Any:
            residency = api.MemoryResidency
            return api.MemoryTags(api.MemorySegment.STORAGE, residency.REMOTE if self._shared else residency.LOCAL)

    # ---- State ----

    def report_status(self) -> dict[str, Any]:
        status: dict[str, Any] = {"is_healthy": False, "type": "RawBlockAdapter", "closed": self._closing}
        try:
            health, stats = self._store.health(), self._store.stats()
            status.update(
                health,
                path=self._store.path,
                uuid=self._store.uuid,
                format_version=native.FORMAT_VERSION,
                version=native.VERSION,
                geometry=self._store.geometry(),
                recovery=self._store.recovery(),
                stats=stats,
            )
        except native.Error as error:
            status["reason"] = str(error)
            return status
        with self._lock:
            status.update(
                store_inflight_task_count=len(self._puts),
                load_inflight_task_count=len(self._gets),
                completed_store_task_count=len(self._stored),
                completed_lookup_task_count=len(self._found),
                completed_load_task_count=len(self._loaded),
            )
        direct_off = self._direct_off or health.get("direct_off")
        reason = health.get("reason") or self._why_unhealthy(health)
        status.update(
            is_healthy=reason is None,
            reason=reason,
            direct="on" if direct_off is None else f"off: {direct_off}",
            **self._failures.status(),
        )
        return status

    def _why_unhealthy(self, health: Mapping[str, Any]) -> str | None:
        if self._closing:
            return "the adapter is closed"
        if not self._pump.alive:
            return "the thread that takes results has ended"
        oldest = health.get("oldest_task_seconds") or 0.0
        deadline = (self._config.io_deadline_ms or _IO_DEADLINE_MS_DEFAULT) / 1000
        return f"a task has been running for {oldest:.0f} s" if oldest > deadline else None

    def _check_open(self) -> None:
        if self._closing:
            raise RuntimeError("RawBlockAdapter is closed")

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def close(self) -> None:
        """Waits for the tasks, tells of their ends, and releases the device. A second caller waits for the first.

        Raises RuntimeError at its end if the device still has tasks: LMCache frees no memory then."""
        if self._pump.is_current:
            raise RuntimeError("a listener cannot close the adapter that calls it")
        with self._close_lock:
            if self._closed:
                return
            with self._lock:
                self._closing = True
            try:
                self._store.close()
            except native.Error:
                logger.exception("raw_block: %s was not closed properly", self._store.path)
            self._pump.stop()
            prometheus.withdraw(self._store.uuid)
            left = [*self._puts.values(), *self._gets.values()]
            if left:
                _abandoned.append((self._store, left))
            with self._fd_lock:
                fds, self._fds = self._fds, [-1, -1, -1]
            for fd in fds:
                os.close(fd)
            self._closed = True
            if left:
                # The store looks at what arrives, however late: the memory has to stay mapped.
                raise RuntimeError(f"raw_block: the device still has {len(left)} tasks, which are never answered")

