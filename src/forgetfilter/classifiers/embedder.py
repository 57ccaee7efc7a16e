"""Embed texts with a sentence-embedding model: texts that mean similar things get similar directions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..console import printable
from ..errors import ModelError
from ..models.loading import (
    check_model,
    choose_hardware,
    file_of,
    load_reader,
    load_tokenizer,
    model_fingerprint,
    quiet_libraries,
)
from ..models.sources import ModelSource, find_model
from ..settings.groups import ModelSettings
from .batches import by_length

# What sentence-transformers writes beside a model, and says of how hidden states become an embedding.
_POOLING_FILE = "1_Pooling/config.json"
_LONGEST = 256
# Makes embeddings of the hidden states of some texts, shape (n, tokens, width), and of the mask of their tokens.
Pooling: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    inside = mask.unsqueeze(-1).to(states.dtype)
    mean: Tensor = (states * inside).sum(dim=1) / inside.sum(dim=1)
    return mean


def _first(states: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001
    return states[:, 0]


def _last(states: Tensor, mask: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]


_POOLINGS: dict[str, Pooling] = {"mean": _mean, "cls": _first, "lasttoken": _last}


class Embedder:
    """Embeds texts, each up to 256 tokens, on one device.

    Attributes:
        width: Numbers of an embedding.
        fingerprint: Tells the model from others.
    """

    def __init__(self, name: str, device: str) -> None:
        """Load the model, from safetensors alone and without code of its own.

        Args:
            name: A hub id, a folder, or all-minilm-l6-v2.
            device: Where it runs; see the setting of that name.

        Raises:
            ModelError: As `check_embedder`.
        """
        source, self._tokenizer, self._pool = check_embedder(name)
        self._model = load_reader(source, "embedder", choose_hardware(ModelSettings(device=device)).device)
        self.fingerprint = model_fingerprint(source)
        self.width = int(self._model.config.hidden_size)
        self._longest = min(_LONGEST, int(getattr(self._model.config, "max_position_embeddings", None) or _LONGEST))

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n texts as vectors of length one, shape (n, width); that of an empty text is zero."""
        embeddings = np.zeros((len(texts), self.width), dtype=np.float32)
        for places, inputs in by_length(texts, self._tokenizer, self._longest, self._model.device):
            pooled = self._pool(self._model(**inputs).last_hidden_state, inputs["attention_mask"])
            embeddings[places] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return embeddings


def check_embedder(name: str) -> tuple[ModelSource, Any, Pooling]:
    """Refuse a model that cannot embed texts before any work; see `models.loading.check_model`.

    Args:
        name: As `Embedder` takes it.

    Returns:
        Where the model is, its tokenizer, and how its hidden states become an embedding.

    Raises:
        ModelError: It cannot be loaded, or its hidden states become an embedding in a way that is not known here.
    """
    quiet_libraries()
    source = find_model(name)
    tokenizer = load_tokenizer(source)
    # The last token is sought from the left.
    tokenizer.padding_side = "right"
    check_model(source, tokenizer, "embedder")
    return source, tokenizer, _pooling(source)


def _pooling(source: ModelSource) -> Pooling:
    """Return how the model's hidden states become an embedding: as their mean where nothing says how."""
    path = file_of(source, _POOLING_FILE)
    if path is None:
        return _mean
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        wanted = [_short(name) for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as what sentence-transformers writes") from error
    if len(wanted) == 1 and wanted[0] in _POOLINGS:
        return _POOLINGS[wanted[0]]
    asked = printable(", ".join(wanted) or "none", 120)
    raise ModelError(f"{path}: asks for the pooling {asked}; known are {', '.join(_POOLINGS)}; choose another model")


def _short(mode: str) -> str:
    return mode.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
