"""Sizes of a model's objects, and what a store holds of them:

    python -m raw_block.plan --config config.json --chunk 256 --tp 8 --bytes 1TiB
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._config import size

_HEADER = 4096
_DTYPES = {"bf16": 2, "fp16": 2, "fp8": 1, "fp32": 4}


class Group(NamedTuple):
    """Layers whose blocks are stored in one object."""

    name: str
    layers: int
    object_bytes: int


def groups(config: Mapping[str, Any], *, chunk: int, tp: int, dtype: str) -> list[Group]:
    """The groups of layers of a model, from its config.json. Layers without a cache that grows with the tokens, such as
    those of linear attention, are left out: their state depends on the engine."""
    # The part for text of a model that also sees.
    config = config.get("text_config", config)
    layers = int(config["num_hidden_layers"])
    element = _DTYPES[dtype]
    if config.get("kv_lora_rank"):
        # Multi-head latent attention: one vector for all heads, which all ranks hold.
        width = config["kv_lora_rank"] + config["qk_rope_head_dim"]
        return [Group("latent attention", layers, layers * width * element * chunk)]
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    head = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    # More ranks than heads hold copies of them.
    a_layer = 2 * max(1, heads // tp) * head * element * chunk
    kinds = Counter(_kinds(config, layers))
    return [Group(kind.replace("_", " "), count, count * a_layer) for kind, count in kinds.items()]


def _kinds(config: Mapping[str, Any], layers: int) -> Sequence[str]:
    kinds = config.get("layer_types")
    if kinds:
        return [kind for kind in kinds if kind.endswith("attention") and "linear" not in kind]
    pattern = config.get("sliding_window_pattern")
    if pattern:
        # Every so many layers, one sees all tokens.
        return ["sliding_attention" if (at + 1) % pattern else "full_attention" for at in range(layers)]
    return ["full_attention"] * layers


def slots(length: int, slot_bytes: int) -> int:
    """The number of slots of a value."""
    return -(-length // slot_bytes)


def report(found: Sequence[Group], *, slot_bytes: int, store_bytes: int) -> str:
    """A table: what each group stores, and how many tokens' worth of objects a store holds."""
    lines = [f"{'group':<20} {'layers':>6} {'object':>14} {'slots':>6} {'unused':>7}"]
    for group in found:
        count = slots(group.object_bytes, slot_bytes)
        unused = 1 - group.object_bytes / (count * slot_bytes)
        lines.append(
            f"{group.name:<20} {group.layers:>6} {group.object_bytes:>14,} {count:>6} {unused:>7.2%}"
        )
    taken = sum(slots(group.object_bytes, slot_bytes) for group in found) * (slot_bytes + _HEADER)
    # The metadata takes some of the device: 0.02 % with slots of 1 MiB.
    lines.append(f"a store of {store_bytes / 2**30:,.0f} GiB holds about {store_bytes // taken:,} chunks of all groups")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m raw_block.plan", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.json of the model")
    parser.add_argument("--chunk", type=int, default=256, help="tokens of an object (default: 256, as LMCache)")
    parser.add_argument("--tp", type=int, default=1, help="ranks of tensor parallelism")
    parser.add_argument("--dtype", choices=_DTYPES, default="bf16", help="data type of the KV cache")
    parser.add_argument("--slot-bytes", type=size, default=1 << 20, help="capacity of a slot (default: 1MiB)")
    parser.add_argument("--bytes", type=size, default=1 << 40, help="size of the store (default: 1TiB)")
    options = parser.parse_args(arguments)
    config = json.loads(options.config.read_text())
    found = groups(config, chunk=options.chunk, tp=options.tp, dtype=options.dtype)
    print(report(found, slot_bytes=options.slot_bytes, store_bytes=options.bytes))


if __name__ == "__main__":
    main()
