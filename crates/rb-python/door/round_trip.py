"""The wheel in an environment that has nothing else: imported, and a value there and back."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import raw_block
from report import step


def main(name: str) -> None:
    with step(name) as running, tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "store")
        value = bytes(range(256)) * 4096
        raw_block.format(path, bytes=64 << 20)
        with raw_block.Store(path) as store:
            store.put(b"key", value)
            store.sync()
        with raw_block.Store(path) as store:
            assert store.get(b"key") == value
            assert store.get(b"another") is None
        running.figure = f"Python {sys.version.split()[0]}: 1 MiB there and back"


main(sys.argv[1])
