"""Sessions on tiny models, as if trained, and the same with the forward passes of the libraries."""

from __future__ import annotations

import copy

import torch
from peft.tuners.lora import Linear

from forgetfilter.models.cpu.blocks import fast_block
from forgetfilter.models.forward import CompletionScorer
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings


def make_session(folder, dtype="float32", device="cpu", **adapter) -> TrainableModel:
    return TrainableModel(
        find_model(str(folder)), ModelSettings(device=device, dtype=dtype), AdapterSettings(**adapter), seed=0
    )


def randomise(session: TrainableModel) -> None:
    """As if it had been trained: a fresh adapter adds nothing, and fresh norms and biases are ones and zeros."""
    generator = torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in session.model.named_parameters():
            if "lora_B" in name or "norm" in name or "bias" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=0.3)


def stock(session: TrainableModel) -> TrainableModel:
    """The same model with the forward passes of its libraries."""
    plain = copy.deepcopy(session)
    for module in plain.model.modules():
        if "forward" in module.__dict__ and (isinstance(module, Linear) or fast_block(module) is not None):
            del module.forward
    plain.scorer = CompletionScorer(plain.model)
    return plain
