"""Push the rows and the model of a finished run to the hub."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors

from ..console import Console, printable
from ..decision.decide import Summary, read_summary
from ..decision.overrides import KEPT, REMOVED
from ..errors import HubError, RunError, first_line
from ..models.sources import ADAPTER_CONFIG, find_model
from ..runs.layout import DECISION, HISTORY, MODEL
from ..runs.run import Run, decide_command
from ..stages.final_model import made_from
from .cards import CARD, data_card, is_on_hub, model_card, model_name

ADAPTER, MERGED = "adapter", "merged"
# What `datasets` writes beside the rows; the hub reads these by themselves.
_NO_ROWS = {"dataset_dict.json", "dataset_info.json", "state.json"}
# What another push may have left of an adapter or a whole model: where both are, a loader puts one onto the other.
_OF_A_MODEL = ("adapter_", "config.json", "generation_config.json", "model-", "model.safetensors")
_SHOWN = 60


def check_can_push(name: str) -> None:
    """Refuse a name that the hub cannot have, and a machine that is told to stay offline.

    Raises:
        HubError: It is so.
    """
    with _explained(name):
        huggingface_hub.utils.validate_repo_id(name)
    if constants.is_offline_mode():
        raise HubError(f"{name}: the hub is not asked in offline mode; unset HF_HUB_OFFLINE")


def push(
    run: Run, name: str, console: Console, *, removed: bool = False, model: str | None = None, private: bool = False
) -> list[str]:
    """Push the kept rows of a run to a data set of the hub, with a card; and its model, if asked, to a model.

    Rows are pushed as they stand in the run folder. Rows and model of an earlier push to the same name are replaced.

    Args:
        run: The run, which has been decided.
        name: Name on the hub, as `user/name`; what is not there yet is created.
        console: Where to tell what goes on.
        removed: Also push the removed rows, as a second config.
        model: None for no model; `adapter` for what is in the run folder, which is a whole model after full
            fine-tuning; `merged` for the adapter merged into its base.
        private: Whether what is created is private.

    Returns:
        Where it lies now, a URL each.

    Raises:
        RunError: Nothing is decided, or there is no model of this decision.
        HubError: The hub refuses, or cannot be reached.
    """
    check_can_push(name)
    summary = read_summary(run)
    if model is not None:
        _check_model(run, summary, model)
    rows = _files_of_rows(run, summary, [KEPT, *([REMOVED] if removed else [])])
    card = data_card(run, summary, {role: list(files) for role, files in rows.items()})
    files = {path: file for of_role in rows.values() for path, file in of_role.items()}
    console.say(f"pushing {summary.kept:,} kept rows to {name}")
    places = [_commit(name, "dataset", private, files, card, (f"{KEPT}/", f"{REMOVED}/"))]
    if model is not None:
        with tempfile.TemporaryDirectory(prefix="forgetfilter-") as folder:
            is_adapter = (run.folder(MODEL) / ADAPTER_CONFIG).is_file()
            whole = model == MERGED or not is_adapter
            files = _merged(run, Path(folder)) if whole and is_adapter else _as_it_is(run, Path(folder))
            console.say(f"pushing the model to {name}")
            card = model_card(run, summary, adapter=not whole)
            places.append(_commit(name, "model", private, files, card, _OF_A_MODEL))
    return places


def _files_of_rows(run: Run, summary: Summary, roles: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Find the files with the rows of each role, by their path on the hub."""
    found: dict[str, dict[str, Path]] = {}
    for role in roles:
        place = run.file(summary.files[role])
        files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
        found[role] = {
            f"{role}/{path.relative_to(place if place.is_dir() else place.parent).as_posix()}": path
            for path in files
            if path.name not in _NO_ROWS
        }
    return found


def _check_model(run: Run, summary: Summary, model: str) -> None:
    if not run.has(MODEL) or not made_from(run.folder(MODEL), summary, run.settings.final.finetune_epochs):
        what = "was made from an earlier decision" if run.has(MODEL) else "is not there"
        command = decide_command(run.path, {})
        raise RunError(f"{run.path / MODEL}: the model {what}; to train it: {command} --finetune")
    if model == ADAPTER and (Path(run.settings.model.model).expanduser() / ADAPTER_CONFIG).is_file():
        raise RunError(f"{run.path / MODEL}: its base is an adapter itself, merged in memory; push it {MERGED}")


def _as_it_is(run: Run, folder: Path) -> dict[str, Path]:
    """Collect the files of the model; its configuration names no place on this machine."""
    files = {
        path.name: path
        for path in sorted(run.folder(MODEL).iterdir())
        if path.is_file() and path.name not in (DECISION, HISTORY, CARD)
    }
    if ADAPTER_CONFIG in files and not is_on_hub(run):
        config = json.loads(files[ADAPTER_CONFIG].read_text(encoding="utf-8"))
        files[ADAPTER_CONFIG] = folder / ADAPTER_CONFIG
        config["base_model_name_or_path"] = model_name(run)
        files[ADAPTER_CONFIG].write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return files


def _merged(run: Run, folder: Path) -> dict[str, Path]:
    """Merge the adapter into its base, in the number format that the base is loaded in, and save the whole model."""
    from ..models.loading import choose_hardware, load_model, load_tokenizer

    settings = run.settings.model
    source = find_model(settings.model, settings.revision)
    source = replace(source, adapters=(*source.adapters, str(run.folder(MODEL))))
    load_model(source, choose_hardware(settings)).save_pretrained(str(folder))
    load_tokenizer(source).save_pretrained(str(folder))
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != CARD}


def _commit(name: str, kind: str, private: bool, files: dict[str, Path], card: str, replaced: tuple[str, ...]) -> str:
    """Create a repository where it is missing, and put files and a card into it in one commit; returns its URL.

    Args:
        name, kind, private: The repository.
        files: The files by their path in it.
        card: Text of its card.
        replaced: What the paths begin with of which nothing else may remain.
    """
    with _explained(name):
        api = HfApi()
        url = api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True)
        if private and not api.repo_info(url.repo_id, repo_type=kind).private:
            raise HubError(f"{name}: is there already, and is public; name another, or make it private on the hub")
        there = api.list_repo_files(url.repo_id, repo_type=kind)
        stale = [path for path in there if path.startswith(replaced) and path not in files]
        api.create_commit(
            url.repo_id,
            [
                CommitOperationAdd(CARD, card.encode("utf-8")),
                *(CommitOperationAdd(path, file) for path, file in files.items()),
                *(CommitOperationDelete(path) for path in stale),
            ],
            commit_message="Cleaned with forgetfilter",
            repo_type=kind,
        )
        return str(url)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the hub's library raises into one line.

    Raises:
        HubError: It raised something.
    """
    shown = printable(name, _SHOWN)
    try:
        yield
    except errors.HFValidationError as error:
        raise HubError(f"{shown}: not a valid name on the hub: {first_line(error)}") from error
    except (errors.LocalTokenNotFoundError, errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise HubError(f"{shown}: the hub does not let you in; log in with 'hf auth login', or set HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        advice = (
            "; log in with 'hf auth login', or set HF_TOKEN to a token that may write" if status in (401, 403) else ""
        )
        raise HubError(f"{shown}: the hub refuses: {first_line(error)}{advice}") from error
    except (errors.HTTPError, errors.OfflineModeIsEnabled) as error:
        raise HubError(f"{shown}: the hub cannot be reached: {first_line(error)}; push again later") from error
