"""SGLang in the soak: its HiCache storage, made by its own factory, with pages of its own memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oracle import value
from test_sglang_hicache import Pool, attach, hashes

PARTS = 2
# As many as the soak has.
KEYS = 1500


class Sglang:
    # SGLang deletes all pages or none.
    deletes = False
    keeps_memory = True
    threads = True

    def __init__(self, path: Path, **params: Any) -> None:
        self.pool = Pool(PARTS)
        self.size = PARTS * self.pool.part_bytes
        self.backend = attach(str(path), self.pool, extra={"bytes": "256MiB", "slot_bytes": "256KiB", **params})
        # Pages of the processes before are evicted, too.
        self.known = set(range(KEYS))
        self.gone()

    def store(self, keys: list[int]) -> list[int]:
        for page, key in enumerate(keys):
            self.pool.write(page, value(key, self.size))
        done = self.backend.batch_set_v1(hashes(*keys), self.pool.indices(*range(len(keys))))
        stored = [key for key, ok in zip(keys, done) if ok]
        self.known.update(stored)
        return stored

    def load(self, keys: list[int]) -> tuple[list[int], int]:
        self.pool.kv_buffer.zero_()
        done = self.backend.batch_get_v1(hashes(*keys), self.pool.indices(*range(len(keys))))
        found, wrong = [], 0
        for page, (key, ok) in enumerate(zip(keys, done)):
            if ok:
                found.append(key)
                wrong += self.pool.read(page) != value(key, self.size)
        self.known.update(found)
        return found, wrong

    def delete(self, keys: list[int]) -> None:
        raise NotImplementedError

    def gone(self) -> Iterable[int]:
        # SGLang is not told of evictions. A page of which one part is gone is gone.
        known = list(self.known)
        pages = self.backend._pages["kv"]
        here = pages.whole(self.backend._opened().contains(pages.keys(hashes(*known))))
        gone = [key for key, is_here in zip(known, here) if not is_here]
        self.known.difference_update(gone)
        return gone

    def sync(self) -> None:
        self.backend._opened().sync()

    def health(self) -> bool:
        # SGLang has no health of a backend. This is what `rb stats` and the metrics say.
        return bool(self.backend._opened().health()["healthy"])

    def memory(self) -> bytes:
        return bytes(self.pool.kv_buffer.numpy())

    def end(self) -> None:
        self.backend.close()

    def close(self) -> bool:
        store = self.backend._opened()
        store.sync()
        entries, _ = store.list(None, 1_000_000)
        # A part fills a slot.
        live = sum(each["live"] for each in store.stats()["index"]["classes"])
        exact = live == len(entries) and all(length == self.size // PARTS for _, length, _ in entries)
        self.backend.close()
        return bool(exact)
