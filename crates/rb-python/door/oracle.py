"""The process that is killed, and the one that knows what it must hold.

A soak has a child, which drives an engine's controllers, and a parent, which kills and restarts it. The child writes a
line for each object that it has stored and whose time to be synced has passed, and for each that it deletes."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

# Stores are synced every 50 ms by default.
SYNCED_AFTER = 0.5


def value(key: int, size: int) -> bytes:
    """The bytes of an object: the same in each process, and other ones for each key."""
    return random.Random(key).randbytes(size)


@dataclass
class Journal:
    """What a child says, in a pipe, so that all of it arrives although the child is killed."""

    out: IO[str]
    waiting: list[tuple[float, list[int]]] = field(default_factory=list)

    def say(self, kind: str, what: Any) -> None:
        self.out.write(json.dumps([kind, what]) + "\n")

    def stored(self, keys: list[int]) -> None:
        self.waiting.append((time.monotonic(), keys))

    def tick(self) -> None:
        """Reports what was stored long enough ago to be on the device."""
        now = time.monotonic()
        while self.waiting and now - self.waiting[0][0] > SYNCED_AFTER:
            self.say("synced", self.waiting.pop(0)[1])


@dataclass
class Totals:
    """What all children of a soak have reported."""

    counts: dict[str, int] = field(default_factory=dict)
    expected: int = 0
    hit: int = 0

    def add(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


class Children:
    """Runs children one after another, each on the store that the last one left."""

    def __init__(self, child: Callable[[Journal, int, float], None], folder: Path, seconds: float, kills: int) -> None:
        self.child, self.folder, self.seconds, self.kills = child, folder, seconds, kills
        self.totals = Totals()
        # Keys that are on the device, unless they were evicted or deleted since.
        self.synced: set[int] = set()

    def run(self) -> None:
        for turn in range(self.kills + 1):
            last = turn == self.kills
            self._child(turn, self.seconds / (self.kills + 1), last)
        end = self.totals.counts
        assert end.get("wrong", 0) == 0, f"{end['wrong']} objects had wrong bytes"
        assert end.get("wedged", 0) == 0, f"{end['wedged']} requests were not answered"

    def _child(self, turn: int, seconds: float, last: bool) -> None:
        reader, writer = os.pipe()
        # What the child must find: what was synced, except what it is known to have lost since.
        wanted = self.folder / "wanted.json"
        wanted.write_text(json.dumps(sorted(self.synced)))
        # A fork, as the engine is imported here already, which takes longer than all else. No store was opened here.
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._run_child(writer, turn, seconds if last else float("inf"))
        os.close(writer)
        end = float("inf")
        closed = killed = False
        with os.fdopen(reader) as journal:
            # The time counts from when the child has found what it must.
            for line in journal:
                kind, what = json.loads(line)
                if kind == "ready":
                    end = time.monotonic() + seconds
                closed = self._said(kind, what) or closed
                if not last and not killed and time.monotonic() > end:
                    os.kill(child, signal.SIGKILL)
                    killed = True
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # A killed vLLM leaves its primary tier.
        for left in Path("/dev/shm").glob(f"vllm_offload_raw-block-{child}-*"):
            left.unlink()
        assert (closed and status == 0) if last else status == -signal.SIGKILL, f"a child has ended with {status}"

    def _run_child(self, writer: int, turn: int, seconds: float) -> None:
        try:
            self.child(Journal(os.fdopen(writer, "w", buffering=1)), turn, seconds)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)

    def _said(self, kind: str, what: Any) -> bool:
        if kind == "synced":
            self.synced.update(what)
        elif kind == "gone":
            self.synced.difference_update(what)
        elif kind == "counts":
            self.totals.add(what)
        elif kind == "found":
            self.totals.expected += what[0]
            self.totals.hit += what[1]
        elif kind == "closed":
            assert what["exact"], f"usage is not exact at the end: {what}"
            return True
        return False

    @property
    def share(self) -> float:
        return self.totals.hit / max(1, self.totals.expected)
