"""How keys and layouts of LMCache are written in a store."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from ._lmcache_host import api

# version, kv_rank, object group, length of the chunk hash; the hash follows, then the tail.
_HEAD = struct.Struct("<BIIB")
_TAIL = struct.Struct("<H")
_VERSION = 1
_TAILS_MAX = 65_536

LAYOUT_BYTES = 8
_ANY_LAYOUT = bytes(LAYOUT_BYTES)


class KeyCodec:
    """Keys as bytes, reversible: head | chunk hash | length of the model's name | model | salt.

    The tail of a key is the same for all keys of a model and salt, so it is made once. All but the hash is the same for
    all keys of a rank and group, too, so it is read once."""

    def __init__(self) -> None:
        self._tails: dict[tuple[str, str], bytes] = {}
        # A key of LMCache's for each form, of which the others are copies with another hash. None for what is no key.
        self._forms: dict[tuple[bytes, bytes], Any] = {}

    def encode(self, keys: Sequence[Any]) -> list[bytes]:
        """A key that has no such form becomes empty. The store answers that it is invalid, and the batch goes on."""
        encoded: list[bytes] = []
        rank = group = length = model = salt = None
        head = tail = b""
        try:
            for key in keys:
                chunk_hash = key.chunk_hash
                # The keys of a batch are mostly alike, and to compare is cheaper than to pack.
                if (
                    key.kv_rank != rank
                    or key.object_group_id != group
                    or len(chunk_hash) != length
                    or key.model_name != model
                    or key.cache_salt != salt
                ):
                    rank, group, length = key.kv_rank, key.object_group_id, len(chunk_hash)
                    model, salt = key.model_name, key.cache_salt
                    head = _HEAD.pack(_VERSION, rank, group, length)
                    tail = self._tails.get((model, salt)) or self._tail(key)
                encoded.append(head + chunk_hash + tail)
            return encoded
        except (struct.error, UnicodeError):
            return [self.encode([key])[0] for key in keys] if len(keys) > 1 else [b""] * len(keys)

    def decode(self, key: bytes) -> Any | None:
        """None for bytes that are no key of LMCache's, or of another version."""
        form = self._form_of(key)
        return None if form is None else _with_hash(form, key[_HEAD.size : _HEAD.size + key[_HEAD.size - 1]])

    def decode_all(self, keys: Sequence[bytes]) -> list[Any | None]:
        """As `decode` of each."""
        decoded: list[Any | None] = []
        add, new, cls, start = decoded.append, object.__new__, api.ObjectKey, _HEAD.size
        form = None
        fields: dict[str, Any] = {}
        for key, (its, end) in zip(keys, self._forms_of(keys)):
            if its is None:
                add(None)
                continue
            if not _PLAIN:
                add(_with_hash(its, key[start:end]))
                continue
            if its is not form:
                form, fields = its, dict(its.__dict__)
            made = new(cls)
            of_made = made.__dict__
            of_made |= fields
            of_made["chunk_hash"] = key[start:end]
            add(made)
        return decoded

    def salts_of(self, keys: Sequence[bytes]) -> Iterator[str | None]:
        """As `salt_of` of each."""
        for form, _ in self._forms_of(keys):
            yield None if form is None else form.cache_salt

    def _forms_of(self, keys: Sequence[bytes]) -> Iterator[tuple[Any | None, int]]:
        """The form of each key, and where its hash ends. The keys of a store are mostly alike, and to compare is cheaper
        than to look up."""
        start = _HEAD.size
        same: tuple[Any | None, int] = (None, 0)
        length, end, head, tail = -1, 0, b"", b""
        for key in keys:
            if len(key) != length or key[:start] != head or key[end:] != tail:
                form = self._form_of(key)
                if form is None:
                    length = -1
                    yield None, 0
                    continue
                length, head, end = len(key), key[:start], start + key[start - 1]
                tail = key[end:]
                same = (form, end)
            yield same

    def salt_of(self, key: bytes) -> str | None:
        """The salt alone."""
        form = self._form_of(key)
        return None if form is None else str(form.cache_salt)

    def _form_of(self, key: bytes) -> Any | None:
        head = key[: _HEAD.size]
        try:
            name = head, key[_HEAD.size + head[-1] :]
            return self._forms[name]
        except (IndexError, KeyError):
            pass
        form = _parse(key)
        if len(head) == _HEAD.size:
            if len(self._forms) >= _TAILS_MAX:
                self._forms.clear()
            self._forms[name] = form
        return form

    def _tail(self, key: Any) -> bytes:
        name: bytes = key.model_name.encode()
        tail: bytes = _TAIL.pack(len(name)) + name + key.cache_salt.encode()
        if len(self._tails) >= _TAILS_MAX:
            self._tails.clear()
        self._tails[key.model_name, key.cache_salt] = tail
        return tail


def _parse(key: bytes) -> Any | None:
    try:
        version, kv_rank, group, hash_len = _HEAD.unpack_from(key)
        model_at = _HEAD.size + hash_len + _TAIL.size
        (model_len,) = _TAIL.unpack_from(key, model_at - _TAIL.size)
        salt_at = model_at + model_len
        if version != _VERSION or salt_at > len(key):
            return None
        return api.ObjectKey(
            chunk_hash=key[_HEAD.size : _HEAD.size + hash_len],
            model_name=key[model_at:salt_at].decode(),
            kv_rank=kv_rank,
            object_group_id=group,
            cache_salt=key[salt_at:].decode(),
        )
    except (struct.error, ValueError):
        return None


def _is_plain() -> bool:
    """Whether keys of LMCache's are no more than their fields."""
    key = api.ObjectKey(b"", "", 0)
    names = {field.name for field in dataclasses.fields(api.ObjectKey)}
    return getattr(key, "__dict__", {}).keys() == names


def _copied(form: Any, chunk_hash: bytes) -> Any:
    # The constructor would check model and salt again, which takes four times as long as all else.
    key = object.__new__(api.ObjectKey)
    fields = key.__dict__
    fields.update(form.__dict__)
    fields["chunk_hash"] = chunk_hash
    return key


def _made(form: Any, chunk_hash: bytes) -> Any:
    return dataclasses.replace(form, chunk_hash=chunk_hash)


_PLAIN = _is_plain()
_with_hash = _copied if _PLAIN else _made


class Layouts:
    """A short hash of shapes, types and format of an object. It is stored with the value and must be that of the object
    that is loaded into. So a cache of another layout is a miss, and not garbage.

    Objects of plain bytes have no layout: their memory is an upper bound of what a value may take."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def of(self, objects: Sequence[Any]) -> list[bytes]:
        hashes: list[bytes] = []
        digest: bytes | None = None
        shapes = shape = dtypes = dtype = fmt = None
        for obj in objects:
            meta = obj.metadata
            # The objects of a batch are mostly alike, and to compare is cheaper than to look up.
            if (
                digest is None
                or meta.fmt is not fmt
                or meta.dtype is not dtype
                or meta.shape != shape
                or meta.shapes != shapes
                or meta.dtypes != dtypes
            ):
                shapes, shape, dtypes, dtype, fmt = meta.shapes, meta.shape, meta.dtypes, meta.dtype, meta.fmt
                digest = self._hash(meta)
            hashes.append(digest)
        return hashes

    def expected(self, objects: Sequence[Any]) -> tuple[list[bytes | None], int]:
        """What a load expects of each value, and how many objects are of plain bytes."""
        hashes = self.of(objects)
        loose = hashes.count(_ANY_LAYOUT)
        return ([None if digest == _ANY_LAYOUT else digest for digest in hashes] if loose else list(hashes)), loose

    def _hash(self, meta: Any) -> bytes:
        dtypes = meta.dtypes if meta.dtypes else [meta.dtype]
        if all(dtype is None or str(dtype) == "torch.uint8" for dtype in dtypes):
            return _ANY_LAYOUT
        shapes = meta.shapes if meta.shapes else [meta.shape]
        form = getattr(meta.fmt, "name", meta.fmt)
        words = f"{[tuple(shape) for shape in shapes]} {[str(dtype) for dtype in dtypes]} {form}"
        digest = self._known.get(words)
        if digest is None:
            digest = self._known[words] = blake2b(words.encode(), digest_size=LAYOUT_BYTES).digest()
        return digest
