"""A tiny random model of every decoder-only family that transformers has, as far as one can be made without kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

SIZES = {
    "vocab_size": 264, "hidden_size": 32, "d_model": 32, "n_embd": 32, "intermediate_size": 64, "ffn_dim": 64,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "num_attention_heads": 4, "num_heads": 4,
    "n_head": 4, "n_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
    "n_positions": 512, "n_ctx": 512, "max_seq_len": 512, "attention_hidden_size": 32, "bos_token_id": None,
    "eos_token_id": 256, "pad_token_id": 256, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "sliding_window": 8,
    "rotary_dim": 4, "state_size": 8, "time_step_rank": 2, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16,
    "mamba_n_groups": 1, "mamba_expand": 2,
}  # fmt: skip
