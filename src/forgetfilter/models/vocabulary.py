"""Check that a tokenizer belongs to a model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..data.rows import read_batches
from .trainable_model import TrainableModel, check_tokens

_ENGLISH = (
    "The house stands at the end of the road, and in the morning the children walk from there to the school in the "
    "town. When it rains, they take the bus."
)
# A model is surprised by text about as much as it expects to be, within a nat a token, also where it knows little of
# the language. With SmolLM2-135M and its tokens' numbers shifted by 1 to 20,000 it is by 3.5 nats more or worse.
_SURPRISED = 2.5


def check_vocabulary(files: Iterable[Path], vocabulary: int) -> None:
    """Refuse rows with a token that the model does not have, before anything is done with any of them.

    Args:
        files: Files of tokens.
        vocabulary: Tokens that the model has.

    Raises:
        ModelError: There is such a token; the message names the first such row.
    """
    for file in files:
        for batch in read_batches(file):
            tokens = batch.column("input_ids")
            largest = pc.max(tokens.flatten()).as_py()
            if largest is not None and largest >= vocabulary:
                _refuse(batch, vocabulary)


def _refuse(batch: pa.RecordBatch, vocabulary: int) -> None:
    for id, row, tokens in zip(*(batch.column(name) for name in ("id", "row", "input_ids")), strict=True):
        check_tokens(id.as_py(), row.as_py(), tokens.values.to_numpy(), vocabulary)
    raise AssertionError("no row has the token that was found")


# A sharded model whose weights are first gathered in inference mode could not be trained afterwards.
@torch.no_grad()
def doubt_about(model: TrainableModel, tokenizer: Any) -> str:
    """Look for signs that a tokenizer does not belong to the model; return a warning, or an empty string.

    If token ids mean something else to the model, plain English surprises it far more than it expects.
    """
    tokens = torch.tensor([tokenizer(_ENGLISH)["input_ids"]], device=model.hardware.device)
    if tokens.shape[1] < 2 or int(tokens.max()) >= model.vocabulary or tokens.shape[1] > model.longest:
        return ""
    logprobs = model.model.eval()(input_ids=tokens, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    surprise = -float(logprobs.gather(1, tokens[0, 1:, None]).mean())
    expected = -float((logprobs.exp() * logprobs).sum(-1).mean())
    if surprise <= expected + _SURPRISED:
        return ""
    return (
        f"does this tokenizer belong to this model? Plain English surprises it by {surprise:.1f} nats a token where it "
        f"expects {expected:.1f}; if it does not, no result holds"
    )
