"""A small model served by vLLM on the CPU: the same prompts before and after a restart of the engine.

After it, the prompts' blocks come from the store: the cached tokens say so, and the outputs are the same."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import step

PROMPTS = 8
TOKENS = 416
# The smallest that vLLM has on the CPU.
BLOCK = 32
GENERATED = 16


def make_model(folder: Path) -> None:
    """Two layers of Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def serve(model: str, store: str) -> None:
    """Serves the prompts once, and prints the outputs and how many tokens of each prompt were cached."""
    from vllm import LLM, SamplingParams

    extra = {
        "spec_name": "CpuTieringSpec",
        "spec_module_path": "cpu_spec",
        "cpu_bytes_to_use": 64 << 20,
        "secondary_tiers": [
            {"type": "RawBlockTier", "module_path": "raw_block.vllm", "path": store, "bytes": "256MiB"},
        ],
    }
    engine = LLM(
        model=model,
        skip_tokenizer_init=True,
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        block_size=BLOCK,
        seed=1,
        max_num_seqs=4,
        kv_transfer_config={
            "kv_connector": "OffloadingConnector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": extra,
        },
    )
    prompts: list[Any] = [
        {"prompt_token_ids": [(seed * 131 + at * 7) % 1000 + 1 for at in range(TOKENS)]} for seed in range(PROMPTS)
    ]
    sampling = SamplingParams(temperature=0.0, max_tokens=GENERATED, detokenize=False, ignore_eos=True)
    outputs = engine.generate(prompts, sampling, use_tqdm=False)
    result = [[output.num_cached_tokens or 0, list(output.outputs[0].token_ids)] for output in outputs]
    # Ends the engine, and with it the tier, which closes its store.
    engine.llm_engine.engine_core.shutdown()
    sys.stdout.write(f"\nSERVED {json.dumps(result)}\n")
    sys.stdout.flush()
    os._exit(0)


def run(model: Path, store: Path) -> list[Any]:
    here = str(Path(__file__).parent)
    environment = {
        **os.environ,
        "PYTHONPATH": here,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, __file__, "--serve", str(model), str(store)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=600, check=False)
    sys.stdout.write(done.stdout)
    served = [line for line in done.stdout.splitlines() if line.startswith("SERVED ")]
    assert served, f"the engine has ended with {done.returncode}"
    return list(json.loads(served[0].removeprefix("SERVED ")))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", nargs=2)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    with step("vllm/model") as running, tempfile.TemporaryDirectory() as folder:
        model, store = Path(folder) / "model", Path(folder) / "store"
        make_model(model)
        before, after = run(model, store), run(model, store)
        cached = [sum(tokens for tokens, _ in each) for each in (before, after)]
        running.figures = {"cached_before": cached[0], "cached_after": cached[1]}
        running.figure = f"{cached[1]} of {PROMPTS * TOKENS} prompt tokens from the store after a restart"
        assert cached[0] == 0
        # The last block of a prompt is computed, so that there is something to sample from.
        assert cached[1] >= PROMPTS * (TOKENS - BLOCK)
        assert [output for _, output in before] == [output for _, output in after], "the outputs differ"
        running.figure += ", outputs equal"


if __name__ == "__main__":
    main()
