"""A listener that learns of keys that were there before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ._lmcache_host import L2AdapterListener, logger



class CatchingUp(L2AdapterListener):  # type: ignore[misc]
    """Passes on to a listener, and lets none of its exceptions out: they must not stop other listeners.

    At first it gets pages of existing keys amid the notifications of what happens. A key may be in both. It remembers
    what the listener was told until the pages have ended, so that each key is told once. It remembers encoded keys: those
    of LMCache take ten times as long to hash."""

    def __init__(self, listener: Any, encode: Callable[[Sequence[Any]], list[bytes]]) -> None:
        self._listener = listener
        self._encode = encode
        self._in_pages = True
        self._told: set[bytes] = set()

    def page(
        self, encoded: Sequence[bytes], keys: Sequence[Any], sizes: Sequence[int], in_flight: set[bytes] | None
    ) -> None:
        """Tells of existing keys. With the last page come the keys of which a put was under way then: of a key that was
        in a page, a store may be told late only if it is one of these."""
        told = self._told
        if not told.isdisjoint(encoded):
            new = [at for at, key in enumerate(encoded) if key not in told]
            keys, sizes = [keys[at] for at in new], [sizes[at] for at in new]
        if in_flight is None:
            told.update(encoded)
        else:
            self._in_pages = False
            self._told = (told & in_flight) | in_flight.intersection(encoded)
        self._pass_on(self._listener.on_l2_keys_stored, keys, sizes)

    def on_l2_keys_stored(self, keys: Sequence[Any], sizes: Sequence[int]) -> None:
        told = self._told
        if told or self._in_pages:
            encoded = self._encode(keys)
            new = [at for at, key in enumerate(encoded) if key not in told]
            if len(new) < len(keys):
                keys, sizes = [keys[at] for at in new], [sizes[at] for at in new]
            if self._in_pages:
                told.update(encoded)
            else:
                told.difference_update(encoded)
        self._pass_on(self._listener.on_l2_keys_stored, keys, sizes)

    def on_l2_keys_accessed(self, keys: Sequence[Any]) -> None:
        if self._in_pages:
            keys = self._known(keys)
        self._pass_on(self._listener.on_l2_keys_accessed, keys)

    def on_l2_keys_deleted(self, keys: Sequence[Any]) -> None:
        if self._in_pages:
            keys = self._known(keys)
        if self._told:
            self._told.difference_update(self._encode(keys))
        self._pass_on(self._listener.on_l2_keys_deleted, keys)

    def _known(self, keys: Sequence[Any]) -> list[Any]:
        return [key for key, encoded in zip(keys, self._encode(keys)) if encoded in self._told]

    def _pass_on(self, call: Callable[..., None], keys: Sequence[Any], *sizes: Any) -> None:
        if not keys:
            return
        try:
            call(keys, *sizes)
        except Exception:
            logger.exception("raw_block: a listener failed")
