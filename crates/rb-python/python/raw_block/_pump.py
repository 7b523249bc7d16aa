"""A thread that waits for file descriptors."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable

_logger = logging.getLogger("raw_block")

_PAUSE_AFTER_FAILURE_S = 0.1
_SECONDS_BETWEEN_REPORTS = 10.0


class Pump:
    """Calls `cycle` in a thread of its own whenever one of `fds` is readable, and after `wake`.

    `cycle` has to make the descriptors unreadable. After `stop` it runs once more, so that nothing is left."""

    def __init__(self, name: str, fds: Iterable[int], cycle: Callable[[], None]) -> None:
        self._cycle = cycle
        self._fds = tuple(fds)
        self._stopping = False
        self._reported_at = -_SECONDS_BETWEEN_REPORTS
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # A daemon: a host that exits without close must not hang.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        return self._thread is threading.current_thread()

    def stop(self) -> None:
        """Ends the thread. Called once, and not by the thread itself."""
        self._stopping = True
        if self._thread.ident is not None:
            self.wake()
            self._thread.join()
        os.close(self._wake_fd)

    def _run(self) -> None:
        poll = select.poll()
        for fd in (*self._fds, self._wake_fd):
            poll.register(fd, select.POLLIN)
        while True:
            # Read before the cycle: one full cycle follows the request to stop.
            for fd, event in poll.poll():
                if fd == self._wake_fd:
                    os.eventfd_read(fd)
                elif not event & select.POLLIN:
                    poll.unregister(fd)  # closed below us; it would be reported without end
            stopping = self._stopping
            try:
                self._cycle()
            except Exception:
                self._report()
                time.sleep(_PAUSE_AFTER_FAILURE_S)
            if stopping:
                return

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _SECONDS_BETWEEN_REPORTS:
            self._reported_at = now
            _logger.exception("raw_block: %s: a cycle failed", self._thread.name)
