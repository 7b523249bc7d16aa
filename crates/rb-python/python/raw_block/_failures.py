"""Counts what failed, and says so without flooding the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from . import _native as native

_SIZES_MAX = 1024
_SECONDS_BETWEEN_WARNINGS = 10.0

_NAMES = {
    native.MISS: "miss",
    native.TOO_LONG: "too_long",
    native.NO_SPACE: "no_space",
    native.BUSY: "busy",
    native.IO_ERROR: "io_error",
    native.TIMED_OUT: "timed_out",
    native.MISMATCH: "mismatch",
    native.POISONED: "poisoned",
    native.CLOSED: "closed",
    native.INVALID: "invalid",
    native.REFUSED: "refused",
}
# Ordinary answers, of which nobody needs to be warned; sizes that fit nowhere have a warning of their own.
_QUIET = frozenset((native.MISS, native.MISMATCH, native.TOO_LONG, native.CLOSED))


class Failures:
    """The keys that failed, by what was tried and by code, and the sizes that no value of the store can have."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._warned_at = -_SECONDS_BETWEEN_WARNINGS

    def count(self, what: str, codes: Sequence[int], sizes: Sequence[int], error: str | None) -> None:
        failed = [(code, size) for code, size in zip(codes, sizes) if code < 0]
        new = []
        with self._lock:
            for code, size in failed:
                self._counts[f"{what}_{_name(code)}"] += 1
                if code != native.TOO_LONG:
                    continue
                if size in self._sizes or len(self._sizes) < _SIZES_MAX:
                    self._sizes[size] += 1
                    if self._sizes[size] == 1:
                        new.append(size)
        for size in new:
            self._logger.warning("raw_block: no value of the store can be as long as %d bytes: it is not stored", size)
        loud = sorted({_name(code) for code, _ in failed if code not in _QUIET})
        now = time.monotonic()
        if loud and now - self._warned_at >= _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            self._logger.warning("raw_block: keys of a %s failed (%s): %s", what, ", ".join(loud), error)

    def status(self) -> dict[str, Any]:
        with self._lock:
            return {"failures": dict(self._counts), "unplaceable_sizes": dict(self._sizes)}


def _name(code: int) -> str:
    return _NAMES.get(code, str(code))
