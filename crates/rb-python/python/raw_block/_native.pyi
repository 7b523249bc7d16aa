"""The native part of raw_block."""

import builtins
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, final

__all__ = [
    "BUSY",
    "CLOSED",
    "Closed",
    "Consent",
    "Cursor",
    "DONE",
    "Done",
    "EXISTED",
    "Error",
    "FORMAT_VERSION",
    "Forked",
    "FormatError",
    "INVALID",
    "IO_ERROR",
    "InUse",
    "MISMATCH",
    "MISS",
    "Memory",
    "NO_SPACE",
    "NotAStore",
    "OpenError",
    "POISONED",
    "Poisoned",
    "REFUSED",
    "NOT_ADMITTED",
    "SUPERSEDED",
    "Store",
    "TIMED_OUT",
    "TOO_LONG",
    "Unexpected",
    "VERSION",
    "format",
    "is_store",
]

VERSION: str
FORMAT_VERSION: int

# Codes of the answers to each key of a batch.
DONE: int  # 0: stored, or read
EXISTED: int  # 1: the key has a value, which was kept
SUPERSEDED: int  # 2: a later put or remove of the key took its place
NOT_ADMITTED: int  # 3: not worth a write, by the policy or the write budget; the key has no value
MISS: int  # -1
TOO_LONG: int  # -2: no value of the store can be so long
NO_SPACE: int  # -3: too many slots are locked or being written
BUSY: int  # -4: no buffers, log space or queue became free in time
IO_ERROR: int  # -5: the device failed
TIMED_OUT: int  # -6: the device did not answer in time
MISMATCH: int  # -7: the value has another length or other metadata than expected
POISONED: int  # -8: writing has stopped until the store is reopened
CLOSED: int  # -9
INVALID: int  # -10: a key or metadata of a length that the store does not take
REFUSED: int  # -11: anything else; `Done.error` has the words

# An address with a length in bytes, or an object with the buffer protocol. A get needs a writable one.
_Span: TypeAlias = tuple[int, int] | Any

class Error(RuntimeError): ...
class OpenError(Error): ...
class InUse(OpenError): ...
class NotAStore(OpenError): ...
class Unexpected(OpenError): ...
class FormatError(Error): ...
class Consent(FormatError): ...
class Poisoned(Error): ...
class Closed(Error): ...
class Forked(Error): ...

def format(
    path: str,
    *,
    slot_bytes: int | Sequence[tuple[int, int]] | None = None,
    bytes: int | None = None,
    key_len_max: int = 512,
    metadata_len_max: int = 16,
    log_bytes: int | None = None,
    label: bytes | None = None,
    sparse: bool = False,
    discard: bool = False,
    consent: bool = False,
    force: bool = False,
) -> list[str]:
    """Formats a device or file and returns warnings. `slot_bytes`: the capacity of all slots, 1 MiB by default, or classes
    as (capacity, percentage of the space)."""

def is_store(path: str) -> bool: ...

@final
class Memory:
    """Memory of the caller's that the device reads and writes without a copy: whole pages of 4096 bytes.

    `owner` is referenced until the last request is over. The same range twice is the same memory; a range that overlaps
    another one is refused with ValueError."""

    def __new__(cls, address: int, length: int, owner: object) -> Self: ...
    @property
    def address(self) -> int: ...
    @property
    def length(self) -> int: ...

@final
class Done:
    """The end of a batch."""

    id: int
    codes: list[int]
    lengths: list[int]  # bytes of each value that was written or read, otherwise 0
    error: str | None  # of the first key that failed

@final
class Store:
    """An open store. Closed at the latest when the interpreter exits."""

    def __new__(
        cls,
        path: str,
        *,
        engine: str = "auto",
        memory: Sequence[Memory] | None = None,
        read_only: bool = False,
        start_empty: bool = False,
        force: bool = False,
        queue_depth: int = 256,
        queues: int = 8,
        buffer_bytes: int | None = None,
        durability: Literal["interval", "batch"] = "interval",
        sync_interval_ms: int = 50,
        validate: Literal["background", "eager", "off"] = "background",
        scrub_bytes_per_second: int | None = None,
        discard_freed: bool = False,
        on_lost_metadata: Literal["empty", "scan"] = "empty",
        policy: Literal["lru", "learned"] = "lru",
        write_budget_per_day: int | None = None,
        placement_metadata: int | None = None,
        placement_lifetimes: Sequence[int] | None = None,
        io_deadline_ms: int = 30_000,
        direct_min: int | None = None,
        slot_bytes: Sequence[int] | None = None,
        label: bytes | None = None,
        uuid: str | None = None,
        shards: int | None = None,
        events: bool = False,
        monitor: bool = True,
    ) -> Self: ...

    # Batches that run while the caller goes on. The memory of a span belongs to the store until `drain` has returned the
    # id. An id is returned once the device holds none of the memory, which may be long after `io_deadline_ms`.
    def submit_put(
        self,
        keys: Sequence[bytes],
        spans: Sequence[_Span],
        *,
        metadata: Sequence[bytes] | None = None,
        replace: bool = False,
        expires: float | None = None,
        chain_ended: bool = False,
        priority: int = 0,
    ) -> int: ...
    def submit_get(
        self,
        keys: Sequence[bytes],
        spans: Sequence[_Span],
        *,
        expect: Sequence[bytes | None] | None = None,
        exact: bool = True,
    ) -> int: ...
    def drain(self, kind: Literal["put", "get"]) -> builtins.list[Done]: ...
    @property
    def put_fd(self) -> int:
        """An eventfd that is readable when batches of puts may have ended."""
    @property
    def get_fd(self) -> int: ...
    @property
    def event_fd(self) -> int:
        """An eventfd that is readable when `poll_events` has something."""

    # The same, in the calling thread.
    def put_many(
        self,
        keys: Sequence[bytes],
        spans: Sequence[_Span],
        *,
        metadata: Sequence[bytes] | None = None,
        replace: bool = False,
        expires: float | None = None,
        chain_ended: bool = False,
        priority: int = 0,
    ) -> Done: ...
    def get_many(
        self,
        keys: Sequence[bytes],
        spans: Sequence[_Span],
        *,
        expect: Sequence[bytes | None] | None = None,
        exact: bool = True,
    ) -> Done: ...
    def put(self, key: bytes, value: Any, *, metadata: bytes | None = None, replace: bool = True, expires: float | None = None) -> bool:
        """Stores a value. Returns whether it was written: False if `replace` is False and the key exists."""
    def get(self, key: bytes) -> bytes | None: ...

    # Without I/O.
    def contains(self, keys: Sequence[bytes]) -> builtins.list[bool]: ...
    def longest_prefix(self, keys: Sequence[bytes]) -> int: ...
    def lock(self, keys: Sequence[bytes]) -> builtins.list[int]:
        """Locks the values that exist, so that they are not evicted, and returns the length of each, or -1. A key may be
        locked several times."""
    def unlock(self, keys: Sequence[bytes]) -> int:
        """Ends one lock of each key, and returns how many there were."""
    def touch(self, keys: Sequence[bytes]) -> builtins.list[bool]: ...
    def lengths(self, keys: Sequence[bytes]) -> builtins.list[int]:
        """Returns the length of each value, or -1."""
    def remove(self, keys: Sequence[bytes], *, unless_locked: bool = True) -> builtins.list[int]:
        """Returns the length of each removed value, -1 where there was none, -2 where it is locked, -3 where the remove
        failed."""
    def list(self, cursor: Cursor | None = None, limit: int = 500, *, order: Literal["any", "oldest", "newest"] = "any") -> tuple[builtins.list[tuple[bytes, int, bytes]], Cursor | None]:
        """A page of the entries, as (key, length, metadata), and where the next one begins. `order` counts for the first."""
    def keys(self, cursor: Cursor | None = None, limit: int = 500, *, order: Literal["any", "oldest", "newest"] = "any") -> tuple[builtins.list[bytes], builtins.list[int], Cursor | None]:
        """As `list`, without metadata, and keys and lengths apart: several times as fast for large pages."""
    def poll_events(self) -> builtins.list[tuple[str, bytes, int]]:
        """What happened since the last call, with `events=True`: ("evicted" or "dropped", key, length)."""
    def charge(self, length: int) -> int:
        """Bytes of slots that a value of this length takes, without their headers. `geometry()["capacity_bytes"]` is the sum
        of all slots."""
    def sync(self) -> None: ...
    def checkpoint(self) -> None: ...
    def adopt(self, memory: Memory) -> None: ...
    def stats(self) -> dict[str, Any]: ...
    def recovery(self) -> dict[str, Any]: ...
    def geometry(self) -> dict[str, Any]: ...
    def health(self) -> dict[str, Any]:
        """`healthy`, `reason`, `tasks` in flight, `late` ones, `oldest_task_seconds`, `engine`, `rejected_engines`."""
    def metrics(self, label: str | None = None) -> str:
        """All metrics in the text format of Prometheus."""
    def close(self) -> None:
        """Waits for batches, at most `io_deadline_ms`, writes a checkpoint and releases the device. Batches that have ended
        can still be drained."""
    @property
    def closed(self) -> bool: ...
    @property
    def path(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Cursor: ...
