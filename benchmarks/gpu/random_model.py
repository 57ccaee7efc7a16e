"""Write a model of three billion random weights, of the shape of Llama 3.2 3B, for measurements of speed.

    python -m gpu.random_model --to /tmp/random-3b

Its tokenizer and vocabulary are those of SmolLM2-135M, so that it sees the same tokens. In bfloat16, 5.9 GB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from forgetfilter.models.loading import load_tokenizer
from forgetfilter.models.sources import SMOLLM2, find_model

SHAPE = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
}
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def write(folder: Path, model: str, shape: dict[str, int]) -> None:
    """Write a model of this shape with random weights, and the tokenizer of another."""
    tokenizer = load_tokenizer(find_model(model))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
        **shape,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="folder for the model; left alone where it is there")
    parser.add_argument("--tokenizer-of", default=SMOLLM2, metavar="MODEL")
    parser.add_argument("--tiny", action="store_true", help="a few thousand weights, to see that it works")
    options = parser.parse_args()
    if not (options.to / "config.json").exists():
        write(options.to, options.tokenizer_of, TINY if options.tiny else SHAPE)


if __name__ == "__main__":
    main()
