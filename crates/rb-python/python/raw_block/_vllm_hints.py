"""What a request says about the future of its chunks.

A request gives them in `kv_transfer_params["raw_block"]`, or an orchestrator in a KV hint of the type "retain":

    {"priority": 3, "ttl_seconds": 3600, "chain_ended": true}
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_logger = logging.getLogger("vllm.raw_block")

_PRIORITY_MAX = 255
# Far enough to mean for ever, and near enough to be a time for the store.
_TTL_SECONDS_MAX = 10 * 365 * 86400.0
_ACTION = "retain"


@dataclass(frozen=True)
class Hints:
    priority: int = 0
    chain_ended: bool = False
    ttl_seconds: float | None = None

    @property
    def expires(self) -> float | None:
        return None if self.ttl_seconds is None else time.time() + self.ttl_seconds


_warned = False


def hints_of(request: Any) -> Hints:
    """The hints of a request's context, which remembers them."""
    known = request.get_state(Hints)
    if isinstance(known, Hints):
        return known
    fields: dict[str, Any] = {}
    for source in _sources(request):
        for name, check in _CHECKS.items():
            if name not in source:
                continue
            try:
                fields[name] = check(source[name])
            except (TypeError, ValueError) as error:
                _warn(f"{name} = {source[name]!r}: {error}")
    hints = Hints(**fields)
    request.set_state(hints)
    return hints


def _sources(request: Any) -> Iterator[Mapping[str, Any]]:
    """A client's own hints come last, as they are about this very request."""
    envelope = getattr(request, "kv_hints", None)
    for action in envelope.actions if envelope is not None else ():
        if action.action_type == _ACTION and isinstance(action.payload, Mapping):
            yield action.payload
    params = (request.kv_transfer_params or {}).get("raw_block")
    if isinstance(params, Mapping):
        yield params
    elif params is not None:
        _warn(f"{params!r} is not a table")


def _warn(words: str) -> None:
    """Once: they come from clients, who could fill the log. A wrong hint never fails a request."""
    global _warned
    if not _warned:
        _warned = True
        _logger.warning("raw_block: wrong hints of requests are ignored, the first one is %.200s", words)


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("expected a whole number")
    return min(max(value, 0), _PRIORITY_MAX)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("expected a number of seconds")
    if math.isnan(value) or value < 0:
        raise ValueError("expected a number of seconds from now on")
    return float(min(value, _TTL_SECONDS_MAX))


_CHECKS = {"priority": _priority, "chain_ended": _flag, "ttl_seconds": _seconds}
