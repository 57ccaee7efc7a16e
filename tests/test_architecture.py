"""The shape of the house: what may import what, what costs nothing to import, what is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import forgetfilter

SOURCE = Path(forgetfilter.__file__).parent

# Lower layers first. A module imports from its own layer or those below.
LAYERS = [
    ["errors", "metrics", "filtering"],
    ["options", "settings", "console", "processes", "markdown", "drawing", "plots"],
    ["run", "data", "builtin"],
    ["models", "measuring", "token_scores", "own_answers", "classifiers", "judging"],
    ["inputs", "overrides", "workbench", "mixing"],
    ["rivals", "witnesses", "known_later"],
    ["verdicts", "suspecting", "explaining", "decision", "examples", "final_model", "review_curve"],
    ["closing", "report", "figure", "preview", "environment", "evaluation"],
    ["pipeline", "demo", "lab"],
    ["asking"],
    ["strategies"],
    ["comparison"],
    ["studies"],
    ["api", "cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(SOURCE.rglob("*.py"))


def part(path: Path) -> str:
    top = path.relative_to(SOURCE).parts[0]
    return top.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Parts of the package that a file imports, wherever in it."""
    package = ["forgetfilter", *path.relative_to(SOURCE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [*base, *(node.module or "").split(".")] if node.module else base
            targets = [[*names, alias.name] for alias in node.names]
            found |= {target[1] for target in targets if len(target) > 1}
    return found & set(LEVEL)


def test_every_module_has_a_layer():
    assert {part(path) for path in MODULES} - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path):
    if part(path) == "__init__":
        return
    above = {name for name in imported(path) if LEVEL[name] > LEVEL[part(path)]}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_can_be_read_in_a_sitting(path):
    assert len(path.read_text().splitlines()) <= 600


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import forgetfilter",
        "from forgetfilter import ForgetFilter, FilterResult, ForgetFilterError",
        "import forgetfilter.cli, forgetfilter.decision, forgetfilter.closing, forgetfilter.metrics.detection",
        "import forgetfilter.evaluation.evaluate, forgetfilter.evaluation.command, forgetfilter.judging",
        "import forgetfilter.data.rows, forgetfilter.data.tokens, forgetfilter.data.containers, forgetfilter.run",
        "import forgetfilter.mixing",
    ],
)
def test_no_torch_unless_a_model_is_needed(statement):
    loaded = modules_after(statement)
    assert not loaded & {"torch", "transformers", "peft", "accelerate"}


def test_help_needs_next_to_nothing():
    assert not modules_after("import forgetfilter.cli") & {"pyarrow", "rich", "datasets"}


def test_public_names():
    assert forgetfilter.__all__ == ["FilterResult", "ForgetFilter", "ForgetFilterError", "__version__"]
    assert all(getattr(forgetfilter, name) is not None for name in forgetfilter.__all__)
    with pytest.raises(AttributeError):
        _ = forgetfilter.nonsense
