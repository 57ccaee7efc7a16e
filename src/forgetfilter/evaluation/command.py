"""Runs `forgetfilter evaluate`: turns what the user names into an evaluation in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..classifiers.judge import load_judge
from ..console import Console
from ..data.containers import open_container
from ..data.records import hash_chunks
from ..data.tokens import Encoder
from ..errors import ModelError, SettingsError
from ..models.processes import Processes
from ..models.sources import ModelSource, find_model
from ..models.weights import read_header
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
_PLAIN_LORA = {"use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None}


def run_evaluation(settings: EvaluationSettings, output: Path, console: Console) -> Evaluation:
    """Evaluate a model and write the results to a folder, resuming where an earlier attempt stopped.

    Raises:
        ForgetFilterError: Anything that the user can fix: rows, model, adapter, settings, the folder.
    """
    from ..models.loading import check_model, choose_hardware, load_tokenizer, quiet_libraries
    from ..models.trainable_model import TrainableModel

    quiet_libraries()
    _check_folder(output)
    container = open_container(settings.held_out, settings.held_out_split)
    fingerprint = container.fingerprint()
    rows = read_held_out(container, settings.measures.most_rows, fingerprint)
    source = find_model(settings.model.model, settings.model.revision)
    adapter = _read_adapter_settings(Path(settings.adapter)) if settings.adapter else AdapterSettings(lora_rank=1)
    encoder = Encoder(load_tokenizer(source), settings.tokens.template, settings.tokens.max_length)
    check_model(source, encoder.tokenizer)
    kinds = {row.kind for row in rows}
    check_measuring(settings, kinds)
    hardware = choose_hardware(settings.model)
    dtype = str(hardware.dtype).removeprefix("torch.")
    settings = with_options(settings, template=encoder.template, device=str(hardware.device), dtype=dtype)
    inputs = {"held-out": fingerprint, **_fingerprints(settings, source, encoder)}
    processes = Processes(settings.model.device)
    with folder_lock(output) if processes.main else nullcontext():
        if processes.main:
            _claim(output, settings, inputs)
        processes.wait()
        if (output / EVALUATION).is_file():
            return read_evaluation(output)
        console.say("loading the model")
        model = TrainableModel(source, settings.model, adapter, 0)
        if settings.tokens.max_length > model.longest:
            raise SettingsError(f"max_length: this model takes at most {model.longest} tokens")
        if settings.adapter:
            _load_adapter(model, Path(settings.adapter), adapter, inputs[_ADAPTER])
        asks_judge = settings.classifiers.judge and HARMFULNESS in kinds
        judge = load_judge(settings.classifiers.judge, settings.model) if asks_judge else None
        return evaluate(model, encoder, rows, settings, output, console, judge_model=judge)


def _fingerprints(settings: EvaluationSettings, source: ModelSource, encoder: Encoder) -> dict[str, str]:
    """Hash everything but the rows that the results depend on."""
    hashes = fingerprints(source, encoder)
    if settings.adapter:
        hashes[_ADAPTER] = _adapter_fingerprint(Path(settings.adapter))
    return hashes


def _adapter_fingerprint(folder: Path) -> str:
    return hash_chunks((folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors"))


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


def _read_adapter_settings(folder: Path) -> AdapterSettings:
    """Read the settings of the adapter in a folder.

    Raises:
        ModelError: The folder holds no plain LoRA adapter, of the kind that this program trains.
    """
    if (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: this is a whole model, not an adapter; name it with --model")
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        targets = config["target_modules"]
        names = targets if isinstance(targets, str) else ",".join(sorted(targets))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except OSError as error:
        raise ModelError(f"{folder}: no adapter folder; it has no adapter_config.json that can be read") from error
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ModelError(f"{folder}: adapter_config.json is not that of a LoRA adapter") from error
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder}: has no adapter_model.safetensors; pickled adapters are not loaded")
    odd = [name for name, plain in _PLAIN_LORA.items() if (config.get(name) or plain) != plain]
    if odd:
        raise ModelError(f"{folder}: not a plain LoRA adapter ({', '.join(odd)}); merge it into its model first")
    shapes = read_header(folder / "adapter_model.safetensors")
    if any(shape[:1] != (rank,) for name, shape in shapes.items() if ".lora_A." in name):
        raise ModelError(
            f"{folder}: this adapter was made for another model, or changed: its configuration says rank {rank}, "
            "which its weights do not have"
        )
    return AdapterSettings(lora_rank=rank, lora_alpha=alpha, lora_targets=names)


def _load_adapter(model: TrainableModel, folder: Path, settings: AdapterSettings, fingerprint: str) -> None:
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    expected = {name: tuple(value.shape) for name, value in get_peft_model_state_dict(model.model).items()}
    with _adapter_errors_explained(folder, (SafetensorError, OSError)):
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if shapes != expected:
            raise ModelError(f"{folder}: this adapter was made for another model than the one named with --model")
        model.load(folder)
    if _adapter_fingerprint(folder) != fingerprint or _read_adapter_settings(folder) != settings:
        raise ModelError(f"{folder}: changed while it was read; run the same command again once it is complete")


@contextmanager
def _adapter_errors_explained(folder: Path, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise ModelError(f"{folder}: adapter_model.safetensors cannot be read: {error}") from error
