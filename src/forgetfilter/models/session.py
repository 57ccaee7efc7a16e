"""A model that sessions share: base weights loaded once, phases told apart by what is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel

from ..data.tokens import Tokens
from ..errors import TrainingError
from ..settings import AdapterSettings, ModelSettings
from .loading import Hardware, add_adapter, choose_hardware, load_model
from .lora import fuse_lora
from .sources import ModelSource


class CompletionScorer(nn.Module):
    """A causal language model that scores completion tokens, and only these.

    The one forward pass of training and scoring alike. The head, a sixth of the work with a small model
    and a large vocabulary, runs on completion positions only.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        super().__init__()
        self.model = model
        self._selected: Tensor | None = None
        # Taking the positions out just before the head leaves a model's own scaling or capping of logits intact.
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    def _select(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._selected is None:
            return None
        return (inputs[0][:, :-1][self._selected],)

    def forward(self, prefix: Tensor, input_ids: Tensor, completion: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each completion token given all before it.

        Rows are padded on the right, where a causal model never looks, so no attention mask is needed and
        a row's scores do not depend on its neighbours. What all rows begin with goes through the model once.

        Args:
            prefix: Tokens with which every row begins, shape (1, prefix), without completion tokens; may be empty.
            input_ids: The tokens that follow, shape (rows, length).
            completion: True for completion tokens, same shape.

        Returns:
            Log-probabilities in nats, and whether each token is the model's first choice; both of shape
            (completion tokens,), row after row.
        """
        try:
            before = self._read_prefix(prefix, len(input_ids)) if prefix.shape[1] else None
            self._selected = completion[:, 1:]
            logits = self.model(
                input_ids=input_ids, past_key_values=before, use_cache=before is not None
            ).logits.float()
        finally:
            self._selected = None
        targets = input_ids[:, 1:][completion[:, 1:]]
        return -cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets

    def _read_prefix(self, prefix: Tensor, rows: int) -> DynamicCache:
        """Keys and values of the shared tokens, for each of so many rows; gradients flow back through them."""
        cache = DynamicCache(config=self.model.config)
        self._selected = torch.zeros_like(prefix[:, 1:], dtype=torch.bool)
        self.model(input_ids=prefix, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(rows)
        return cache


class Session:
    """The aligned model M0 with its trainable part, ready to be trained, scored and asked.

    With LoRA the trainable part is the adapter, otherwise every weight. `reset` brings M0 back, `load`
    any earlier state; the base weights are loaded once.

    Attributes:
        accelerator: Processes and devices; every process must make the same calls.
        hardware: Device and number format.
        scorer: The module that training and scoring call.
    """

    def __init__(self, source: ModelSource, model: ModelSettings, adapter: AdapterSettings, seed: int) -> None:
        """Load the model.

        Raises:
            ModelError: It cannot be loaded; see `load_model`.
            SettingsError: The device or the adapter's targets are not there.
        """
        hardware = choose_hardware(model)
        self.accelerator = Accelerator(cpu=hardware.device.type == "cpu")
        self.hardware = _on_own_device(self.accelerator, hardware)
        self._lora = not adapter.full_finetuning
        base = load_model(source, self.hardware, trained_fully=adapter.full_finetuning)
        torch.manual_seed(seed)
        self.model = add_adapter(base, adapter) if self._lora else base
        fuse_lora(self.model)
        self.scorer = CompletionScorer(self.model)
        self._initial = self.trainable()

    def peak_learning_rate(self, given: float | None) -> float:
        """The learning rate that the user gave, or one that suits the model.

        The rate that works falls with a model's width: 1e-3 was found with SmolLM2-135M (width 576), the
        paper uses 2e-4 with a 7B model (width 4096), and full fine-tuning wants about a tenth of LoRA's.
        """
        if given is not None:
            return given
        width = int(self.model.config.get_text_config().hidden_size)
        return 0.576 / width * (1.0 if self._lora else 0.1)

    @property
    def longest(self) -> int:
        """Most tokens that the model can take."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1 << 30)

    @property
    def pass_overhead(self) -> int:
        """What starting a forward pass costs, as a number of tokens that could be computed instead.

        Rough values, which change speed alone: the CPU's from a trial with SmolLM2-135M on two cores; the other
        a guess, since a GPU is starved by small passes.
        """
        return 50 if self.hardware.device.type == "cpu" else 4096

    def token_budget(self, given: int | None) -> int:
        """Most tokens of a training pass: what the user gave, or what suits the device."""
        return given or (2048 if self.hardware.device.type == "cpu" else 16384)

    def trainable(self) -> dict[str, Tensor]:
        """A copy of everything that is trained, by name, on the CPU."""
        return {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }

    def set_trainable(self, state: dict[str, Tensor]) -> None:
        """Put back what `trainable` returned."""
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                parameters[name].copy_(value)

    def reset(self) -> None:
        """Back to M0, the aligned model as it came."""
        self.set_trainable(self._initial)

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Save as a model (or adapter) folder that transformers and peft read."""
        if self.accelerator.is_main_process:
            self.model.save_pretrained(str(folder))
            tokenizer.save_pretrained(str(folder))

    def load(self, folder: Path) -> None:
        """Load what `save` wrote."""
        if self._lora:
            set_peft_model_state_dict(self.model, load_file(folder / "adapter_model.safetensors"))
            return
        for file in sorted(folder.glob("*.safetensors")):
            self.set_trainable(load_file(file))


@contextmanager
def memory_explained(tokens: int) -> Iterator[None]:
    """Say what to do where the memory does not suffice for passes of so many tokens."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"the memory does not hold passes of {tokens} tokens; try --tokens-per-batch {max(1, tokens // 4)}, "
            "which does not change the result"
        ) from error


def _on_own_device(accelerator: Accelerator, hardware: Hardware) -> Hardware:
    """Under `accelerate launch`, each process has a GPU of its own."""
    if accelerator.num_processes > 1:
        return Hardware(accelerator.device, hardware.dtype)
    return hardware


def collate(rows: Sequence[Tokens], device: torch.device, pass_overhead: int) -> tuple[Tensor, Tensor, Tensor]:
    """What `CompletionScorer` takes: the shared prefix, and tokens and completion mask padded on the right.

    The prefix is empty where sharing it saves less than what a forward pass of its own costs, in tokens.
    """
    shared = shared_prefix(rows)
    if (len(rows) - 1) * shared <= pass_overhead:
        shared = 0
    width = max(len(row.input_ids) for row in rows) - shared
    # Any token pads: a causal model never looks right of a row's end, and the mask keeps it out of the loss.
    input_ids = np.zeros((len(rows), width), dtype=np.int64)
    completion = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        input_ids[i, : len(row.input_ids) - shared] = row.input_ids[shared:]
        completion[i, : len(row.input_ids) - shared] = row.mask[shared:]
    prefix = rows[0].input_ids[None, :shared].astype(np.int64)
    return tuple(torch.from_numpy(array).to(device) for array in (prefix, input_ids, completion))  # type: ignore[return-value]


def shared_prefix(rows: Sequence[Tokens]) -> int:
    """How many tokens all rows begin with, such as a system prompt, completions and the tokens before them left out."""
    length = min(row.spans[0][0] - 1 for row in rows)
    for row in rows[1:]:
        same = row.input_ids[:length] == rows[0].input_ids[:length]
        length = length if same.all() else int(np.argmin(same))
    return max(0, length)
