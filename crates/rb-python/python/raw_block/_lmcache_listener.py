"""A listener that learns of keys that were there before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._lmcache_host import L2AdapterListener, logger



class CatchingUp(L2AdapterListener):  # type: ignore[misc]
    """Passes on to a listener, and lets none of its exceptions out: they must not stop other listeners.

    At first it gets pages of existing keys amid the notifications of what happens. A key may be in both. It remembers
    what the listener was told until the pages have ended, so that each key is told once."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._in_pages = True
        self._told: set[Any] = set()

    def end(self, in_flight: set[Any]) -> None:
        """The pages have ended. Of a key that was in one, a store may be told late only if a put was under way then."""
        self._in_pages = False
        self._told &= in_flight

    def on_l2_keys_stored(self, keys: Sequence[Any], sizes: Sequence[int]) -> None:
        told = self._told
        if told or self._in_pages:
            # A set hashes each key once, which takes most of the time of a page.
            these = set(keys)
            if not told.isdisjoint(these):
                new = [at for at, key in enumerate(keys) if key not in told]
                keys, sizes = [keys[at] for at in new], [sizes[at] for at in new]
            if self._in_pages:
                told |= these
            else:
                told -= these
        self._pass_on(self._listener.on_l2_keys_stored, keys, sizes)

    def on_l2_keys_accessed(self, keys: Sequence[Any]) -> None:
        if self._in_pages:
            keys = [key for key in keys if key in self._told]
        self._pass_on(self._listener.on_l2_keys_accessed, keys)

    def on_l2_keys_deleted(self, keys: Sequence[Any]) -> None:
        if self._in_pages:
            keys = [key for key in keys if key in self._told]
        self._told.difference_update(keys)
        self._pass_on(self._listener.on_l2_keys_deleted, keys)

    def _pass_on(self, call: Callable[..., None], keys: Sequence[Any], *sizes: Any) -> None:
        if not keys:
            return
        try:
            call(keys, *sizes)
        except Exception:
            logger.exception("raw_block: a listener failed")
