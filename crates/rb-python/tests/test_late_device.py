"""A device that does not answer: the kernel's throttle of a control group holds the requests of a loop device back."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import raw_block
from raw_block import DONE, TIMED_OUT, Store
from test_store import Pages

GROUPS = Path("/sys/fs/cgroup/blkio")


class Slow:
    """A loop device whose requests can be held back."""

    def __init__(self, folder: Path) -> None:
        self.group = GROUPS / f"raw-block-{os.getpid()}"
        try:
            self.group.mkdir(exist_ok=True)
        except OSError as error:
            pytest.skip(f"no control group can be made: {error}")
        if not (self.group / "blkio.throttle.read_bps_device").exists():
            self.group.rmdir()
            pytest.skip("the control group has no throttle")
        file = folder / "image"
        file.touch()
        os.truncate(file, 64 << 20)
        command = ["losetup", "--find", "--show", "--direct-io=off", str(file)]
        self.device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        number = os.stat(self.device).st_rdev
        self.number = f"{os.major(number)}:{os.minor(number)}"
        (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def hold(self, kind: str, on: bool) -> None:
        # Bytes a second: a request of a MiB takes a quarter of an hour. 0 ends it.
        rule = f"{self.number} {1024 if on else 0}"
        (self.group / f"blkio.throttle.{kind}_bps_device").write_text(rule)

    def close(self) -> None:
        for kind in ("read", "write"):
            self.hold(kind, False)
        # Its children, too.
        for process in (self.group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (GROUPS / "cgroup.procs").write_text(process)
        subprocess.run(["losetup", "--detach", self.device], check=True)
        self.group.rmdir()


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    if os.geteuid() != 0 or not GROUPS.exists():
        pytest.skip("needs root and the control group blkio")
    slow = Slow(tmp_path)
    yield slow
    slow.close()


@pytest.mark.parametrize("engine", ["io_uring", "posix"])
def test_a_batch_is_answered_when_the_device_has_let_go_of_its_memory(slow: Slow, engine: str) -> None:
    raw_block.format(slow.device, consent=True)
    store = Store(slow.device, engine=engine, io_deadline_ms=1000)
    pages = Pages(8 << 20)
    store.adopt(pages.memory)
    store.put_many([b"key"], [pages.write(0, b"x" * (2 << 20))])
    store.sync()

    slow.hold("read", True)
    began = time.monotonic()
    task = store.submit_get([b"key"], [(pages.address + (4 << 20), 2 << 20)])
    while store.health()["healthy"] and time.monotonic() - began < 20:
        select.select([store.get_fd], [], [], 0.2)
        assert store.drain("get") == [], "the device still has the memory"
    health = store.health()
    assert not health["healthy"] and health["late"] == 1 and "not answered" in health["reason"]
    assert time.monotonic() - began < 15, "the deadline is a second"

    # Further batches are refused at once: no more memory goes to a device that does not answer.
    refused = store.submit_get([b"key"], [(pages.address, 2 << 20)])
    assert [(done.id, done.codes) for done in store.drain("get")] == [(refused, [TIMED_OUT])]
    assert store.contains([b"key"]) == [True]

    slow.hold("read", False)
    end = time.monotonic() + 30
    done = []
    while not done and time.monotonic() < end:
        select.select([store.get_fd], [], [], 1)
        done = store.drain("get")
    assert [(one.id, one.codes) for one in done] == [(task, [TIMED_OUT])]
    # The memory is the caller's again.
    pages.map[4 << 20 : 6 << 20] = bytes(2 << 20)
    time.sleep(0.3)
    assert pages.read(4 << 20, 2 << 20) == bytes(2 << 20)
    assert store.health()["healthy"]
    assert store.get_many([b"key"], [(pages.address + (4 << 20), 2 << 20)]).codes == [DONE]
    assert pages.read(4 << 20, 2 << 20) == b"x" * (2 << 20)
    store.close()


def test_a_close_does_not_wait_for_a_device_that_does_not_answer(slow: Slow) -> None:
    raw_block.format(slow.device, consent=True)
    store = Store(slow.device, io_deadline_ms=1000)
    pages = Pages(8 << 20)
    store.put_many([b"key"], [pages.write(0, b"x" * (2 << 20))])
    store.sync()
    slow.hold("read", True)
    task = store.submit_get([b"key"], [(pages.address, 2 << 20)])
    began = time.monotonic()
    try:
        store.close()
    except raw_block.Error:
        pass
    assert time.monotonic() - began < 30
    assert store.drain("get") == [], "the device still has the memory"
    slow.hold("read", False)
    end = time.monotonic() + 30
    done = []
    while not done and time.monotonic() < end:
        select.select([store.get_fd], [], [], 1)
        done = store.drain("get")
    assert [one.id for one in done] == [task]


def test_a_call_that_waits_for_the_device_counts_as_late(slow: Slow) -> None:
    raw_block.format(slow.device, consent=True)
    store = Store(slow.device, io_deadline_ms=1000)
    pages = Pages(8 << 20)
    store.put_many([b"key"], [pages.write(0, b"x" * (2 << 20))])
    store.sync()
    slow.hold("read", True)
    codes: list[list[int]] = []
    call = threading.Thread(
        target=lambda: codes.append(store.get_many([b"key"], [(pages.address + (4 << 20), 2 << 20)]).codes)
    )
    call.start()
    began = time.monotonic()
    while store.health()["healthy"]:
        assert time.monotonic() - began < 15, "the deadline is a second"
        time.sleep(0.05)
    assert call.is_alive(), "the device still has the memory"
    # Others do not wait behind it.
    began = time.monotonic()
    assert store.get_many([b"key"], [bytearray(2 << 20)]).codes == [TIMED_OUT]
    assert store.put_many([b"other"], [b"value"]).codes == [TIMED_OUT]
    assert time.monotonic() - began < 0.5
    slow.hold("read", False)
    call.join(30)
    assert codes == [[TIMED_OUT]]
    assert store.health()["healthy"]
    assert store.get_many([b"key"], [(pages.address, 2 << 20)]).codes == [DONE]
    store.close()
