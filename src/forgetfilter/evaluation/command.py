"""Runs `forgetfilter evaluate`: turns what the user names into an evaluation in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..classifiers.judge import load_judge
from ..console import Console
from ..data.containers import open_container
from ..data.tokens import Encoder
from ..errors import ModelError, SettingsError
from ..models.checkpoint import Checkpoint, find_checkpoint
from ..models.processes import Processes
from ..models.sources import find_model
from ..runs.files import folder_lock
from ..runs.inputs import fingerprints
from ..runs.layout import EVALUATION, EVALUATION_MANIFEST
from ..runs.manifest import Manifest, refuse_others
from ..settings.groups import AdapterSettings, EvaluationSettings
from ..settings.option import to_mapping, with_options
from .evaluate import check_measuring, evaluate
from .held_out import HARMFULNESS, read_held_out
from .results import Evaluation, read_evaluation

if TYPE_CHECKING:
    from ..models.trainable_model import TrainableModel

# Inputs are compared by content, wherever they lie; the token budget only changes speed.
_NOT_COMPARED = {"held_out", "held_out_split", "model", "revision", "adapter", "tokens_per_batch", "own_words"}
_ADAPTER = "adapter"


def run_evaluation(settings: EvaluationSettings, output: Path, console: Console) -> Evaluation:
    """Evaluate a model and write the results to a folder, resuming where an earlier attempt stopped.

    Raises:
        ForgetFilterError: Anything that the user can fix: rows, model, adapter, settings, the folder.
    """
    from ..models.fitting import check_fits, tokenizer_of
    from ..models.loading import check_model, choose_hardware, load_tokenizer, quiet_libraries
    from ..models.trainable_model import TrainableModel

    quiet_libraries()
    _check_folder(output)
    container = open_container(settings.held_out, settings.held_out_split)
    fingerprint = container.fingerprint()
    rows = read_held_out(container, settings.measures.most_rows, fingerprint)
    source = find_model(settings.model.model, settings.model.revision)
    adapter = _find_adapter(settings.adapter) if settings.adapter else None
    tokenizer = load_tokenizer(source)
    if adapter is not None:
        check_fits(adapter, source)
        tokenizer = tokenizer_of(adapter, tokenizer)
    encoder = Encoder(tokenizer, settings.tokens.template, settings.tokens.max_length)
    check_model(source, encoder.tokenizer)
    kinds = {row.kind for row in rows}
    check_measuring(settings, kinds)
    hardware = choose_hardware(settings.model)
    dtype = str(hardware.dtype).removeprefix("torch.")
    settings = with_options(settings, template=encoder.template, device=str(hardware.device), dtype=dtype)
    inputs = {"held-out": fingerprint, **fingerprints(source, encoder)}
    inputs |= {_ADAPTER: adapter.fingerprint} if adapter else {}
    processes = Processes(settings.model.device)
    with folder_lock(output) if processes.main else nullcontext():
        if processes.main:
            _claim(output, settings, inputs)
        processes.wait()
        if (output / EVALUATION).is_file():
            return read_evaluation(output)
        console.say("loading the model")
        # Without an adapter to load, the smallest will do: nothing is trained.
        like = adapter.lora if adapter else None
        model = TrainableModel(source, settings.model, AdapterSettings(lora_rank=1), 0, like)
        if settings.tokens.max_length > model.longest:
            raise SettingsError(f"max_length: this model takes at most {model.longest} tokens")
        if adapter is not None:
            _load_adapter(model, adapter, inputs[_ADAPTER])
        asks_judge = settings.classifiers.judge and HARMFULNESS in kinds
        judge = load_judge(settings.classifiers.judge, settings.model) if asks_judge else None
        return evaluate(model, encoder, rows, settings, output, console, judge_model=judge)


def _check_folder(output: Path) -> None:
    """Refuse a folder that holds anything but an evaluation."""
    ours = (output / EVALUATION_MANIFEST).is_file()
    hidden = output.is_dir() and all(entry.name.startswith(".") for entry in output.iterdir())
    refuse_others(output, "no evaluation", ours=ours or hidden)


def _claim(output: Path, settings: EvaluationSettings, inputs: Mapping[str, str]) -> None:
    """Record in a folder what is being evaluated, or check that an earlier attempt evaluated the same.

    Raises:
        RunError: The folder holds an evaluation of something else; the message names what differs.
    """
    compared = {name: value for name, value in to_mapping(settings).items() if name not in _NOT_COMPARED}
    manifest = Manifest.now(inputs, compared)
    manifest.claim(output / EVALUATION_MANIFEST, "this evaluation was started differently")


def _find_adapter(name: str) -> Checkpoint:
    """Find the adapter in a folder.

    Raises:
        ModelError: The folder holds none, or none of the kind that can be put on a model as it is.
    """
    found = find_checkpoint(name, _ADAPTER)
    if found.lora is None:
        raise ModelError(f"{found.named}: this is a whole model, not an adapter; name it with --model")
    return found


def _load_adapter(model: TrainableModel, adapter: Checkpoint, fingerprint: str) -> None:
    model.load(adapter.folder)
    if adapter.fingerprint != fingerprint or _find_adapter(str(adapter.folder)) != adapter:
        raise ModelError(f"{adapter.named}: changed while it was read; run the same command again once it is complete")
