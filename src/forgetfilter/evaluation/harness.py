"""Runs tasks of lm-evaluation-harness, if it is installed, on the model in its present state."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from ..errors import ForgetFilterError, SettingsError, first_line
from .measures import HIGHER, LOWER, Measure

if TYPE_CHECKING:
    from ..models.trainable_model import TrainableModel

_Z = 1.959963984540054


def check_harness(tasks: str) -> list[str]:
    """Split the names of tasks, and check that the harness is installed.

    Raises:
        SettingsError: lm_eval is not installed, or no task is named.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise SettingsError("lm_eval: lm-evaluation-harness is not installed here; pip install 'lm_eval[hf]'")
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise SettingsError(f"lm_eval: expected names of tasks, such as squadv2,hellaswag; found {tasks!r}")
    return names


def harness_measures(model: TrainableModel, tokenizer: Any, tasks: list[str], most_rows: int | None) -> list[Measure]:
    """Run tasks and return their metrics as `lm-eval.TASK.METRIC`, each plus and minus 1.96 of its standard errors.

    The tasks fetch their data sets from the hub.

    Raises:
        ForgetFilterError: The harness cannot run a task.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    # HFLM does not choose a batch size by itself, and the model is on its device already.
    harness_model = HFLM(pretrained=model.model.eval(), tokenizer=tokenizer, batch_size=8)
    try:
        output = lm_eval.simple_evaluate(model=harness_model, tasks=tasks, limit=most_rows)
    except Exception as error:
        # The harness and the hub's client raise many kinds of errors; whichever it is, there is no result.
        problem = first_line(error)
        raise ForgetFilterError(f"lm_eval: cannot run {', '.join(tasks)}: {problem}") from error
    return [measure for task, metrics in output["results"].items() for measure in _task_measures(task, metrics, output)]


def _task_measures(task: str, metrics: dict[str, Any], output: dict[str, Any]) -> list[Measure]:
    rows = int(output.get("n-samples", {}).get(task, {}).get("effective", 0))
    higher = output.get("higher_is_better", {}).get(task, {})
    measures = []
    for key, value in metrics.items():
        metric, _, variant = key.partition(",")
        # An entry without a variant, such as the number of samples, is not a metric.
        if not variant or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        error = metrics.get(f"{metric}_stderr,{variant}")
        half = _Z * float(error) if isinstance(error, (int, float)) else None
        name = f"lm-eval.{task}.{metric}" + (f"[{variant}]" if variant != "none" else "")
        low, high = (value - half, value + half) if half is not None else (None, None)
        measures.append(Measure(name, float(value), low, high, rows, HIGHER if higher.get(metric, True) else LOWER))
    return measures
