"""Turn texts into batches for models that read them whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

_BATCH = 32


def by_length(
    texts: Sequence[str], tokenizer: Any, longest: int, device: torch.device
) -> Iterator[tuple[list[int], Any]]:
    """Yield batches of texts as the tokenizer gives them, the shortest first, so that little is padding.

    Args:
        texts: The texts, of which empty ones are left out.
        tokenizer: The model's tokenizer.
        longest: Tokens of a text from which on the rest is not read.
        device: Where to put the batches.

    Yields:
        The places of some texts, and the arguments of a model for them.
    """
    order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        chosen = [texts[i] for i in places]
        inputs = tokenizer(chosen, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        yield places, inputs.to(device)
