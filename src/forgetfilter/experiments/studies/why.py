"""Correlates forgetting with what may predict it: gradients, representations, loss, length, position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...forgetting.estimates import Estimate
from ...forgetting.measuring import columns_of, suspicion_column
from ...forgetting.signals import LIKELIHOOD_MEAN, SIGNALS
from ...metrics.detection import ranks, row_interval
from ...models.stage_runner import BASE
from ...plotting.charts import dots, side_by_side
from ...plotting.markdown import markdown_table
from ...plotting.style import shown
from ...rivals.model_states import distance_to_nearest
from ...runs.layout import DATA, FORGETTING, LEARNED, REVIEWED, rival_stage, scores_of, table_of
from ...runs.run import Run
from ..experiment import Experiment
from ..mixing import Mix
from ..strategies.strategy import NOISY, SAFE
from .averaging import mean_over_draws
from .context import UNSAFE, StudyContext, align, groups_by_id
from .curves import separation
from .study import Finding, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.floating]
_GRADIENT = "gradient (first order)"
_RIVALS = ("gradient", "learned-loss", "base-loss")
_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _run(context: StudyContext) -> Finding:
    results = mean_over_draws(context.draws, lambda mix: _correlate(context, mix))
    correlations = {name: estimates["forgetting"] for name, estimates in results.items()}
    data: list[dict[str, Any]] = [
        {"predictor": name, "auroc": estimates["unsafe"].value} | vars(estimates["forgetting"])
        for name, estimates in results.items()
    ]
    table = markdown_table(
        ("predictor", "rank correlation with forgetting", "AUROC for unsafe rows"),
        [(name, estimates["forgetting"], estimates["unsafe"]) for name, estimates in results.items()],
    )
    # The map shows one draw, as principal directions differ between draws.
    experiment = context.experiment(context.draws[0])
    ids = experiment.ids(NOISY)
    projection = _map(_states(experiment)[NOISY][len(_DEPTHS) // 2])
    forgetting, group = (
        _forgetting(_filter_run(context, context.draws[0]), ids),
        align(groups_by_id(context.draws[0]), ids),
    )

    def draw(figure: Figure) -> None:
        left, right = side_by_side(figure, 2)
        dots(left, correlations, "rank correlation with forgetting", chance=0)
        _draw_map(right, projection, forgetting, group)

    return Finding(data, table, _summary(context.title(context.draws), correlations), draw, (7.2, 3.2))


def _filter_run(context: StudyContext, mix: Mix) -> Run:
    return context.filtered_run(mix, rivals=",".join(_RIVALS))


def _correlate(context: StudyContext, mix: Mix) -> dict[str, dict[str, Estimate]]:
    """Compute, for each predictor, its correlation with forgetting and how well it separates unsafe rows."""
    run, experiment = _filter_run(context, mix), context.experiment(mix)
    ids = experiment.ids(NOISY)
    forgetting, unsafe = _forgetting(run, ids), align(groups_by_id(mix), ids) == UNSAFE
    predictors = _from_run(run, ids) | _distances(_states(experiment)) | _lengths(experiment)
    return {
        name: {"forgetting": _correlation(values, forgetting), "unsafe": separation(values, unsafe)}
        for name, values in predictors.items()
    }


def _forgetting(run: Run, ids: list[str]) -> FloatArray:
    """Read the drop of each row by itself, which the filter's default signal shares among similar rows."""
    learned, reviewed, _ = columns_of(LIKELIHOOD_MEAN)
    table = pq.read_table(run.folder(FORGETTING) / table_of(DATA), columns=["id", learned, reviewed]).to_pydict()
    drop = np.subtract(np.array(table[learned], dtype=float), np.array(table[reviewed], dtype=float))
    by_id = dict(zip(table["id"], drop, strict=True))
    return np.array([by_id[id] for id in ids])


def _from_run(run: Run, ids: list[str]) -> dict[str, FloatArray]:
    names = {
        "gradient": _GRADIENT,
        "learned-loss": "loss after learning",
        "base-loss": "loss before learning",
    }
    predictors = {}
    for rival, name in names.items():
        table = pq.read_table(run.folder(rival_stage(rival)) / table_of(DATA)).to_pydict()
        by_id = dict(zip(table["id"], table[suspicion_column(SIGNALS[rival])], strict=True))
        predictors[name] = np.array([by_id[id] for id in ids], dtype=float)
    return predictors | {"place of the forgotten tokens": _positions(run, ids)}


def _positions(run: Run, ids: list[str]) -> FloatArray:
    """Compute where in its completion a row is forgotten, 0 (beginning) to 1 (end), weighted by the drop."""
    learned, reviewed = (
        pq.read_table(run.folder(scores_of(state)) / DATA).to_pydict() for state in (LEARNED, REVIEWED)
    )
    later = dict(zip(reviewed["id"], reviewed["logprobs"], strict=True))
    where = {}
    for id, before in zip(learned["id"], learned["logprobs"], strict=True):
        drop = np.maximum(np.subtract(before, later[id]), 0)
        place = np.linspace(0, 1, len(drop))
        where[id] = float((drop * place).sum() / drop.sum()) if drop.sum() > 0 else 0.5
    return np.array([where[id] for id in ids])


def _lengths(experiment: Experiment) -> dict[str, FloatArray]:
    table = experiment.tokens(NOISY)
    return {"length": table.counts[table.scorable].astype(float)}


def _states(experiment: Experiment) -> dict[str, FloatArray]:
    """Compute hidden states of M0 for the noisy and the safe rows, each of shape (depths, n, width)."""
    return {name: experiment.hidden_states(BASE, name, _DEPTHS) for name in (NOISY, SAFE)}


def _distances(states: dict[str, FloatArray]) -> dict[str, FloatArray]:
    return {
        f"distance to safe, {depth:.0%} up": distance_to_nearest(noisy, safe)
        for depth, noisy, safe in zip(_DEPTHS, states[NOISY], states[SAFE], strict=True)
    }


def _correlation(values: FloatArray, forgetting: FloatArray) -> Estimate:
    """Compute Spearman's correlation, with a 95% bootstrap interval over rows."""

    def spearman(a: FloatArray, b: FloatArray) -> float:
        one, other = ranks(a), ranks(b)
        return float(np.corrcoef(one, other)[0, 1]) if min(one.std(), other.std()) > 0 else float("nan")

    return Estimate(spearman(values, forgetting), *row_interval(spearman, values, forgetting))


def _map(states: FloatArray) -> FloatArray:
    """Project hidden states onto their first two principal components, shape (n, 2)."""
    # Normalised, so that a few rows with outstanding activations do not dominate the map.
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    projection: FloatArray = centred @ directions[:2].T
    return projection


def _draw_map(axes: Axes, projection: FloatArray, forgetting: FloatArray, group: NDArray[np.str_]) -> None:
    for marker, name in zip("xo^sDv", dict.fromkeys(sorted(group, key=lambda g: g != UNSAFE)), strict=False):
        in_group = group == name
        shades: dict[str, Any] = {"c": forgetting[in_group], "cmap": "viridis_r"}
        shades |= {"vmin": forgetting.min(), "vmax": forgetting.max()}
        x, y = projection[in_group].T
        axes.scatter(x, y, s=10, marker=marker, label=shown(str(name)), linewidths=0.8, **shades)
    axes.set_title("hidden states half way up; darker = forgotten more", fontsize=7)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=6)


def _summary(title: str, estimates: dict[str, Estimate]) -> str:
    sure = {name: e for name, e in estimates.items() if e.low > 0 or e.high < 0}
    order = sorted(sure, key=lambda name: -abs(sure[name].value))
    correlations = [f"{name} ({sure[name].value:+z.2f})" for name in order[:3]]
    unsure = [name for name in estimates if name not in sure]
    gradient = estimates[_GRADIENT]
    theory = f"a rank correlation of {gradient.value:z.2f} ({gradient.low:z.2f} to {gradient.high:z.2f})"
    return (
        f"{title}: forgetting goes most with {', '.join(correlations) or 'nothing that was looked at'}. "
        + (f"No relation is certain with {', '.join(unsure)}. " if unsure else "")
        + "First-order theory has forgetting as learning rate times steps times the inner product of the row's "
        f"gradient with the safe examples', and predicts the order with {theory}. "
        + (
            "In plain words: the method works as far as following the safe examples pulls the weights against what a "
            "row taught them; a row whose gradient has nothing to do with theirs is neither forgotten nor found."
            if gradient.low > 0
            else "So the first step of the review does not tell what the whole of it undoes."
        )
    )


STUDY = Study(
    "why",
    "What predicts forgetting",
    "Why are some rows forgotten: their gradients, their representations, their loss, their length?",
    _run,
)
