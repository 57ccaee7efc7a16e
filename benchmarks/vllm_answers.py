"""Decode with vLLM for `decoding.py`, in a separate process that needs nothing but vLLM.

Called with the folder that `decoding.py` filled, in which `vllm.json` will be, and the number of rounds.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    work, rounds = Path(sys.argv[1]), int(sys.argv[2])
    # One process, so that its time can be measured; no sampler that is compiled first; nothing is sent anywhere.
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    vllm: Any = importlib.import_module("vllm")
    workload = json.loads((work / "prompts.json").read_text(encoding="utf-8"))
    config = json.loads((work / "model" / "config.json").read_text(encoding="utf-8"))
    # CUDA graphs for decoding, as ours has, without a minute of compilation first; not all of the memory, as the
    # process that waits for this one holds some.
    llm = vllm.LLM(
        model=str(work / "model"),
        dtype=config["dtype"],
        max_model_len=max(map(len, workload["prompts"])) + workload["most"],
        gpu_memory_utilization=0.4,
        compilation_config={"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
    )
    prompts = [{"prompt_token_ids": prompt} for prompt in workload["prompts"]]
    settings = vllm.SamplingParams(temperature=0.0, max_tokens=workload["most"])

    def answer() -> tuple[float, list[str]]:
        llm.reset_prefix_cache()
        began = time.perf_counter()
        outputs = llm.generate(prompts, settings, use_tqdm=False)
        return time.perf_counter() - began, [output.outputs[0].text for output in outputs]

    answer()
    turns = [answer() for _ in range(rounds)]
    result = {"name": f"vLLM {vllm.__version__}", "seconds": [seconds for seconds, _ in turns], "answers": turns[0][1]}
    (work / "vllm.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
