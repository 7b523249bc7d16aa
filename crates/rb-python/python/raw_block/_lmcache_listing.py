"""Pages of keys for LMCache's object service."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import Any

from . import _native as native
from ._lmcache_host import api
from ._lmcache_keys import KeyCodec

_CURSORS_MAX = 64
_PAGES_MAX = 100


class Listing:
    """Lists the keys of a store. The tokens of pages are kept here, the most recent ones."""

    def __init__(self, store: native.Store, codec: KeyCodec) -> None:
        self._store = store
        self._codec = codec
        self._lock = threading.Lock()
        self._cursors: OrderedDict[str, native.Cursor] = OrderedDict()

    def page(self, model_name: str | None, page_size: int, token: str | None) -> Any:
        if page_size <= 0:
            raise ValueError(f"page_size must be above 0, and is {page_size}")
        cursor = None if token is None else self._cursor(token)
        found: list[Any] = []
        # Bounded, as few keys may be of the model: a page may be short and yet not the last.
        for _ in range(_PAGES_MAX):
            entries, cursor = self._store.list(cursor, page_size - len(found))
            for encoded, length, _metadata in entries:
                key = self._codec.decode(encoded)
                if key is not None and model_name in (None, key.model_name):
                    found.append(api.KeyEntry(key=key.to_encoded_object_key(), size_bytes=length))
            if cursor is None or len(found) == page_size:
                break
        return api.KeyListPage(entries=tuple(found), next_page_token=None if cursor is None else self._keep(cursor))

    def _cursor(self, token: str) -> native.Cursor:
        with self._lock:
            cursor = self._cursors.get(token)
        if cursor is None:
            raise ValueError(f"page token {token!r} is unknown, or too old")
        return cursor

    def _keep(self, cursor: native.Cursor) -> str:
        token = secrets.token_urlsafe(12)
        with self._lock:
            self._cursors[token] = cursor
            if len(self._cursors) > _CURSORS_MAX:
                self._cursors.popitem(last=False)
        return token
