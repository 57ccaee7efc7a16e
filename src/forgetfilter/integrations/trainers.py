"""Keep what `filter --learned` needs at the end of a session of transformers' trainer, or one made from it as TRL's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from ..models.checkpoint import MOST_BEGINNINGS, Record, beginning

if TYPE_CHECKING:
    import os

    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


class KeepLearned(TrainerCallback):  # type: ignore[misc]
    """Saves the trained model, its tokenizer and a note of how it was trained, at the end of the training.

    `forgetfilter filter --learned FOLDER` goes on from there, and compares its own rows with the note.

    Example:
        >>> trainer = SFTTrainer(model, train_dataset=rows)
        >>> trainer.add_callback(KeepLearned(trainer, "learned"))
        >>> trainer.train()

    Args:
        trainer: The trainer that it is added to, which saves the model as it saves all its models.
        folder: Where to save it.
    """

    def __init__(self, trainer: Trainer, folder: str | os.PathLike[str]) -> None:
        self._trainer, self._folder = trainer, Path(folder)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Save all of it; every process has to call."""
        self._trainer.save_model(str(self._folder))
        if state.is_world_process_zero:
            _record(self._trainer, args).write(self._folder)


def _record(trainer: Trainer, args: TrainingArguments) -> Record:
    length = getattr(args, "max_length", None)
    packed = bool(getattr(args, "packing", False))
    return Record(
        model=str(getattr(trainer.model.config, "_name_or_path", "")),
        max_length=length if isinstance(length, int) else None,
        beginnings=() if packed else tuple(islice(_beginnings(trainer.train_dataset), MOST_BEGINNINGS)),
    )


def _beginnings(rows: Any) -> Iterator[str]:
    """Yield the hashes of how rows begin that are tokens already; rows of other kinds have none."""
    for row in rows:
        if not isinstance(row, Mapping) or "input_ids" not in row:
            return
        hashed = beginning(row["input_ids"])
        if hashed:
            yield hashed
