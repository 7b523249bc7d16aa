"""The configuration that all hosts share."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

import raw_block
from raw_block._config import expand, open_store, parse

MIB = 1 << 20


def config(path: Path, **more: Any) -> Any:
    return parse({"path": str(path), "bytes": 64 * MIB, **more}, host="test")


def open_test(path: Path, *, label: bytes = b"test 1", **more: Any) -> raw_block.Store:
    return open_store(config(path, **more), label=label, metadata_len_max=16)


def test_an_unknown_key_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'queue_dept'.*'queue_depth'"):
        parse({"path": "x", "queue_dept": 1}, host="test")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bytes", "many"),
        ("bytes", True),
        ("queue_depth", 0),
        ("format", "yes"),
        ("force", 1),
        ("path", ["a", "b"]),
        ("slot_bytes", [[1]]),
        ("placement", {"policy": "salt_rank"}),
        ("placement", {"lifetime": [1]}),
        ("placement", {"lifetimes": [0]}),
        ("placement", {"lifetimes": 2}),
        ("io_deadline_ms", 120_001),
    ],
)
def test_a_bad_value_names_its_key(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        parse({"path": "x", key: value}, host="test")


def test_no_path() -> None:
    with pytest.raises(ValueError, match="path"):
        parse({}, host="test")


def test_sizes() -> None:
    assert parse({"path": "x", "bytes": "2GiB"}, host="test").bytes == 2 << 30
    assert parse({"path": "x", "bytes": "5TB"}, host="test").bytes == 5 * 10**12
    assert parse({"path": "x", "bytes": "64M"}, host="test").bytes == 64 * MIB
    assert parse({"path": "x", "slot_bytes": [["1MiB", 3], [4096, 1]]}, host="test").slot_bytes == ((MIB, 3), (4096, 1))


def test_placement_ids_reach_the_store(tmp_path: Path) -> None:
    ids = {"metadata": 1, "lifetimes": [2, 3]}
    parsed = parse({"path": "x", "placement": ids}, host="test")
    assert (parsed.placement_metadata, parsed.placement_lifetimes) == (1, (2, 3))
    # A file has none.
    with pytest.raises(raw_block.OpenError, match="placement id 1 for metadata"):
        open_test(tmp_path / "store", placement=ids)


def test_names_of_raw_block_are_read_with_a_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    params = {
        "device_path": "x",
        "capacity_bytes": 0,
        "io_engine": "posix",
        "iouring_queue_depth": 8,
        "num_store_workers": 3,
        "load_checkpoint_on_init": False,
    }
    with caplog.at_level(logging.WARNING, logger="raw_block"):
        parsed = parse(params, host="test")
    assert len(caplog.records) == len(params)
    assert (parsed.path, parsed.bytes, parsed.engine, parsed.queue_depth) == ("x", None, "posix", 8)
    assert parsed.queues == 3 + 4
    assert parsed.start_empty


def test_a_key_and_its_other_name() -> None:
    with pytest.raises(ValueError, match="same key"):
        parse({"path": "x", "device_path": "y"}, host="test")


def test_templates() -> None:
    assert expand("/d/{hostname}-{tp_rank}", {"tp_rank": 3}) == f"/d/{socket.gethostname()}-3"
    with pytest.raises(ValueError, match=r"\{other\}.*tp_rank"):
        expand("/d/{other}", {"tp_rank": 3})


def test_a_blank_file_is_formatted_and_then_opened(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_test(path) as store:
        store.put(b"key", b"value")
    with open_test(path) as store:
        assert store.get(b"key") == b"value"


def test_a_new_file_needs_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bytes"):
        open_test(tmp_path / "store", bytes=None)


def test_never_formats(tmp_path: Path) -> None:
    with pytest.raises(raw_block.NotAStore):
        open_test(tmp_path / "store", format="never")


def test_always_needs_consent(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_test(path) as store:
        store.put(b"key", b"value")
    with pytest.raises(raw_block.Consent):
        open_test(path, format="always")
    with open_test(path, format="always", consent=True) as store:
        assert store.get(b"key") is None


def test_a_store_of_another_host(tmp_path: Path) -> None:
    path = tmp_path / "store"
    open_test(path).close()
    with pytest.raises(raw_block.Unexpected):
        open_test(path, label=b"other")
    with pytest.raises(raw_block.Consent, match="consent"):
        open_test(path, label=b"other", on_mismatch="clear")
    open_test(path, label=b"other", on_mismatch="clear", consent=True).close()
    open_test(path, label=b"other").close()
