"""Memory of a host that the device reads and writes without a copy."""

from __future__ import annotations

from collections.abc import Sequence

from . import _native as native
from ._config import Config

_PAGE = 4096


def adopt(
    config: Config, ranges: Sequence[tuple[int, int, object]]
) -> tuple[list[native.Memory], str | None]:
    """Adopts ranges (address, bytes, owner), and returns why some are copied instead, if they are.

    Only whole pages are taken: what is left over at both ends may belong to others."""
    if config.direct == "off":
        return [], '`direct` is "off"'
    memory: list[native.Memory] = []
    why = None
    for address, length, owner in ranges:
        start = -(-address // _PAGE) * _PAGE
        whole = (address + length) // _PAGE * _PAGE - start
        if whole <= 0:
            why = f"{length} bytes at {address:#x} hold no whole page"
            continue
        try:
            memory.append(native.Memory(start, whole, owner))
        except ValueError as error:
            why = str(error)
    if why is None and not ranges:
        why = "the host has told of no memory"
    if why is not None and config.direct == "require":
        raise ValueError(f'raw_block: `direct` is "require", but {why}')
    return memory, why
