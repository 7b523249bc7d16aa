"""Addresses of objects with the buffer protocol, which the stable interface of Python 3.10 does not give to native code."""

from __future__ import annotations

import ctypes
from typing import Any


def export(owner: Any, writable: bool) -> tuple[int, int, object]:
    """Returns address and length in bytes of the memory of an object, and what keeps it where it is."""
    view = memoryview(owner)
    if not view.contiguous:
        raise ValueError("the memory is not contiguous")
    if view.readonly:
        if writable:
            raise TypeError(f"{type(owner).__name__} cannot be read into: it is read-only")
        # ctypes takes only writable memory. A copy is rarely large: bytes do not come here.
        copy = bytes(view)
        return ctypes.cast(ctypes.c_char_p(copy), ctypes.c_void_p).value or 0, len(copy), copy
    if view.nbytes == 0:
        raise ValueError("the memory is empty")
    kept = (ctypes.c_char * view.nbytes).from_buffer(view.cast("B") if view.ndim else view)
    return ctypes.addressof(kept), view.nbytes, kept
