"""A tiny random model of every decoder-only family that transformers has, where one can be made without kernels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from support.tiny_models import make_tokenizer

# Of these a family gets what its configuration knows.
SIZES: dict[str, Any] = {
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

_LATENT = {
    "kv_lora_rank": 8, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4,
}  # fmt: skip
_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
_CONV = {"layer_types": ["conv", "full_attention"]}
_SLIDING = {"layer_types": ["sliding_attention", "full_attention"]}
_GROUPED = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
_SHARED = {"attention_hidden_size": 64, "attention_head_dim": 16, "num_key_value_heads": 4, "use_mamba_kernels": False}
_PER_LAYER = {"vocab_size_per_layer_input": 264, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2}

# Families that need nothing besides, or latent attention, or one block in two of linear attention.
PLAIN = """
afmoe apertus arcee aria_text beam biogpt bitnet bloom codegen cohere cohere2 cohere2_moe ctrl deepseek_v4
diffllama doge ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_mamba flex_olmo flint gemma gemma2
gemma3_text glm glm4 glm4_moe gpt2 gpt_bigcode gpt_neox gpt_neox_japanese gpt_oss gptj granite granite_swa
granitemoe granitemoe_swa granitemoeshared helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4
hyperclovax jais2 jetmoe kolibri1 laguna llama llama4_text mamba mellum mimo_v2_flash minimax_m2 ministral
ministral3 mistral mixtral mpt nanochat nemotron olmo olmo2 olmo3 olmoe openai-gpt opt persimmon phi phi3 phimoe
qwen2 qwen2_moe qwen3 qwen3_moe rwkv seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma xglm
"""
LATENT = "axk1 deepseek_v2 deepseek_v3 glm4_moe_lite minicpm3 youtu"
LINEAR = "minimax olmo_hybrid qwen3_5_moe_text qwen3_5_text qwen3_next"

# By model type, what a family needs besides.
FAMILIES: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in PLAIN.split()},
    **dict.fromkeys(LATENT.split(), _LATENT),
    **dict.fromkeys(LINEAR.split(), _LINEAR),
    "bailing_hybrid": _LATENT | _LINEAR,
    "bamba": {"num_hidden_layers": 3, "attn_layer_indices": [1]},
    "cwm": {"bos_token_id": 1},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
    },
    "deepseek_v32": _LATENT | {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 128},
    "dots1": _GROUPED | {"n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": _PER_LAYER
    | {
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "activation_sparsity_pattern": [0.0] * 6,
        "laurel_rank": 4,
    },
    "gemma4_text": _PER_LAYER
    | {"num_hidden_layers": 4, "layer_types": _SLIDING["layer_types"] * 2, "global_head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "granitemoehybrid": {
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "attention", "mamba"],
        "shared_intermediate_size": 32,
    },
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": _LATENT | _LINEAR | {"linear_num_heads": 2, "linear_head_dim": 8},
    "lfm2": _CONV | {"block_auto_adjust_ff_dim": False},
    "lfm2_moe": _CONV | {"num_dense_layers": 1},
    "lfm3": _CONV,
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2, "expand": 2},
    "modernbert-decoder": {"bos_token_id": 1, "cls_token_id": 1, "sep_token_id": 2},
    "nemotron_h": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "attention", "mlp", "moe"],
        "moe_shared_expert_intermediate_size": 16,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
    },
    "recurrent_gemma": {
        "num_hidden_layers": 3,
        "block_types": ["recurrent", "recurrent", "attention"],
        "attention_window_size": 8,
        "lru_width": 32,
    },
    "xlstm": {"hidden_size": 64, "num_blocks": 2, "embedding_dim": 64},
    "zamba": _SHARED
    | {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "mamba_dt_rank": 4,
        "n_mamba_heads": 2,
    },
    "zamba2": _SHARED
    | {
        "num_hidden_layers": 3,
        "layers_block_type": ["mamba", "hybrid", "mamba"],
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
        "mamba_ngroups": 1,
        "num_mem_blocks": 1,
        "adapter_rank": 4,
    },
    "zaya": {"num_experts_per_tok": 1, "num_hidden_layers": 2},
}

# Encoders, and others that read both ways.
NOT_CAUSAL = """
bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert roberta roberta-prelayernorm
roformer xlm xlm-roberta
"""


def tiny_config(kind: str) -> Any:
    """The configuration of a tiny model of a family."""
    plain = type(AutoConfig.for_model(kind).get_text_config())
    known = {name for base in plain.__mro__ for name in getattr(base, "__annotations__", {})}
    known |= set(getattr(plain, "attribute_map", {}))
    known = {name for name in known if not isinstance(getattr(plain, name, None), property)}
    return plain(**{name: value for name, value in SIZES.items() if name in known} | FAMILIES.get(kind, {}))


def make_family(kind: str, folder: Path) -> Path:
    """Save a tiny random model of a family, with a tokenizer."""
    transformers.set_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(kind))
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    # Where a family's own class is saved under another name than the one that reads text alone, this one is meant.
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [type(model).__name__]
    return folder
