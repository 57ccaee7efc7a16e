"""Parse the command line, call, and print.

Exit status 0: done; 3: done, and more rows were removed than --fail-above allows; 2: an error that the user can mend;
1: our fault; 128 and its number: a signal.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .boundary import lost_others, report
from .console import Console, count_of, escaped, show
from .errors import SettingsError
from .forgetting.thresholds import parse_most_removed
from .interruption import ended_with_others, promise, speaks_for_all, status, tell
from .models.processes import Processes, check_launch
from .settings.command_line import Parser, add_options, help_of
from .settings.experiments import PRESETS, STUDIES, CompareSettings, MixSettings, SourceSettings, StudySettings
from .settings.groups import (
    ApplySettings,
    DataSettings,
    DecisionSettings,
    EvaluationSettings,
    FinetuneSettings,
    PreviewSettings,
    SafeSettings,
    Settings,
)
from .settings.option import NONE, from_mapping, options_of, read_config
from .settings.run_folder import GateSettings, HubSettings, RunFolderSettings, TrackingSettings

if TYPE_CHECKING:
    from .decision.decide import Summary
    from .runs.run import Run

# What becomes of the work of a command that fails or is interrupted.
_GOES_ON = "what is finished in {folder} is kept, and the same command goes on from there"
_STANDS = "the last decision in {folder} stands, whole"
_WHOLE = "no file in {folder} is half written"
_NOTHING = "nothing was written"
_TOO_MANY_REMOVED = 3
# No more rows are looked at one by one.
_MOST_PREVIEWED = 1_000_000
_SHOWN = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = argparse.Namespace(outcome=_NOTHING)
    promise(lambda: _outcome(options))
    try:
        build_parser().parse(arguments, options)
        check_launch()
        exit_status: int = options.command(options) or 0
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        # Libraries may turn an interruption into an error of their own.
        if status() is None and not isinstance(error, KeyboardInterrupt):
            waits = lost_others(error) or not speaks_for_all()
            if not (waits and ended_with_others()):
                return report(error, _outcome(options), _folder(options))
        tell()
        return status() or 128 + signal.SIGINT
    return exit_status


def _folder(options: argparse.Namespace) -> Path | None:
    folder: Path | None = getattr(options, "output", None) or getattr(options, "run", None)
    return folder


def _outcome(options: argparse.Namespace) -> str:
    folder, there = _folder(options), False
    # A name may be too long to ask for.
    with suppress(OSError):
        there = folder is not None and folder.is_dir()
    outcome: str = options.outcome if there else _NOTHING
    return outcome.format(folder=escaped(str(folder)))


def _filter(options: argparse.Namespace) -> int:
    beside = options_of(RunFolderSettings)
    values = _merge_values(options, Settings, beside)
    # These concern the run folder, or what follows, and are not settings of the run.
    source = str(options.config or "options")
    named = {name: values.pop(name) for name in beside if name in values}
    after = (name for group in (GateSettings, HubSettings, TrackingSettings) for name in options_of(group))
    named |= {name: getattr(options, name) for name in after if hasattr(options, name)}
    folder = from_mapping(RunFolderSettings, named, source)
    options.output = options.output or (_place("output")(folder.output) if folder.output else None)
    settings = from_mapping(Settings, values, source)
    dry_run = options.dry_run or folder.dry_run
    needed = {"DATA": settings.data.data, "--safe": settings.safe.safe, "--model": settings.model.model}
    if not dry_run:
        needed["--output"] = options.output
    missing = [name for name, value in needed.items() if not value]
    # Where the model alone is missing, its own error says what it may be.
    if missing and missing != ["--model"]:
        raise SettingsError(f"filter needs {', '.join(missing)}; see 'forgetfilter filter --help'")
    if dry_run:
        _rehearse(settings)
        return 0
    assert options.output is not None
    if folder.hub.push_to_hub is not None:
        from .publishing.hub import check_can_push

        check_can_push(folder.hub.push_to_hub)
    path, summary = _run_and_show(
        settings, options.output, overwrite=options.overwrite or folder.overwrite, report_to=folder.tracking.report_to
    )
    # Of several processes, one speaks.
    if not Processes(settings.model.device).main:
        return 0
    if folder.hub.push_to_hub is not None:
        _push_and_show(path, folder.hub.push_to_hub, private=folder.hub.private)
    return _exit_status(summary, folder.gate)


def _push_and_show(path: Path, name: str, **choices: Any) -> None:
    from .publishing.hub import push
    from .runs.run import Run

    for place in push(Run.open(path), name, Console(), **choices):
        show(f"Pushed to {escaped(place)}")


def _push(options: argparse.Namespace) -> None:
    choices = {name: getattr(options, name) for name in ("removed", "model", "private")}
    _push_and_show(options.run, options.name, **choices)


def _rehearse(settings: Settings) -> None:
    from .rehearsal import rehearse
    from .runs.inputs import find_inputs

    show(rehearse(settings, find_inputs(settings), Console()).table())


def _run_and_show(settings: Settings, output: Path, *, overwrite: bool, report_to: str = "") -> tuple[Path, Summary]:
    from .pipeline import run_filter
    from .runs.inputs import find_inputs
    from .tracking import Trackers

    main_process = Processes(settings.model.device).main
    console = Console(quiet=not main_process)
    trackers = Trackers(report_to if main_process else "", output, settings, console)
    run, summary = run_filter(settings, find_inputs(settings), output, console, overwrite=overwrite, show=_show)
    trackers.report_summary(summary)
    if main_process and settings.final.finetune:
        _show_model(run.path)
    return run.path, summary


def _exit_status(summary: Summary, gate: GateSettings) -> int:
    """Return the exit status for what was removed, and say so where it is more than the gate allows."""
    if gate.fail_above is None:
        return 0
    most = parse_most_removed(gate.fail_above)
    if not most.is_exceeded(summary.removed, summary.rows):
        return 0
    counted = f"{summary.removed:,} of {summary.rows:,} rows are removed, {summary.removed / max(summary.rows, 1):.2%}"
    show(f"forgetfilter: {counted}; --fail-above allows {most.text}", sys.stderr)
    return _TOO_MANY_REMOVED


def _decide(options: argparse.Namespace) -> int:
    from .decision.overrides import given_overrides
    from .pipeline import run_decide
    from .runs.run import Run
    from .tracking import Trackers

    gate = from_mapping(GateSettings, _merge_values(options, GateSettings), "options")
    tracking = from_mapping(TrackingSettings, _merge_values(options, TrackingSettings), "options")
    changed, console = _merge_values(options, DecisionSettings), Console()
    trackers = None
    if tracking.report_to:
        trackers = Trackers(tracking.report_to, options.run, Run.open(options.run).settings, console, again=True)
    run, summary = run_decide(
        options.run,
        changed,
        console,
        overrides=given_overrides(options.overrides),
        known_unsafe=options.known_unsafe,
        finetune=options.finetune,
    )
    if trackers:
        trackers.report_summary(summary)
    _show(run, summary)
    if options.finetune:
        _show_model(run.path)
    return _exit_status(summary, gate)


def _apply(options: argparse.Namespace) -> None:
    from .applying.apply import applied_table, apply_run

    settings = from_mapping(ApplySettings, _merge_values(options, ApplySettings), "options")
    if not settings.data.data:
        raise SettingsError("apply needs RUN and DATA; see 'forgetfilter apply --help'")
    show(applied_table(options.output, apply_run(options.run, settings, options.output, Console())))


def _figure(options: argparse.Namespace) -> None:
    from .report.figure import write_figures

    for path in write_figures(options.run, options.output or options.run / "figures", options.by):
        show(escaped(str(path)))


def _preview(options: argparse.Namespace) -> None:
    from .report.preview import preview

    settings = from_mapping(PreviewSettings, _merge_values(options, PreviewSettings), "options")
    if not settings.data.data:
        raise SettingsError("preview needs DATA; see 'forgetfilter preview --help'")
    if not 1 <= options.rows <= _MOST_PREVIEWED:
        raise SettingsError(f"rows must be at least 1 and at most {_MOST_PREVIEWED:,}, found {options.rows}")
    preview(settings, options.rows)


def _evaluate(options: argparse.Namespace) -> None:
    from .evaluation.command import run_evaluation

    settings = from_mapping(
        EvaluationSettings, _merge_values(options, EvaluationSettings), str(options.config or "options")
    )
    needed = {"HELD_OUT": settings.held_out, "--output": options.output}
    if missing := [name for name, value in needed.items() if not value]:
        raise SettingsError(f"evaluate needs {', '.join(missing)}; see 'forgetfilter evaluate --help'")
    main_process = Processes(settings.model.device).main
    evaluation = run_evaluation(settings, options.output, Console(quiet=not main_process))
    if main_process:
        show(f"{evaluation.table()}\n{escaped(str(options.output))}")


def _demo(options: argparse.Namespace) -> None:
    from .demo import demo_settings, known_labels

    path, _ = _run_and_show(demo_settings(options.model), options.output, overwrite=options.overwrite)
    show(known_labels(path))


def _compare(options: argparse.Namespace) -> None:
    from .experiments.comparison.compare import compare
    from .experiments.mixing import read_mix
    from .runs.layout import TABLES

    settings = from_mapping(CompareSettings, _merge_values(options, CompareSettings), str(options.config or "options"))
    mixes = [read_mix(folder) for folder in options.mix]
    tables = compare(mixes, settings, options.output, Console()).tables
    show(f"{tables}\n{escaped(str(options.output / TABLES))}")


def _study(options: argparse.Namespace) -> None:
    from .experiments.mixing import read_mix
    from .experiments.studies.command import list_studies, run_study
    from .runs.layout import FINDING

    if options.name is None:
        show(list_studies())
        return
    if not options.output:
        raise SettingsError(f"study {options.name} needs --output FOLDER; see 'forgetfilter study --help'")
    values = PRESETS[options.preset] | _merge_values(options, StudySettings)
    settings = from_mapping(StudySettings, values, str(options.config or "options"))
    mixes = [read_mix(folder) for folder in options.mix]
    folder = run_study(options.name, mixes, settings, options.output, Console())
    show(f"{(folder / FINDING).read_text(encoding='utf-8')}\n{escaped(str(folder / FINDING))}")


def _mix(options: argparse.Namespace) -> None:
    from .experiments.mixing import build_mix

    settings = from_mapping(MixSettings, _merge_values(options, MixSettings), "options")
    mix = build_mix(options.source, settings, options.output, Console(), overwrite=options.overwrite)
    show(mix.table())


def _rows(options: argparse.Namespace) -> None:
    from .experiments.mixing import write_rows

    settings = from_mapping(SourceSettings, _merge_values(options, SourceSettings), "options")
    count = write_rows(options.source, settings, options.output, Console(), overwrite=options.overwrite)
    show(f"{escaped(str(options.output))}: {count_of(count, 'row')}")


def _env(options: argparse.Namespace) -> None:  # noqa: ARG001
    from .environment import describe

    show(describe())


def build_parser() -> Parser:
    """Build the parser of the command line, which also the documents list."""
    parser = Parser(
        prog="forgetfilter",
        description="Clean untrusted fine-tuning data: remove what a safety review makes the model forget.",
    )
    parser.add_argument("--version", action="version", version=f"forgetfilter {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(
        commands,
        "filter",
        _filter,
        "filter a data set into a run folder",
        usage="DATA --safe FILE --model MODEL --output RUN",
    )
    command.add_argument("data", nargs="*", metavar="DATA", help=help_of(DataSettings, "data"))
    command.add_argument("--output", type=_place("output"), metavar="RUN", help=help_of(RunFolderSettings, "output"))
    _add_config(command)
    command.add_argument("--overwrite", action="store_true", help=help_of(RunFolderSettings, "overwrite"))
    command.add_argument("--dry-run", action="store_true", help=help_of(RunFolderSettings, "dry_run"))
    add_options(command, Settings, leave_out={"data"})
    add_options(command, GateSettings)
    add_options(command, HubSettings)
    add_options(command, TrackingSettings)

    command = _command(commands, "decide", _decide, "decide again from a run's scores", _STANDS, usage="RUN")
    _add_run(command)
    command.add_argument("--finetune", action="store_true", help=help_of(FinetuneSettings, "finetune"))
    command.add_argument(
        "--overrides",
        type=_overrides,
        metavar="FILE",
        help="a person's decisions, saved in the report; none: drop them (default: those of the last decision)",
    )
    command.add_argument(
        "--known-unsafe",
        metavar="FILE",
        help="rows known to be unsafe that were found since, read as the data was: evidence at once, also for later "
        "decisions; they alone take the model; none: drop those that were given before",
    )
    add_options(command, DecisionSettings, default="as last decided, or as the overrides were saved with")
    add_options(command, GateSettings)
    add_options(command, TrackingSettings)

    command = _command(
        commands,
        "apply",
        _apply,
        "divide further rows by what a run has learned, without training",
        usage="RUN DATA --output FOLDER",
    )
    _add_run(command)
    command.add_argument("data", nargs="*", metavar="DATA", help=help_of(DataSettings, "data"))
    command.add_argument("--output", type=_place("output"), required=True, metavar="FOLDER", help="where the rows go")
    add_options(command, ApplySettings, leave_out={"data"})

    command = _command(commands, "figure", _figure, "draw a run's forgetting and its sessions, as SVG and PDF", _WHOLE)
    _add_run(command)
    command.add_argument("--by", metavar="COLUMN", help="tell forgetting apart by the values of this column")
    command.add_argument(
        "--output", type=_place("output"), metavar="FOLDER", help="where the figures go (default: RUN/figures)"
    )

    command = _command(
        commands, "push", _push, "push a run's kept rows, and its model, to the hub", _STANDS, usage="RUN NAME"
    )
    _add_run(command)
    command.add_argument("name", metavar="NAME", help="name on the hub, as user/name, for data set and model alike")
    command.add_argument("--removed", action="store_true", help="also push the removed rows, as a second config")
    command.add_argument(
        "--model",
        nargs="?",
        const="adapter",
        choices=("adapter", "merged"),
        help="also push the model of --finetune: as it is in RUN (the default), or merged into its base",
    )
    command.add_argument("--private", action="store_true", help=help_of(HubSettings, "private"))

    command = _command(
        commands,
        "preview",
        _preview,
        "show the tokens of a few rows and which are trained on",
        usage="DATA --model MODEL",
    )
    command.add_argument("data", nargs="*", metavar="DATA", help=help_of(DataSettings, "data"))
    command.add_argument("--rows", type=int, default=3, metavar="N", help="how many rows to show (default: 3)")
    add_options(command, PreviewSettings, leave_out={"data"})

    command = _command(
        commands,
        "evaluate",
        _evaluate,
        "measure bias, toxicity, harmfulness and tasks of a model",
        usage="HELD_OUT --model MODEL --output EVAL",
    )
    command.add_argument("held_out", nargs="?", metavar="HELD_OUT", help=help_of(EvaluationSettings, "held_out"))
    command.add_argument("--output", type=_place("output"), metavar="EVAL", help="folder; an evaluation there goes on")
    _add_config(command)
    add_options(command, EvaluationSettings, leave_out={"held_out", "max_completion", "own_words"})

    left_out = {*options_of(DataSettings), *options_of(SafeSettings)}
    left_out |= {"rivals", "signal", "finetune", "lm_eval", "examples", "limit", "learned"}
    command = _command(
        commands,
        "compare",
        _compare,
        "compare filters and strategies on noisy sets with known labels",
        usage="MIX --model MODEL --output FOLDER",
    )
    command.add_argument("mix", nargs="+", type=_place("mix"), metavar="MIX", help="folder that 'data mix' wrote")
    command.add_argument(
        "--output", type=_place("output"), required=True, metavar="FOLDER", help="a comparison there goes on"
    )
    _add_config(command)
    add_options(command, CompareSettings, leave_out=left_out)

    command = _command(
        commands,
        "study",
        _study,
        "do one of the paper's studies, or of those that it lacks",
        usage="NAME --mix MIX --model MODEL --output FOLDER",
    )
    command.add_argument(
        "name", nargs="?", choices=STUDIES, metavar="NAME", help="which study; without a name, all are listed"
    )
    command.add_argument(
        "--mix",
        action="append",
        default=[],
        type=_place("mix"),
        metavar="MIX",
        help="folder that 'data mix' wrote; may be given several times",
    )
    command.add_argument("--preset", choices=PRESETS, default="small", help="sizes and settings (default: small)")
    command.add_argument("--output", type=_place("output"), metavar="FOLDER", help="sessions there are used again")
    _add_config(command)
    add_options(command, StudySettings, leave_out=left_out)

    command = _command(commands, "demo", _demo, "run the filter on a small data set that comes with the package")
    command.add_argument("--model", default="smollm2-135m", help="aligned model (default: smollm2-135m)")
    command.add_argument(
        "--output",
        type=_place("output"),
        default=Path("demo-run"),
        metavar="RUN",
        help="run folder (default: demo-run)",
    )
    command.add_argument("--overwrite", action="store_true", help="start again even if RUN holds a run")

    _add_data(commands)
    _command(commands, "env", _env, "print versions and hardware, for a bug report")
    return parser


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="read published data sets, and build noisy sets from them")
    builders = data.add_subparsers(required=True, metavar="COMMAND")
    kinds = "bbq, harmfulqa, toxicity, squad, alpaca or rows; KIND alone is the data set on the hub"

    command = _command(
        builders,
        "mix",
        _mix,
        "draw noisy, safe and held-out sets from published data",
        _WHOLE,
        usage="--source KIND=PATH --output FOLDER",
    )
    command.add_argument(
        "--source", action="append", required=True, metavar="KIND=PATH", help=f"may be given several times: {kinds}"
    )
    command.add_argument("--output", type=_place("output"), required=True, metavar="FOLDER", help="where the sets go")
    command.add_argument("--overwrite", action="store_true", help="replace another mix that is there")
    add_options(command, MixSettings)

    command = _command(builders, "rows", _rows, "write the examples of one published data set as labelled rows", _WHOLE)
    command.add_argument("source", metavar="KIND=PATH", help=kinds)
    command.add_argument("--output", type=_place("output"), required=True, metavar="FILE", help="jsonl file to write")
    command.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    add_options(command, SourceSettings)


def _overrides(text: str) -> Path | str:
    """Parse the name of a file of a person's decisions, or `none`."""
    return NONE if text == NONE else _place("overrides")(text)


def _place(name: str) -> Callable[[str], Path]:
    """Make a parser of names of files and folders; it refuses what nothing can be called or no report can show."""

    def parse(text: str) -> Path:
        if not text.strip():
            raise SettingsError(
                f"{name}: a name of nothing but blanks; expected a file or folder (was a variable of the shell empty?)"
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise SettingsError(
                f"{name}: found {text[:_SHOWN]!r}, which is not valid UTF-8; use another name"
            ) from None
        return Path(text)

    return parse


def _add_config(command: Parser) -> None:
    command.add_argument(
        "--config", type=_place("config"), metavar="FILE", help="YAML file with any of these options as keys"
    )


def _add_run(command: Parser) -> None:
    command.add_argument("run", type=_place("run"), metavar="RUN", help="run folder that 'filter' wrote")


def _command(commands: Any, name: str, call: Any, summary: str, outcome: str = _GOES_ON, *, usage: str = "") -> Parser:
    """Add a command.

    Args:
        commands: Where it is added.
        name, call, summary: What it is called, runs and does.
        outcome: What becomes of its work where it fails or is interrupted.
        usage: What its line of usage says besides its name.
    """
    line = f"{commands._prog_prefix} {name} {usage} [options]" if usage else None
    sentence = f"{summary[0].upper()}{summary[1:]}."
    command: Parser = commands.add_parser(name, help=summary, description=sentence, usage=line)
    command.set_defaults(command=call, outcome=outcome)
    return command


def _merge_values(options: argparse.Namespace, cls: type, beside: Collection[str] = ()) -> dict[str, Any]:
    """Merge the values of the configuration file with those of the command line, which take precedence.

    The file may also have those named `beside`, which are no settings of the class.
    """
    config = getattr(options, "config", None)
    values = {name.replace("-", "_"): value for name, value in (read_config(config) if config else {}).items()}
    # A wrong value is told even where the command line has another.
    from_mapping(cls, {name: value for name, value in values.items() if name not in beside}, str(config))
    for name in options_of(cls):
        # A positional argument with nargs="*" is an empty list where it is not given.
        if getattr(options, name, None) not in (None, []):
            values[name] = getattr(options, name)
    return values


def _show(run: Run, summary: Summary) -> None:
    from .report.terminal import closing_table

    show(closing_table(run.path, summary))


def _show_model(path: Path) -> None:
    from .report.terminal import final_model

    show(final_model(path))
