"""Faults of the device under each engine: what is damaged is a miss, what fails is not stored, and requests go on.

The engines are driven as in the soak."""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import pytest
from oracle import value
from report import Skip, step
from soak import host_of

AT_ONCE = 6
STORE_BYTES = 64 << 20
DEADLINE = 1.0
# A deadline is looked at once a second.
UNHEALTHY_MAX = DEADLINE + 2.0
AT_ONCE_SECONDS = 1.0
CLOSE_SECONDS = 30.0


def store_all(host: Any, keys: list[int]) -> list[int]:
    return [key for at in range(0, len(keys), AT_ONCE) for key in host.store(keys[at : at + AT_ONCE])]


def load_all(host: Any, keys: list[int]) -> list[int]:
    """Returns the keys that were found. None may have wrong bytes."""
    found: list[int] = []
    for at in range(0, len(keys), AT_ONCE):
        here, wrong = host.load(keys[at : at + AT_ONCE])
        assert wrong == 0, f"{wrong} objects have wrong bytes"
        found += here
    return found


def flip(file: Path, key: int, size: int) -> None:
    """Changes a byte in the middle of an object on the device."""
    # An object may be in several parts, of which this finds the first.
    begin = value(key, size)[:64]
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as image:
        at = image.find(begin)
        assert at >= 0 and image.find(begin, at + 1) < 0
        image[at + 20_000] ^= 1
        image.flush()


def flipped(host: Any, file: Path) -> str:
    keys = list(range(2 * AT_ONCE))
    assert store_all(host, keys) == keys
    damaged = [2, 9]
    for key in damaged:
        flip(file, key, host.size)
    whole = [key for key in keys if key not in damaged]
    assert load_all(host, keys) == whole
    # Stored again like any that is not there.
    assert store_all(host, damaged) == damaged and load_all(host, keys) == keys
    return f"{len(damaged)} of {len(keys)} objects damaged: misses, {len(whole)} hits; stored again"


def full(host: Any, file: Path) -> str:
    # Twice what fits.
    keys = list(range(2 * STORE_BYTES // host.size))
    for at in range(0, len(keys), AT_ONCE):
        batch = keys[at : at + AT_ONCE]
        assert store_all(host, batch) == batch and load_all(host, batch) == batch
    gone = len(set(host.gone()))
    found = load_all(host, keys)
    assert len(keys) > len(found) > 0 and gone >= len(keys) - len(found)
    return f"{len(keys)} objects stored and found, {gone} evicted"


@contextmanager
def no_writes_behind(offset: int) -> Iterator[None]:
    """Lets writes fail whose place in a file is behind an offset, as those to a part of a drive that has failed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (offset, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def halfway(host: Any, file: Path) -> str:
    """Writes to the second half of the file fail, in the middle of a batch."""
    keys = list(range(STORE_BYTES // host.size * 4 // 5))
    with no_writes_behind(STORE_BYTES // 2):
        stored = store_all(host, keys)
        failed = [key for key in keys if key not in stored]
        assert stored and failed, f"{len(stored)} of {len(keys)} were stored"
        # What failed is a miss, and what is there is served on.
        assert load_all(host, failed) == []
        assert load_all(host, stored) == stored
    again = failed[:AT_ONCE]
    assert store_all(host, again) == again and load_all(host, again) == again
    return f"{len(failed)} of {len(keys)} stores failed: misses; {len(stored)} found; the device mended, stores go on"


def unreadable(host: Any, file: Path) -> str:
    """Reads of the second half of the file fail: it was cut."""
    keys = list(range(STORE_BYTES // host.size * 4 // 5))
    assert store_all(host, keys) == keys
    os.truncate(file, STORE_BYTES // 2)
    found = load_all(host, keys)
    missed = [key for key in keys if key not in found]
    assert found and missed
    os.truncate(file, STORE_BYTES)
    # A value that could not be read is dropped or was cut away: a miss, in no case other bytes.
    later = load_all(host, keys)
    assert set(found) <= set(later)
    return f"{len(missed)} of {len(keys)} objects could not be read: misses; {len(found)} found"


class Call:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.call = call
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result = self.call()
        except BaseException as error:
            self.error = error

    def end(self, seconds: float) -> Any:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"not answered within {seconds:g} s"
        if self.error is not None:
            raise self.error
        return self.result


def wait_unhealthy(host: Any) -> float:
    began = time.monotonic()
    while host.health():
        assert time.monotonic() - began < 20, "the engine is not told"
        time.sleep(0.02)
    return time.monotonic() - began


def at_rest(host: Any) -> None:
    """Nothing writes to the engine's memory."""
    before = host.memory()
    time.sleep(0.5)
    assert host.memory() == before, "the memory was written to"


def hung(name: str, folder: Path) -> str:
    from test_late_device import Slow

    try:
        slow = Slow(folder)
    except pytest.skip.Exception as why:
        raise Skip(str(why)) from None
    try:
        return hung_on(name, slow)
    finally:
        gc.collect()
        slow.close()


def hung_on(name: str, slow: Any) -> str:
    host = host_of(name, Path(slow.device), bytes=None, io_deadline_ms=int(DEADLINE * 1000))
    keys = list(range(AT_ONCE))
    assert store_all(host, keys) == keys
    host.sync()
    slow.hold("read", True)
    late = Call(lambda: host.load([0]))
    unhealthy = wait_unhealthy(host)
    assert unhealthy < UNHEALTHY_MAX, f"told after {unhealthy:.1f} s"
    if host.threads:
        # Others are not held up by it.
        began = time.monotonic()
        assert Call(lambda: host.load([1])).end(10) == ([], 0)
        assert Call(lambda: host.store([100])).end(10) == []
        refused = time.monotonic() - began
        assert refused < AT_ONCE_SECONDS, f"refused after {refused:.1f} s"
    assert late.thread.is_alive(), "answered while the device has the memory"
    slow.hold("read", False)
    assert late.end(20) == ([], 0)
    at_rest(host)
    assert host.health() and load_all(host, keys) == keys

    slow.hold("read", True)
    late = Call(lambda: host.load([2]))
    wait_unhealthy(host)
    began = time.monotonic()
    try:
        host.end()
    except RuntimeError as why:
        # vLLM keeps its memory mapped then.
        assert "device still has" in str(why)
    closed = time.monotonic() - began
    assert closed < CLOSE_SECONDS
    slow.hold("read", False)
    late.thread.join(20)
    if host.keeps_memory:
        at_rest(host)
    return f"told after {unhealthy:.1f} s of a deadline of {DEADLINE:g} s; memory untouched after the answer; closed in {closed:.1f} s"


FAULTS: dict[str, Callable[[Any, Path], str]] = {
    "flipped": flipped,
    "full": full,
    "halfway": halfway,
    "unreadable": unreadable,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True, choices=("lmcache", "vllm", "sglang"))
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for name, fault in FAULTS.items():
        if options.only in name:
            with step(f"{options.host}/faults/{name}") as running, tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "store"
                host = host_of(options.host, file, bytes=STORE_BYTES)
                try:
                    running.figure = fault(host, file)
                finally:
                    host.end()
    if options.only in "hung":
        with step(f"{options.host}/faults/hung") as running, tempfile.TemporaryDirectory() as folder:
            running.figure = hung(options.host, Path(folder))
    sys.stdout.flush()
    # Threads of a call that was not answered must not hold up the exit.
    os._exit(0)


if __name__ == "__main__":
    main()
