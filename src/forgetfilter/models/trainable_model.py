"""Load the model that all training sessions share: its base weights once, and the part that each session trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from ..data.tokens import Tokens
from ..errors import ModelError, TrainingError
from ..settings.groups import AdapterSettings, ModelSettings
from .architecture import add_adapter, add_adapter_like
from .checkpoint import LoraShape
from .cpu.threads import Lanes
from .forward_path import ForwardPath, forward_path
from .loading import Hardware, choose_hardware, load_model
from .micro_batches import Indices, Machine, Passes, Work
from .processes import spreads_the_model
from .sharding import gathered, in_turn, left_to_us, mesh_of, own_part, put_away, spread, spread_as
from .sources import ADAPTER_WEIGHTS, ModelSource


class TrainableModel:
    """The aligned model M0 with its trainable part, ready to be trained, scored and asked.

    With LoRA the trainable part is the adapter, otherwise every weight. `reset` restores M0, `load` any earlier state;
    the base weights are loaded once.

    Attributes:
        accelerator: Processes and devices; every process must make the same calls.
        hardware: Device and number format.
        sharded: Whether each process holds a part of the model. Then every process has to call what gathers it, such as
            `trainable` and `save`, and every forward pass.
        model: The loaded transformers model, with the adapter where there is one.
        scorer: The forward path, which training and scoring call.
        lanes: Run scoring passes side by side.
    """

    def __init__(
        self,
        source: ModelSource,
        model: ModelSettings,
        adapter: AdapterSettings,
        seed: int,
        lora: LoraShape | None = None,
    ) -> None:
        """Load the model.

        Args:
            source: Where it comes from.
            model, adapter: How it is loaded, and what of it is trained.
            seed: Seed of the adapter's first numbers.
            lora: The layers and the form of the adapter, where it is to be like one that exists.

        Raises:
            ModelError: It cannot be loaded; see `load_model`.
            SettingsError: The device or the adapter's targets do not exist.
        """
        hardware = choose_hardware(model, trained_fully=adapter.full_finetuning)
        self._lora, self._like = not adapter.full_finetuning, lora
        if hardware.device.type == "cuda":
            # What a model before this one had is free again.
            torch.cuda.empty_cache()
        if hardware.device.type == "cuda" and hardware.device.index is not None:
            # CUDA graphs, and what Accelerate allocates, are on the current GPU.
            torch.cuda.set_device(hardware.device)
        with left_to_us():
            self.accelerator = Accelerator(cpu=hardware.device.type == "cpu")
        self.hardware = _on_own_device(self.accelerator, hardware)
        self.sharded = spreads_the_model()
        if self.sharded:
            self.scorer = self._load_in_parts(source, adapter, seed)
        else:
            self.scorer = self._load(source, self.hardware, adapter, seed)
        self.model = self.scorer.model
        self.lanes = Lanes(self.hardware.device, self.accelerator.num_processes)
        self._initial = {name: own_part(p.detach()).to("cpu", copy=True) for name, p in self.trained().items()}

    def _load(self, source: ModelSource, hardware: Hardware, adapter: AdapterSettings, seed: int) -> ForwardPath:
        base = load_model(source, hardware, trained_fully=adapter.full_finetuning and not self.sharded)
        torch.manual_seed(seed)
        model = self._adapted(base, adapter) if self._lora else base
        if self._lora and source.adapters:
            # The new adapter belongs to the merged model.
            model.peft_config["default"].base_model_name_or_path = source.adapters[-1]
        return forward_path(model, self.hardware, hardware.device, sharded=self.sharded)

    def _adapted(self, base: PreTrainedModel, adapter: AdapterSettings) -> PeftModel:
        if self._like is not None:
            return add_adapter_like(base, self._like, adapter.lora_dropout)
        return add_adapter(base, adapter)

    def _load_in_parts(self, source: ModelSource, adapter: AdapterSettings, seed: int) -> ForwardPath:
        # The whole model goes into the machine's memory first, as it may be too large for any one device.
        in_memory, mesh = Hardware(torch.device("cpu"), self.hardware.dtype), mesh_of(self.accelerator)

        def load() -> ForwardPath:
            scorer = self._load(source, in_memory, adapter, seed)
            spread(scorer.model, mesh)
            return scorer

        return in_turn(self.accelerator, load)

    def peak_learning_rate(self, chosen: float | None) -> float:
        """Return the user's learning rate, or one that suits the model.

        The rate that works falls with a model's width: 1e-3 suits SmolLM2-135M (width 576), the paper uses 2e-4 with a
        7B model (width 4096), and full fine-tuning needs about a tenth of LoRA's rate.
        """
        if chosen is not None:
            return chosen
        return 0.576 / self.width * (1.0 if self._lora else 0.1)

    @property
    def trains_side_by_side(self) -> bool:
        """Tell whether training passes may go side by side.

        Dropout would be drawn in a different order every time, and a gradient of all weights for each lane takes too
        much memory.
        """
        return self.lanes.count > 1 and self._lora and not _drops_out(self.model)

    @property
    def size(self) -> int:
        """Count the weights of M0, without the adapter."""
        return sum(p.numel() for name, p in self.model.named_parameters() if "lora_" not in name)

    @property
    def width(self) -> int:
        """Return the width of a hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def longest(self) -> int:
        """Return the most tokens that the model accepts."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens that the model's embedding has; a tokenizer may know more."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def pass_overhead(self) -> int:
        """Return the cost of starting a forward pass, as a number of tokens that could be computed instead.

        Rough values, which affect speed alone: the CPU's from trials with SmolLM2-135M on one core; the GPU's is a
        guess, since small passes leave a GPU idle.
        """
        if self.sharded:
            # Every pass gathers the whole model, and all processes must make the same number of passes.
            return 1 << 30
        if self.hardware.device.type != "cpu":
            return 4096
        return 130 if self.hardware.dtype == torch.bfloat16 else 60

    @property
    def answer_overhead(self) -> int:
        """Return the cost of starting a batch of answers, likewise: its many steps, shared by fewer rows."""
        return max(2000, self.pass_overhead) if self.hardware.device.type == "cpu" else 1 << 30

    def answer_budget(self, scored: int) -> int:
        """Return the most tokens of a batch of answers, where `scored` tokens are scored at once."""
        return self.scorer.answer_budget(scored, self.hardware.device)

    def check(self, rows: Sequence[Tokens]) -> None:
        """Refuse rows that cannot go through the model.

        Raises:
            ModelError: A row has a token that the model does not have.
        """
        for row in rows:
            check_tokens(row.id, row.row, row.input_ids, self.vocabulary)

    def inputs(self, rows: Sequence[Tokens]) -> tuple[Any, ...]:
        """Return the scorer's arguments for some rows.

        Raises:
            ModelError: As `check`.
        """
        self.check(rows)
        return self.scorer.inputs(rows, self.pass_overhead)

    def deal(self, indices: Indices, lengths: NDArray[np.integer], token_budget: int, work: Work = "score") -> Passes:
        """Deal rows into passes as suits the model and its device.

        Args:
            indices, lengths, token_budget: As in `micro_batches.deal`.
            work: What the passes are for.
        """
        # A decoding step is hardly slower for many rows than for one, so few and large batches are best there.
        in_turn = work == "write" or (work == "train" and not self.trains_side_by_side)
        overhead = self.answer_overhead if work == "write" else self.pass_overhead
        machine = Machine(overhead, 1 if in_turn else self.lanes.count, self.accelerator.num_processes)
        return self.scorer.deal(indices, lengths, token_budget, work, machine)

    def token_budget(self, chosen: int | None) -> int:
        """Return the most tokens of a training pass: the user's number, or what suits the device."""
        if chosen is not None:
            return chosen
        if self.hardware.device.type != "cpu":
            return 16384
        return 1536 if self.hardware.dtype == torch.bfloat16 else 1024

    def trainable(self) -> dict[str, Tensor]:
        """Copy everything that is trained, by name, to the CPU."""
        return gathered(self.trained().items())

    def trained(self) -> dict[str, Tensor]:
        """Return the parameters that are trained, by name; of a sharded model, the parts that this process holds."""
        if self.sharded:
            put_away(self.model)
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def set_trainable(self, state: dict[str, Tensor]) -> None:
        """Put back what `trainable` returned."""
        parameters = self.trained()
        with torch.no_grad():
            for name, value in state.items():
                parameters[name].copy_(spread_as(parameters[name], value))

    def reset(self) -> None:
        """Restore M0, the aligned model as it was loaded."""
        with torch.no_grad():
            for name, parameter in self.trained().items():
                own_part(parameter).copy_(self._initial[name])

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Save it as a model (or adapter) folder that transformers and peft read."""
        main = self.accelerator.is_main_process
        state = gathered(self.trained().items(), keep=main) if self.sharded else None
        if main:
            # Embeddings are not trained with an adapter, whatever peft concludes from their size.
            only = {"save_embedding_layers": False} if self._lora else {}
            self.model.save_pretrained(str(folder), state_dict=state, **only)
            tokenizer.save_pretrained(str(folder))

    def save_whole(self, folder: Path, tokenizer: Any) -> None:
        """Save the present state as a whole model, without an adapter; this object is unusable afterwards."""
        whole = self.model.merge_and_unload() if self._lora else self.model
        if self.accelerator.is_main_process:
            whole.save_pretrained(str(folder))
            tokenizer.save_pretrained(str(folder))

    def load(self, folder: Path) -> None:
        """Load what `save` wrote."""
        # peft leaves the adapter's name out of the names that it saves.
        names = {name.replace(".default.", "."): name for name in self.trained()}
        # Somebody else may keep further files beside an adapter, such as an earlier one.
        files = [folder / ADAPTER_WEIGHTS] if self._lora else sorted(folder.glob("*.safetensors"))
        for file in files:
            saved = load_file(file)
            if not saved.keys() <= names.keys():
                # transformers saves some models, mainly those with experts, under the names of older versions.
                whole = type(self.model).from_pretrained(str(folder), dtype=self.hardware.dtype, use_safetensors=True)
                self.set_trainable({name: value for name, value in whole.named_parameters() if name in names})
                return
            self.set_trainable({names[name]: value for name, value in saved.items()})


@contextmanager
def memory_explained(tokens: int) -> Iterator[None]:
    """Turn a lack of memory for passes of so many tokens into an error that says what to do.

    Raises:
        TrainingError: The memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"the memory does not hold passes of {tokens} tokens; try --tokens-per-batch {max(1, tokens // 4)}, "
            "which changes the result by rounding alone"
        ) from error


def check_tokens(id: str, row: int, tokens: NDArray[np.integer], vocabulary: int) -> None:
    """Refuse a row with a token that the model does not have.

    Args:
        id, row: The row's id and position.
        tokens: Its tokens.
        vocabulary: Tokens that the model has.

    Raises:
        ModelError: There is such a token.
    """
    largest = int(tokens.max(initial=0))
    if largest >= vocabulary:
        raise ModelError(
            f"row {row} (id {id}) has token {largest}, but the model's embedding ends at {vocabulary - 1}; "
            "the tokenizer does not belong to this model, or knows tokens that the model was never given"
        )


def _drops_out(model: torch.nn.Module) -> bool:
    """Tell whether a model in training mode drops anything; models keep the rate in layers, or as a number."""
    return any(
        (isinstance(module, torch.nn.Dropout) and module.p > 0)
        or any("dropout" in name and isinstance(value, float) and value > 0 for name, value in vars(module).items())
        for module in model.modules()
    )


def _on_own_device(accelerator: Accelerator, hardware: Hardware) -> Hardware:
    """Return the hardware of this process: under `accelerate launch`, each has its own GPU."""
    if accelerator.num_processes > 1:
        return Hardware(accelerator.device, hardware.dtype)
    return hardware
