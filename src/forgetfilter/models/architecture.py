"""Find a model's text model and its decoder blocks, and put LoRA adapters on its linear layers."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import SettingsError, first_line
from ..settings.groups import AdapterSettings
from ..settings.option import split_names
from .checkpoint import LoraShape
from .cpu.blocks import base_of

ALL_LINEAR, LAST_BLOCK, QUERY_VALUE = "all-linear", "last-block", "query-value"
# What models call their query and value projections; GPT-2 and others have them in one layer with the key's.
_QUERY_VALUE = {"q_proj", "v_proj", "query", "value", "c_attn", "query_key_value", "qkv_proj", "Wqkv"}
# What chooses experts: layers of these classes, or within them, and linear layers of these names.
_ROUTER_CLASS = re.compile(r"Router|Gating|TopK|MoE\w*Gate$|MoEGate")
_ROUTER_NAMES = {"gate", "router", "classifier", "shared_expert_gate"}
# State-space layers use the weights of these without calling them; peft refuses them for most models that have them.
_READ_ALONE = {"out_proj", "conv1d"}
_STATE_SPACE = {"A_log", "D"}
# So much of a name is shown.
_SHOWN = 60


def text_model(model: Any) -> nn.Module:
    """Find the part of a model, with or without peft, that reads text, rather than images or audio."""
    base = base_of(model)
    found: Any = base.get_decoder() if hasattr(base, "get_decoder") else base
    # Some call their head a decoder.
    return found if isinstance(found, nn.Module) and any(_outermost_lists(found)) else base


def decoder_blocks(model: Any) -> list[nn.Module]:
    """List the text model's blocks, lowest first: the outermost list of modules with the most weights.

    Numbers in the names of layers are no guide: a model numbers its experts, codebooks and own adapters as well.
    """
    lists = _outermost_lists(text_model(model))
    return list(max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()), default=()))


def _outermost_lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _outermost_lists(child)


def add_adapter(model: PreTrainedModel, settings: AdapterSettings) -> PeftModel:
    """Put a LoRA adapter on linear layers of the text model, or of its top blocks; the base weights are frozen.

    The head and the embeddings get none, nor do routers, nor layers whose weights a state-space layer reads directly.

    Raises:
        SettingsError: A name in `lora_targets` fits no layer that can have one.
    """
    shape = {"r": settings.lora_rank, "lora_alpha": settings.lora_alpha, "lora_dropout": settings.lora_dropout}
    return _put_on(model, _chosen(model, settings), shape)


def add_adapter_like(model: PreTrainedModel, lora: LoraShape, dropout: float) -> PeftModel:
    """Put a new LoRA adapter on a model that has the layers and the form of another; the base weights are frozen."""
    shape = {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": dropout,
        "use_rslora": lora.rank_stabilised,
        "rank_pattern": {re.escape(name): rank for name, rank in lora.ranks.items()},
        "alpha_pattern": dict(lora.alphas),
    }
    return _put_on(model, list(lora.layers), shape)


def _put_on(model: PreTrainedModel, targets: Sequence[str], shape: Mapping[str, Any]) -> PeftModel:
    everything = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    config = LoraConfig(
        **shape,
        target_modules=list(targets),
        # peft goes by the ends of names, which the layers of another tower may share.
        exclude_modules=[name for name in everything if name not in targets and _is_among(name, targets)] or None,
        task_type="CAUSAL_LM",
        # Layers of GPT-2's kind store their weights transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        problem = first_line(error)
        raise SettingsError(f"lora_targets: {problem}") from error


def _chosen(model: PreTrainedModel, settings: AdapterSettings) -> list[str]:
    """Choose the layers that get an adapter."""
    linear = adaptable(model)
    blocks = decoder_blocks(model)
    share = settings.top_blocks or 1
    count = 1 if settings.lora_targets == LAST_BLOCK else math.ceil(share * len(blocks))
    chosen = _inside(model, linear, blocks[len(blocks) - count :]) if count < len(blocks) else linear
    named = settings.lora_targets
    if named == QUERY_VALUE:
        chosen = [name for name in chosen if name.rpartition(".")[2] in _QUERY_VALUE]
    elif named not in (ALL_LINEAR, LAST_BLOCK):
        names = split_names(named)
        unfit = [name for name in names if not any(_is_among(layer, [name]) for layer in chosen)]
        if unfit:
            raise SettingsError(_unfit(model, unfit, linear, share))
        chosen = [layer for layer in chosen if _is_among(layer, names)]
    if not chosen:
        raise SettingsError(_unfit(model, [named], linear, share))
    return chosen


def adaptable(model: PreTrainedModel) -> list[str]:
    """List the names of the linear layers that can have an adapter, in order."""
    inside = {id(module) for module in text_model(model).modules()}
    head = {id(module) for module in (model.get_output_embeddings(), model.get_input_embeddings())}
    modules = dict(model.named_modules())
    return [
        name
        for name, module in modules.items()
        if isinstance(module, (nn.Linear, Conv1D))
        and id(module) in inside - head
        and _is_linear(module)
        and not _routes(name, modules)
        and not _is_read_alone(name, modules)
    ]


@torch.no_grad()
def _is_linear(module: nn.Linear | Conv1D) -> bool:
    """Check that a layer maps a vector to a vector; a class that inherits from Linear may do anything."""
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        # PyTorch's own attention reads its weight alone.
        return False
    if isinstance(module, Conv1D) or type(module).forward is nn.Linear.forward:
        return True
    try:
        made = module(module.weight.new_zeros(1, 1, module.in_features))
    except Exception:
        # It is a program of the model's authors.
        return False
    return isinstance(made, torch.Tensor) and made.shape == (1, 1, module.out_features)


def _routes(name: str, modules: dict[str, nn.Module]) -> bool:
    """Check whether a layer is, or is part of, a router that chooses experts."""
    *above, last = name.split(".")
    classes = [type(modules[".".join(name.split(".")[: i + 1])]).__name__ for i in range(len(above) + 1)]
    return last in _ROUTER_NAMES or any("router" in part for part in above) or any(map(_ROUTER_CLASS.search, classes))


def _is_read_alone(name: str, modules: dict[str, nn.Module]) -> bool:
    above, _, last = name.rpartition(".")
    return last in _READ_ALONE and all(hasattr(modules[above], part) for part in _STATE_SPACE)


def _inside(model: nn.Module, names: Sequence[str], blocks: Sequence[nn.Module]) -> list[str]:
    """Select the layers that lie within these blocks."""
    inside = {id(module) for block in blocks for module in block.modules()}
    modules = dict(model.named_modules())
    return [name for name in names if id(modules[name]) in inside]


def _is_among(name: str, targets: Sequence[str]) -> bool:
    """Check whether a layer's name ends with one of these targets, which is how peft matches them."""
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _unfit(model: PreTrainedModel, names: Sequence[str], linear: Sequence[str], share: float) -> str:
    """Say why these names cannot have an adapter, and what to do."""
    said = " and ".join(f"'{name[:_SHOWN]}'" for name in names)
    there = [name for name, module in model.named_modules() if name and not isinstance(module, nn.ModuleList)]
    if not linear:
        return (
            "lora_targets: this model has no layer that can have a LoRA adapter; filter can train its weights instead "
            "(--full-finetuning), everything else needs another model"
        )
    known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    if share < 1 and any(_is_among(layer, names) for layer in linear):
        return f"lora_targets: {said} fits no layer of the top {share:.0%} of the blocks; raise --top-blocks for others"
    if any(_is_among(name, names) for name in there):
        return f"lora_targets: {said} can have no adapter in this model; layers that can: {known}"
    return f"lora_targets: {said} fits no layer of this model; layers that can have an adapter: {known}"
