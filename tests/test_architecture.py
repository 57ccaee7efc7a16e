"""The shape of the house: what may import what, what costs nothing to import, what is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import forgetfilter
from forgetfilter.runs import layout

SOURCE = Path(forgetfilter.__file__).parent
LAYOUT = Path(layout.__file__)

# Lower layers first: rooms, and modules where a room is not on one layer; the longest name holds.
# A module imports from its own layer or those below.
LAYERS = [
    ["errors", "limits", "metrics"],
    [
        "forgetting.estimates",
        "forgetting.signals",
        "forgetting.cuts",
        "forgetting.looks",
        "forgetting.valleys",
        "forgetting.auto",
        "forgetting.thresholds",
    ],
    ["progress"],
    ["settings", "console", "interruption", "models.processes", "plotting"],
    ["runs", "boundary", "data", "builtin", "suspicion"],
    ["models", "forgetting"],
    ["runs.inputs", "decision.overrides", "models.stage_runner", "classifiers"],
    ["rivals", "stages.filter_run", "stages.known_later", "stages.prototypes", "stages.witnesses"],
    ["decision"],
    ["stages", "publishing.cards", "report.review_curve"],
    ["applying", "publishing", "tracking", "report", "environment", "evaluation"],
    ["pipeline", "rehearsal", "demo"],
    ["experiments.sampling", "experiments.published"],
    ["experiments.mixing"],
    ["experiments.experiment"],
    ["experiments.evaluating"],
    ["experiments.strategies"],
    ["experiments.comparison"],
    ["experiments.studies"],
    ["api", "cli", "integrations"],
    ["__main__"],
]
# The same inside models/: what a model is made of, the model, and what is done with it.
MODEL_LAYERS = [
    [
        "processes",
        "checkpoint",
        "sources",
        "token_scores",
        "checking",
        "gguf_header",
        "weights",
        "activations",
        "capabilities",
        "head",
        "micro_batches",
    ],
    ["cpu", "gpu.cuda_graphs", "gpu.varlen_attention"],
    ["collating", "merging", "sharding"],
    ["architecture", "loading"],
    ["fitting", "from_memory", "frozen_blocks"],
    ["forward"],
    ["gpu.packed_rows"],
    ["forward_path"],
    ["trainable_model"],
    ["generation", "gradients", "hidden_states", "vocabulary"],
    ["gpu.decoding", "optimizer_steps"],
    ["scoring"],
    ["activation_cache", "gpu.graph_steps"],
    ["training"],
    ["callbacks", "stage_runner"],
]
MODULES = sorted(SOURCE.rglob("*.py"))


def dotted(path: Path) -> str:
    """A module's name within the package; a room's for its __init__."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


NAMES = {dotted(path) for path in MODULES}


def place(module: str, layers: list[list[str]], *, of: str = "") -> int | None:
    """The layer of a module, by the longest name of the table that it is in; None if the table has none."""
    level = {of + name: level for level, names in enumerate(layers) for name in names}
    held = [name for name in level if module == name or module.startswith(f"{name}.")]
    return level[max(held, key=len)] if held else None


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in it."""
    package = path.relative_to(SOURCE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            name = ".".join(part for part in base if part)
            names = {f"{name}.{alias.name}".removeprefix(".") for alias in node.names}
            found |= {each if each in NAMES else name for each in names}
    return found - {""}


def above(path: Path, layers: list[list[str]], *, of: str = "") -> set[str]:
    """What a file imports from higher layers of a table than its own."""
    own = place(dotted(path), layers, of=of)
    placed = {name: place(name, layers, of=of) for name in imported(path) if name.startswith(of)}
    # A room on several layers has none itself: its __init__ imports nothing.
    return {name for name, level in placed.items() if own is None or level is None or level > own}


@pytest.mark.parametrize(("layers", "of"), [(LAYERS, ""), (MODEL_LAYERS, "models.")], ids=["rooms", "models"])
def test_every_module_has_a_layer(layers, of):
    empty = {"", "experiments", "models", "models.gpu"}
    assert not {name for name in NAMES - empty if name.startswith(of) and place(name, layers, of=of) is None}
    assert not {of + name for names in layers for name in names} - NAMES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path):
    if not dotted(path):
        return
    assert not above(path, LAYERS)


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "models").rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_imports_inside_models_run_downwards(path):
    assert not above(path, MODEL_LAYERS, of="models.")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_can_be_read_in_a_sitting(path):
    assert len(path.read_text().splitlines()) <= 600


# How rows, tokens and tables are stored in a folder of their own is told there.
@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(SOURCE).parts[0] not in ("data", "suspicion") and path != LAYOUT],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_one_module_names_the_files_of_a_run(path):
    names = {value for value in vars(layout).values() if isinstance(value, str) and Path(value).suffix}
    assert {"summary.json", "scores.parquet"} <= names
    told = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not names & told


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import forgetfilter",
        "from forgetfilter import ForgetFilter, FilterResult, ForgetFilterError",
        "import forgetfilter.cli, forgetfilter.decision.decide, forgetfilter.report.terminal",
        "import forgetfilter.metrics.detection",
        "from forgetfilter import RowScorer, apply, model_path",
        "import forgetfilter.evaluation.evaluate, forgetfilter.evaluation.command, forgetfilter.classifiers.judge",
        "import forgetfilter.data.rows, forgetfilter.data.tokens, forgetfilter.data.containers, forgetfilter.runs.run",
        "import forgetfilter.experiments.mixing",
    ],
)
def test_no_torch_unless_a_model_is_needed(statement):
    loaded = modules_after(statement)
    assert not loaded & {"torch", "transformers", "peft", "accelerate"}


def test_help_needs_next_to_nothing():
    assert not modules_after("import forgetfilter.cli") & {"pyarrow", "rich", "datasets"}


def test_public_names():
    assert forgetfilter.__all__ == [
        "AppliedResult",
        "FilterResult",
        "ForgetFilter",
        "ForgetFilterError",
        "KeepLearned",
        "RowScorer",
        "__version__",
        "apply",
        "model_path",
    ]
    assert all(getattr(forgetfilter, name) is not None for name in forgetfilter.__all__)
    with pytest.raises(AttributeError):
        _ = forgetfilter.nonsense
