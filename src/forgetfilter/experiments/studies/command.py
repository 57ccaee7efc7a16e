"""Runs `forgetfilter study`: one study, in a folder that keeps its training sessions for the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...console import Console, table
from ...errors import SettingsError
from ...evaluation.evaluate import check_measuring
from ...models.processes import one_process
from ...models.sources import find_model
from ...plotting.style import check_matplotlib
from ...runs.files import folder_lock, written_whole
from ...runs.layout import EXPERIMENTS, FILTERS, STUDY_ROWS
from ...runs.manifest import refuse_others
from ...settings.experiments import StudySettings
from ...settings.option import split_names, with_options
from ..mixing import Mix
from . import (
    attributes,
    domain_shift,
    forgetting,
    interleaved,
    jailbreak,
    learning,
    partial,
    realistic,
    scale,
    sensitivity,
    symmetry,
    transfer,
    why,
)
from .context import StudyContext
from .study import Finding, Study

STUDIES: Mapping[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        learning,
        forgetting,
        scale,
        partial,
        sensitivity,
        interleaved,
        domain_shift,
        symmetry,
        attributes,
        why,
        transfer,
        jailbreak,
        realistic,
    )
}


def list_studies() -> str:
    """Name all studies, a line each, with what they show."""
    return table(("study", "shows"), [(study.name, study.title) for study in STUDIES.values()])


def run_study(name: str, mixes: Sequence[Mix], settings: StudySettings, output: Path, console: Console) -> Path:
    """Run a study, and return the folder of its finding, which replaces an earlier one.

    Raises:
        ForgetFilterError: Anything that the user can fix.
    """
    check_matplotlib()
    one_process("study", settings.model.device)
    study = STUDIES[name]
    if not mixes and study.needs_mix:
        raise SettingsError("study needs at least one mix: --mix FOLDER, as 'forgetfilter data mix' writes it")
    if not settings.model.model:
        settings = with_options(settings, model=next(iter(split_names(settings.models)), ""))
    find_model(settings.model.model, settings.model.revision)
    check_measuring(settings, {notion for mix in mixes for notion in mix.notions})
    places = (EXPERIMENTS, FILTERS, STUDY_ROWS, *STUDIES)
    refuse_others(output, "no folder of studies", ours=any((output / place).exists() for place in places))
    with folder_lock(output):
        return _write(study, study.run(StudyContext(output, mixes, settings, console)), output)


def _write(study: Study, result: Finding, output: Path) -> Path:
    folder = output / study.name
    with written_whole(folder) as beside:
        beside.mkdir()
        result.write(study, beside)
    return folder
