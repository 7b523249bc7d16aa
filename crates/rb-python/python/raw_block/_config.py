"""The configuration that all hosts share, and how a store is opened with it."""

from __future__ import annotations

import difflib
import logging
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import Store
from . import _native as native

_logger = logging.getLogger("raw_block")

_SLOT_BYTES_DEFAULT = 1 << 20
_STORE_THREADS_DEFAULT = 2
_LOAD_THREADS_DEFAULT = 4
# The host frees memory of a request that it believes lost after 300 s. The deadline has to stay well below.
_IO_DEADLINE_MS_MAX_DIRECT = 120_000


@dataclass(frozen=True)
class Config:
    """What an operator has configured. A field that is None leaves the choice to the store."""

    path: str
    slot_bytes: int | tuple[tuple[int, int], ...] | None = None
    bytes: int | None = None
    format: str = "if_blank"
    consent: bool = False
    force: bool = False
    log_bytes: int | None = None
    sparse: bool = False
    discard: bool = False
    start_empty: bool = False
    engine: str | None = None
    queue_depth: int | None = None
    queues: int | None = None
    buffer_bytes: int | None = None
    direct: str = "auto"
    direct_min: int | None = None
    durability: str | None = None
    sync_interval_ms: int | None = None
    validate: str | None = None
    scrub_bytes_per_second: int | None = None
    discard_freed: bool = False
    on_lost_metadata: str | None = None
    on_mismatch: str = "error"
    io_deadline_ms: int | None = None
    shards: int | None = None
    policy: str | None = None
    write_budget_per_day: int | None = None
    placement_metadata: int | None = None
    placement_lifetimes: tuple[int, ...] | None = None
    uuid: str | None = None
    metrics: bool = True


def parse(params: Mapping[str, Any], *, host: str) -> Config:
    """Checks the parameters of an operator. Errors name the key; `host` is the framework they came from."""
    given = _translate(params, host)
    fields: dict[str, Any] = {}
    threads: dict[str, int] = {}
    for key, value in given.items():
        check = _KEYS.get(key)
        if check is None:
            raise ValueError(f"raw_block ({host}): unknown key {key!r}{_nearest(key)}")
        if value is None:
            continue
        try:
            checked = check(value)
        except ValueError as error:
            raise ValueError(f"raw_block ({host}): {key} = {value!r}: {error}") from None
        if key in ("store_threads", "load_threads"):
            threads[key] = checked
        elif key == "placement":
            fields.update(checked)
        else:
            fields[key] = checked
    if "path" not in fields:
        raise ValueError(f"raw_block ({host}): `path` of the device or file is missing")
    if threads and "queues" not in fields:
        store = threads.get("store_threads", _STORE_THREADS_DEFAULT)
        fields["queues"] = store + threads.get("load_threads", _LOAD_THREADS_DEFAULT)
    config = Config(**fields)
    deadline = config.io_deadline_ms
    if config.direct != "off" and deadline is not None and deadline > _IO_DEADLINE_MS_MAX_DIRECT:
        raise ValueError(
            f"raw_block ({host}): io_deadline_ms = {deadline} is more than {_IO_DEADLINE_MS_MAX_DIRECT}: the host may"
            ' reuse the memory of a request before; choose less, or direct = "off"'
        )
    return config


def expand(path: str, names: Mapping[str, object]) -> str:
    """Replaces `{name}` in a path. `{hostname}` is always known, other names are those of the host."""
    known = {"hostname": socket.gethostname(), **names}

    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ValueError(f"raw_block: path {path!r} names {match[0]}; known are {', '.join(sorted(known))}")
        return str(known[match[1]])

    return re.sub(r"\{([^{}]*)\}", value, path)


def open_store(
    config: Config,
    *,
    label: bytes,
    metadata_len_max: int,
    memory: Sequence[native.Memory] = (),
    names: Mapping[str, object] | None = None,
    events: bool = True,
) -> Store:
    """Opens the store, and formats it before if the configuration says so.

    The label says who wrote the values. It is pinned, so that nobody reads values that mean something else to it."""
    path = expand(config.path, names or {})
    if config.format == "always":
        _format(config, path, label, metadata_len_max, consent=config.consent, force=config.force)
    elif not native.is_store(path):
        if config.format == "never":
            raise native.NotAStore(f"{path} holds no store, and `format` is \"never\"")
        if config.bytes is None and _needs_bytes(path):
            raise ValueError(f"raw_block: {path} is a new file: `bytes` has to say how large it shall be")
        # Not forced: what is known to hold something else is not blank.
        _format(config, path, label, metadata_len_max, consent=config.consent, force=False)
    try:
        return _open(config, path, label, memory, events)
    except native.Unexpected as error:
        # A uuid names one store: another one in its place is not a cache that has aged.
        if config.on_mismatch != "clear" or config.uuid is not None:
            raise
        if not config.consent:
            raise native.Consent(
                f"{error}; `on_mismatch` is \"clear\", which destroys the values in it: it needs `consent`: true"
            ) from error
        _logger.warning("raw_block: %s: formatting it again, as `on_mismatch` says", error)
    _format(config, path, label, metadata_len_max, consent=True, force=False)
    return _open(config, path, label, memory, events)


def _format(config: Config, path: str, label: bytes, metadata_len_max: int, *, consent: bool, force: bool) -> None:
    slots = config.slot_bytes
    warnings = native.format(
        path,
        slot_bytes=_SLOT_BYTES_DEFAULT if slots is None else slots,
        bytes=config.bytes,
        metadata_len_max=metadata_len_max,
        log_bytes=config.log_bytes,
        label=label,
        sparse=config.sparse,
        discard=config.discard,
        consent=consent,
        force=force,
    )
    for warning in warnings:
        _logger.warning("raw_block: %s", warning)
    _logger.info("raw_block: formatted %s", path)


def _open(
    config: Config, path: str, label: bytes, memory: Sequence[native.Memory], events: bool
) -> Store:
    # What is not configured is not passed, so that the defaults have one place: the store.
    options: dict[str, Any] = {name: getattr(config, name) for name in _PASSED if getattr(config, name) is not None}
    slots = config.slot_bytes
    if slots is not None:
        options["slot_bytes"] = (slots,) if isinstance(slots, int) else tuple(sorted(capacity for capacity, _ in slots))
    store = Store(
        path,
        memory=memory,
        label=label,
        events=events,
        force=config.force,
        start_empty=config.start_empty,
        discard_freed=config.discard_freed,
        **options,
    )
    health = store.health()
    if config.engine in (None, "auto") and health["engine"] == "posix" and health["rejected_engines"]:
        _logger.warning("raw_block: %s is used through posix calls: %s", path, "; ".join(health["rejected_engines"]))
    return store


_PASSED = (
    "engine",
    "queue_depth",
    "queues",
    "buffer_bytes",
    "direct_min",
    "durability",
    "sync_interval_ms",
    "validate",
    "scrub_bytes_per_second",
    "on_lost_metadata",
    "io_deadline_ms",
    "shards",
    "policy",
    "write_budget_per_day",
    "placement_metadata",
    "placement_lifetimes",
    "uuid",
)


def _needs_bytes(path: str) -> bool:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return True
    return status.st_size == 0 and os.path.isfile(path)


# ---- Keys and their values ----


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected a text")
    return value


def _path(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        raise ValueError("one path is expected: a store over several devices is not supported")
    return _text(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def size(value: Any) -> int:
    """Bytes: a number, or a text such as "64GiB"."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+)\s*(?:([KMGT])(iB|B)?|B)?\s*", value)
        if match is None:
            raise ValueError('expected a number of bytes, or a text such as "64GiB"')
        unit = 1000 if match[3] == "B" else 1024
        value = int(match[1]) * unit ** ("KMGT".index(match[2]) + 1 if match[2] else 0)
    return _count(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("expected a number above 0")
    return value


def _slots(value: Any) -> int | tuple[tuple[int, int], ...]:
    if not isinstance(value, (list, tuple)):
        return size(value)
    classes = []
    for entry in value:
        if not isinstance(entry, (list, tuple)) or len(entry) != 2:
            raise ValueError("expected a number of bytes, or pairs of bytes and percentage")
        classes.append((size(entry[0]), _count(entry[1])))
    if not classes:
        raise ValueError("expected at least one class")
    return tuple(classes)


def _one_of(*names: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return str(value)

    return check


def _placement(value: Any) -> dict[str, Any]:
    """Placement ids of the store's writes: `metadata` is an id, `lifetimes` a list of them."""
    if not isinstance(value, Mapping) or set(value) - {"metadata", "lifetimes", "policy"}:
        raise ValueError('expected a table with "metadata" and "lifetimes"')
    if value.get("policy", "none") != "none":
        raise ValueError('its "policy" can only be "none": the key `policy` of the store divides the values')
    metadata, lifetimes = value.get("metadata"), value.get("lifetimes", ())
    if not isinstance(lifetimes, (list, tuple)):
        raise ValueError('"lifetimes" is a list of ids')
    return {
        "placement_metadata": None if metadata is None else _count(metadata),
        "placement_lifetimes": tuple(_count(number) for number in lifetimes),
    }


_KEYS: dict[str, Callable[[Any], Any]] = {
    "path": _path,
    "slot_bytes": _slots,
    "bytes": size,
    "format": _one_of("if_blank", "never", "always"),
    "consent": _flag,
    "force": _flag,
    "log_bytes": size,
    "sparse": _flag,
    "discard": _flag,
    "start_empty": _flag,
    "engine": _text,
    "queue_depth": _count,
    "queues": _count,
    "store_threads": _count,
    "load_threads": _count,
    "buffer_bytes": size,
    "direct": _one_of("auto", "off", "require"),
    "direct_min": size,
    "durability": _one_of("interval", "batch"),
    "sync_interval_ms": _count,
    "validate": _one_of("background", "eager", "off"),
    "scrub_bytes_per_second": size,
    "discard_freed": _flag,
    "on_lost_metadata": _one_of("empty", "scan"),
    "policy": _one_of("lru", "learned"),
    "write_budget_per_day": size,
    "on_mismatch": _one_of("error", "clear"),
    "io_deadline_ms": _count,
    "placement": _placement,
    "shards": _count,
    "uuid": _text,
    "metrics": _flag,
}

# Names of LMCache's raw_block adapter that mean the same.
_ALIASES = {
    "device_path": "path",
    "capacity_bytes": "bytes",
    "io_engine": "engine",
    "iouring_queue_depth": "queue_depth",
    "num_store_workers": "store_threads",
    "num_load_workers": "load_threads",
    "load_checkpoint_on_init": "start_empty",
}


def _translate(params: Mapping[str, Any], host: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key, value in params.items():
        name = _ALIASES.get(key, key)
        if name != key:
            if name in params:
                raise ValueError(f"raw_block ({host}): {key!r} and {name!r} are the same key: give one")
            if key == "load_checkpoint_on_init":
                value = not _flag(value)
            elif key == "capacity_bytes" and value == 0:
                value = None  # there: all of the device
            _logger.warning("raw_block (%s): %r is read as %r = %r", host, key, name, value)
        given[name] = value
    return given


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, [*_KEYS, *_ALIASES], n=1, cutoff=0.0)
    return f"; the nearest known one is {near[0]!r}" if near else ""
