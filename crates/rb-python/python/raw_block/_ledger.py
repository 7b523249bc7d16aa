"""In which order a host is told what became of its keys.

The store tells of evictions and of ended batches in two streams, not in the order in which they happened. A key may be
evicted before the batch has ended that stored it. The event of an eviction may arrive after the key was stored again.
What is told last about a key has to agree with the store nevertheless."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Name = TypeVar("Name")


@dataclass(frozen=True)
class Ended(Generic[Name]):
    """A batch of puts that has ended: its keys, how the host calls them, and which were stored with which length."""

    keys: Sequence[bytes]
    names: Sequence[Name]
    stored: Sequence[tuple[int, int]] | None  # (index, length); None: all, with `lengths`
    lengths: Sequence[int] = ()


@dataclass
class Step(Generic[Name]):
    """Names and sizes to tell together."""

    names: list[Name] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, name: Name, size: int) -> None:
        self.names.append(name)
        self.sizes.append(size)


class Ledger(Generic[Name]):
    """Holds back what was deleted while a put of the same key is under way, and decides then by asking the store.

    `settle` is called by one thread at a time."""

    def __init__(
        self,
        *,
        lengths_of: Callable[[list[bytes]], list[int]],
        size_of: Callable[[int], int],
        name_of: Callable[[bytes], Name | None],
    ) -> None:
        self._lengths_of = lengths_of
        self._size_of = size_of
        self._name_of = name_of
        self._lock = threading.Lock()
        self._puts: dict[bytes, int] = {}
        self._cancelled: list[Sequence[bytes]] = []
        # Sizes of what was deleted and not yet told, by key.
        self._held: dict[bytes, int] = {}

    def begin(self, keys: Sequence[bytes]) -> None:
        """A put of the keys begins. Called before the store knows of it."""
        begun = dict.fromkeys(keys, 1)
        with self._lock:
            puts = self._puts
            if len(begun) == len(keys) and puts.keys().isdisjoint(begun):
                puts.update(begun)
                return
            for key in keys:
                puts[key] = puts.get(key, 0) + 1

    def cancel(self, keys: Sequence[bytes]) -> None:
        """The store has refused a put that had begun. Takes effect with the next `settle`."""
        with self._lock:
            self._cancelled.append(keys)

    def keys_in_flight(self) -> list[bytes]:
        with self._lock:
            return list(self._puts)

    def settle(
        self, ended: Sequence[Ended[Name]], deleted: Sequence[tuple[bytes, int]]
    ) -> tuple[Step[Name], Step[Name], Step[Name]]:
        """Returns what to tell: what was stored, then what was deleted, then what was stored after that."""
        held = self._held
        for key, length in deleted:
            held[key] = held.get(key, 0) + self._size_of(length)
        with self._lock:
            for batch in ended:
                self._end(batch.keys)
            for keys in self._cancelled:
                self._end(keys)
            self._cancelled.clear()
        first: Step[Name] = Step()
        gone: Step[Name] = Step()
        last: Step[Name] = Step()
        present = self._due() if held else {}
        stored: dict[bytes, tuple[Name, int]] = {}
        for batch in ended:
            self._stored(batch, first, stored if present else None, present)
        for key, length in present.items():
            name, size = stored.get(key, (None, 0))
            if name is None:
                name = self._name_of(key)
            deleted_size = held.pop(key)
            if name is None:
                continue
            if length < 0:
                if key in stored:
                    first.add(name, size)
                gone.add(name, deleted_size)
                continue
            if key not in stored:
                # Stored again, and told, before the event of the deletion came: told once more, at no size.
                size = self._size_of(length)
                deleted_size += size
            gone.add(name, deleted_size)
            last.add(name, size)
        return first, gone, last

    def _end(self, keys: Sequence[bytes]) -> None:
        puts = self._puts
        for key in keys:
            count = puts[key]
            if count == 1:
                del puts[key]
            else:
                puts[key] = count - 1

    def _due(self) -> dict[bytes, int]:
        """Keys that were deleted and are not being put, with the length that the store has now, or -1."""
        keys = [key for key in self._held if key not in self._puts]
        lengths = self._lengths_of(keys) if keys else []
        # A put that began meanwhile may be what the store has seen: its end decides.
        return {key: length for key, length in zip(keys, lengths) if key not in self._puts}

    def _stored(
        self,
        batch: Ended[Name],
        first: Step[Name],
        stored: dict[bytes, tuple[Name, int]] | None,
        present: dict[bytes, int],
    ) -> None:
        """Adds what a batch has stored to the first step; the last put of a key that was deleted too, to `stored`."""
        size_of = self._size_of
        if stored is None and batch.stored is None:
            first.names.extend(batch.names)
            first.sizes.extend(map(size_of, batch.lengths))
            return
        pairs = enumerate(batch.lengths) if batch.stored is None else batch.stored
        for index, length in pairs:
            key, name, size = batch.keys[index], batch.names[index], size_of(length)
            if stored is not None and key in present:
                if key in stored:
                    first.add(*stored[key])
                stored[key] = (name, size)
            else:
                first.add(name, size)


class Outbox:
    """Calls that run one after the other in the order in which they were put, in whichever thread delivers.

    No lock of the caller's is held while they run, so that a listener may call back."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._owner: int | None = None

    def put(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def deliver(self, timeout: float = -1) -> None:
        """Runs the calls. If another thread does so, waits for it, so that all that was put before has run on return.

        Does not wait longer than `timeout`, nor within such a call; then the other one runs them."""
        if self._owner == threading.get_ident():
            return
        while self._calls or self._owner is not None:
            if not self._lock.acquire(timeout=timeout):
                return
            self._owner = threading.get_ident()
            try:
                while self._calls:
                    self._calls.popleft()()
            finally:
                self._owner = None
                self._lock.release()
