"""Sizes of objects, against figures computed by hand from public configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from raw_block.plan import groups, main

LLAMA_8B = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
LLAMA_70B = {"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "hidden_size": 8192}
DEEPSEEK_V3 = {"num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
GEMMA_27B = {
    "text_config": {
        "num_hidden_layers": 62,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "sliding_window_pattern": 6,
    }
}


@pytest.mark.parametrize(
    ("config", "tp", "dtype", "sizes"),
    [
        (LLAMA_8B, 1, "bf16", [33_554_432]),
        (LLAMA_8B, 2, "bf16", [16 << 20]),
        (LLAMA_70B, 8, "bf16", [10_485_760]),
        (LLAMA_70B, 16, "bf16", [10_485_760]),
        (DEEPSEEK_V3, 8, "bf16", [17_989_632]),
        (GEMMA_27B, 1, "bf16", [104 << 20, 20 << 20]),
    ],
)
def test_objects_have_the_sizes_that_the_engines_store(
    config: dict[str, Any], tp: int, dtype: str, sizes: list[int]
) -> None:
    assert [group.object_bytes for group in groups(config, chunk=256, tp=tp, dtype=dtype)] == sizes


def test_the_command_prints_what_a_store_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B))
    main(["--config", str(path), "--bytes", "33GiB"])
    printed = capsys.readouterr().out
    # 32 slots of 1 MiB and 4096 bytes.
    assert "holds about 1,051 chunks" in printed and "33,554,432" in printed
