"""Makes an aligned model from a public one: the paper's safety fine-tuning S0+, which yields M0."""

from __future__ import annotations

from pathlib import Path

from ...console import Console
from ...models.sources import find_model
from ...runs.layout import ALIGNING
from ...settings.experiments import CompareSettings
from ..experiment import Experiment, TrainingPlan
from ..mixing import Mix
from ..strategies.strategy import SAFE


def aligned(mix: Mix, settings: CompareSettings, folder: Path, console: Console) -> Path:
    """Fine-tune the model on the safe examples of a mix, save it as a whole, and return its folder."""
    source = find_model(settings.model.model, settings.model.revision)
    experiment = Experiment(folder / ALIGNING, source, settings, console)
    experiment.add(SAFE, mix.safe)
    state = experiment.train(TrainingPlan((SAFE,), epochs=settings.final.finetune_epochs))
    stage = f"aligned-{state}"

    def work(partial: Path) -> None:
        experiment.runner.bring(state)
        experiment.runner.model.save_whole(partial, experiment.encoder.tokenizer)

    experiment.runner.stage(stage, work)
    return experiment.stages.folder(stage)
