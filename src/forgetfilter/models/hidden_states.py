"""What a model makes of a row inside: the mean hidden state of its completion, at some depths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import torch

from ..data.tokens import Tokens, TokenTable
from .collating import collate
from .session import Session, Work


class HiddenStates:
    """A scorer: the mean over a row's completion tokens, depth after depth in one list.

    Args:
        session: The model, in its present state.
        tokens_per_pass: Budget of one forward pass.
        depths: How far up the model, 0 (embeddings) to 1 (the last block).
    """

    schema: ClassVar[dict[str, pa.DataType]] = {"states": pa.list_(pa.float32())}
    work: ClassVar[Work] = "pad"

    def __init__(self, session: Session, tokens_per_pass: int, depths: Sequence[float]) -> None:
        self._session, self.tokens_per_pass, self._depths = session, tokens_per_pass, depths

    def length(self, table: TokenTable, i: int) -> int:
        return int(table.lengths[i])

    @torch.inference_mode()
    def score(self, rows: Sequence[Tokens]) -> list[dict[str, Any]]:
        self._session.check(rows)
        # With so dear a pass no prefix is shared, so that every row has all of its states.
        _, input_ids, mask = collate(rows, self._session.hardware.device, pass_overhead=1 << 30)
        model = self._session.model.eval()
        layers = model(input_ids=input_ids, output_hidden_states=True, use_cache=False, logits_to_keep=1).hidden_states
        chosen = [layers[round(depth * (len(layers) - 1))].float() for depth in self._depths]
        inside = mask[:, :, None]
        means = [(states * inside).sum(dim=1) / inside.sum(dim=1) for states in chosen]
        return [{"states": states} for states in torch.cat(means, dim=1).cpu().numpy()]
