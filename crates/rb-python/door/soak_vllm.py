"""vLLM in the soak: its tiering manager, made by its own spec and factory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oracle import value
from test_vllm_tier import CHUNK, Engine, keys_of
from vllm.v1.kv_offload.base import LookupResult, Medium

KEYS = 1500


class Vllm:
    # vLLM deletes nothing from a tier.
    deletes = False
    # The scheduler's thread alone calls it.
    keeps_memory = True
    threads = False
    size = CHUNK

    def __init__(self, path: Path, **params: Any) -> None:
        params = {"bytes": "256MiB", "slot_bytes": "256KiB", **params}
        self.engine = Engine(str(path), enable_kv_events=True, **params)
        self.numbers = dict(zip(keys_of(*range(KEYS)), range(KEYS)))
        self.told = set(self._listed())

    def _listed(self) -> list[int]:
        tier = self.engine.tier
        entries, _ = tier._store.list(None, 1_000_000)
        return [self.numbers[tier._name_of(key)] for key, _, _ in entries]

    def store(self, keys: list[int]) -> list[int]:
        # Out of the primary tier, so that vLLM stores them.
        self.engine.forget()
        names = keys_of(*keys)
        self.engine.store({name: value(key, CHUNK) for name, key in zip(names, keys)})
        request = self.engine.request()
        tier = self.engine.tier
        return [key for name, key in zip(names, keys) if tier.lookup(name, request) is LookupResult.HIT]

    def load(self, keys: list[int]) -> tuple[list[int], int]:
        self.engine.forget()
        loaded = self.engine.load(keys_of(*keys))
        found = [(key, data) for key, data in zip(keys, loaded.values()) if data is not None]
        return [key for key, _ in found], sum(data != value(key, CHUNK) for key, data in found)

    def delete(self, keys: list[int]) -> None:
        raise NotImplementedError

    def gone(self) -> Iterable[int]:
        gone = []
        events, self.engine.events = self.engine.events, []
        for event in events:
            if event.medium is not Medium.STORAGE:
                continue
            numbers = [self.numbers[key] for key in event.keys]
            if event.removed:
                gone += numbers
                self.told.difference_update(numbers)
            else:
                self.told.update(numbers)
        return gone

    def sync(self) -> None:
        self.engine.tier._store.sync()

    def health(self) -> bool:
        # vLLM has no health of a tier: it stops being asked. This is what `rb stats` and the metrics say.
        return bool(self.engine.tier._store.health()["healthy"])

    def memory(self) -> bytes:
        return bytes(self.engine.view)

    def end(self) -> None:
        self.engine.close()

    def close(self) -> bool:
        self.engine.settle()
        list(self.gone())
        exact = self.told == set(self._listed())
        self.engine.close()
        return exact
