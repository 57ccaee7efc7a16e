"""An aligned model from a public one: the paper's safety fine-tuning S0+, which makes its M0."""

from __future__ import annotations

from pathlib import Path

from ...console import Console
from ...models.sources import find_model
from ...runs.layout import ALIGNING
from ...settings.groups import CompareSettings
from ..lab import Course, Lab
from ..mixing import Mix
from ..strategies.strategy import SAFE


def aligned(mix: Mix, settings: CompareSettings, folder: Path, console: Console) -> Path:
    """Fine-tune the model on the safe examples of a mix and save it whole; returns its folder."""
    lab = Lab(folder / ALIGNING, find_model(settings.model, settings.revision), settings, console)
    lab.add(SAFE, mix.safe)
    state = lab.train(Course((SAFE,), epochs=settings.finetune_epochs))
    stage = f"aligned-{state}"

    def work(partial: Path) -> None:
        lab.bench.bring(state)
        lab.bench.session.save_whole(partial, lab.encoder.tokenizer)

    lab.bench.stage(stage, work)
    return lab.stages.folder(stage)
