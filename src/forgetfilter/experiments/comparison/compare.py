"""Compares filters and strategies on noisy sets with known labels, training every session that they share once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...console import Console
from ...errors import SettingsError
from ...evaluation.evaluate import check_measuring
from ...models.processes import one_process
from ...models.sources import find_model
from ...plotting.style import check_matplotlib
from ...runs.files import folder_lock, write_text, written_whole
from ...runs.layout import MIX, RECORDS, TABLES
from ...runs.manifest import refuse_others
from ...settings.experiments import CompareSettings
from ...settings.option import split_names, with_options
from ...stages.filter_run import check_rivals
from ..mixing import Mix
from .aligning import aligned
from .figures import draw_figures
from .filters import filter_records, with_filters
from .records import Record, over_seeds, write_records
from .strategies import strategy_records
from .tables import markdown


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        records: One for each filter and strategy on each noisy set.
        tables: The same in Markdown, averaged over draws.
        figures: The files with a figure for each table.
    """

    records: list[Record]
    tables: str
    figures: list[Path]


def compare(mixes: Sequence[Mix], settings: CompareSettings, output: Path, console: Console) -> Comparison:
    """Compare filters and strategies on some noisy sets, resuming where an earlier attempt stopped.

    Args:
        mixes: The noisy sets; those that differ by seed alone are averaged.
        settings: What is compared, and how models are trained and evaluated.
        output: The folder for all results, with a folder for each set.
        console: Where to report progress.

    Raises:
        ForgetFilterError: Anything that the user can fix.
    """
    check_matplotlib()
    one_process("compare", settings.model.device)
    names = [mix.folder.resolve().name for mix in mixes]
    if len(set(names)) < len(names):
        raise SettingsError(f"compare: two of these mixes have the same folder name: {', '.join(names)}; rename one")
    settings = with_filters(settings)
    check_rivals(settings, knows_unsafe=bool(settings.planted.known_unsafe))
    if split_names(settings.strategies):
        check_measuring(settings, {notion for mix in mixes for notion in mix.notions})
    begun = [output / name for name in names if not (output / name / MIX).exists()]
    refuse_others(output, "no comparison", ours=any(path.exists() for path in (output / RECORDS, *begun)))
    with folder_lock(output):
        records = []
        for mix, name in zip(mixes, names, strict=True):
            console.say(f"{name}: {' and '.join(mix.notions)}, {mix.unsafe_share:.0%} unsafe, seed {mix.seed}")
            records += _records_of(mix, settings, output / name, console)
        with written_whole(output / RECORDS) as beside:
            write_records(records, beside)
        cells = over_seeds(records)
        tables = markdown(cells)
        write_text(tables, output / TABLES)
        return Comparison(records, tables, draw_figures(cells, output))


def _records_of(mix: Mix, settings: CompareSettings, folder: Path, console: Console) -> list[Record]:
    folder.mkdir(parents=True, exist_ok=True)
    if settings.align:
        settings = with_options(settings, model=str(aligned(mix, settings, folder, console)))
    records, kept = filter_records(mix, settings, folder, console)
    if split_names(settings.strategies):
        source = find_model(settings.model.model, settings.model.revision)
        records += strategy_records(mix, kept, settings, source, folder, console)
    return records
