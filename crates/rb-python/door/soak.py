"""Minutes of each engine's own controllers: random stores, loads, deletes and evictions, and kills with restarts.

Every byte that a load returns is compared with what was stored. At the end no byte was wrong, each request was answered,
usage is exact, and after each restart at least 99 % of what was on the device and was not evicted since is found."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from oracle import Children, Journal
from report import step

SHARE_MIN = 0.99
# After this time the store has been full.
MINUTES_TO_FILL = 2.0
# More than the store holds, so that it evicts.
KEYS = 1500
AT_ONCE = 6
CHECKED_MAX = 400


class Host(Protocol):
    """An engine. Keys are numbers here."""

    # Whether the engine deletes single objects.
    deletes: bool
    # Whether the engine's memory is mapped after its end.
    keeps_memory: bool
    # Whether several threads call the store.
    threads: bool
    # Bytes of an object.
    size: int

    def store(self, keys: list[int]) -> list[int]:
        """Stores objects, and returns the keys of those that are stored."""

    def load(self, keys: list[int]) -> tuple[list[int], int]:
        """Loads objects, and returns the keys of those that were found, and how many of these had wrong bytes."""

    def delete(self, keys: list[int]) -> None: ...

    def gone(self) -> Iterable[int]:
        """The keys that the store has evicted or dropped since the last call."""

    def sync(self) -> None: ...

    def health(self) -> bool:
        """Whether the engine is told that the store is healthy."""

    def memory(self) -> bytes:
        """The engine's memory."""

    def end(self) -> None: ...

    def close(self) -> bool:
        """Ends, and returns whether usage was exact."""


def host_of(name: str, path: Path, **params: Any) -> Host:
    if name == "lmcache":
        from soak_lmcache import Lmcache

        return Lmcache(path, **params)
    if name == "vllm":
        from soak_vllm import Vllm

        return Vllm(path, **params)
    from soak_sglang import Sglang

    return Sglang(path, **params)


def child(name: str, folder: Path, journal: Journal, turn: int, seconds: float) -> None:
    host = host_of(name, folder / "store")
    chance = random.Random(turn)
    wanted = json.loads((folder / "wanted.json").read_text())
    wrong = 0
    sample = chance.sample(wanted, min(len(wanted), CHECKED_MAX))
    hits = 0
    for at in range(0, len(sample), AT_ONCE):
        found, bad = host.load(sample[at : at + AT_ONCE])
        hits, wrong = hits + len(found), wrong + bad
    journal.say("found", [len(sample), hits])
    journal.say("ready", None)
    end = time.monotonic() + seconds
    said = 0.0
    counts = dict.fromkeys(("stored", "loaded", "missed", "deleted", "evicted"), 0)
    while time.monotonic() < end:
        keys = chance.sample(range(KEYS), chance.randint(1, AT_ONCE))
        kind = chance.random()
        if kind < 0.45:
            stored = host.store(keys)
            counts["stored"] += len(stored)
            journal.stored(stored)
        elif kind < 0.93 or not host.deletes:
            found, bad = host.load(keys)
            counts["loaded"] += len(found)
            counts["missed"] += len(keys) - len(found)
            wrong += bad
        else:
            # Said before it is done: a kill in between must not look like a loss.
            journal.say("gone", keys)
            journal.waiting = [(when, [key for key in each if key not in keys]) for when, each in journal.waiting]
            host.delete(keys)
            counts["deleted"] += len(keys)
        gone = set(host.gone())
        if gone:
            counts["evicted"] += len(gone)
            journal.waiting = [(when, [key for key in each if key not in gone]) for when, each in journal.waiting]
            journal.say("gone", sorted(gone))
        journal.tick()
        if time.monotonic() - said > 0.2:
            said = time.monotonic()
            journal.say("counts", {**counts, "wrong": wrong})
            counts, wrong = dict.fromkeys(counts, 0), 0
    journal.say("counts", {**counts, "wrong": wrong})
    journal.say("closed", {"exact": host.close()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True, choices=("lmcache", "vllm", "sglang"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    os.environ["LMCACHE_TRACK_USAGE"] = "false"
    importlib.import_module(f"soak_{options.host}")
    with step(f"{options.host}/soak") as running, tempfile.TemporaryDirectory() as folder:
        run = partial(child, options.host, Path(folder))
        children = Children(run, Path(folder), options.minutes * 60, options.kills)
        try:
            children.run()
        finally:
            totals: dict[str, Any] = {**children.totals.counts, "kills": options.kills, "share": round(children.share, 5)}
            running.figures = totals
            running.figure = (
                f"{options.minutes:g} min, {options.kills} kills: {totals.get('stored')} stored, {totals.get('loaded')} loaded,"
                f" {totals.get('evicted')} evicted, {totals.get('deleted')} deleted; {totals.get('wrong')} wrong;"
                f" {children.share:.2%} of {children.totals.expected} found after restarts"
            )
        assert children.totals.expected, "nothing was synced before a kill"
        assert children.share >= SHARE_MIN
        assert options.minutes < MINUTES_TO_FILL or totals.get("evicted"), "the store was never full"
    sys.stdout.flush()
    # An engine that was imported and not used may wait at the exit.
    os._exit(0)


if __name__ == "__main__":
    main()
