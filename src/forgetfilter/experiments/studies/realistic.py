"""Filters few unsafe rows, some in disguise, and safe rows that look unsafe: what passes, what is wrongly removed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...data.text_files import read_jsonl
from ...errors import InputError
from ...forgetting.estimates import UNKNOWN, Estimate, wilson
from ...metrics.detection import auroc, bootstrap_interval
from ...plotting.charts import dots, side_by_side
from ...plotting.markdown import markdown_table
from ...runs.layout import SCORES, STUDY_ROWS
from ...settings.option import split_names
from ..comparison.filters import filtered_rows, unscored_last, was_removed
from ..mixing import Mix
from .averaging import mean_over_draws
from .context import UNSAFE, StudyContext, folder_name
from .disguises import DISGUISES, look_alikes
from .study import Finding, Study, as_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
_ORDINARY, _UNSAFE = "ordinary", "all unsafe"


@dataclass(frozen=True)
class _Kind:
    """The results for rows of one kind.

    Attributes:
        removed: The share of them that was removed.
        auroc: AUROC of their forgetting among ordinary rows; NaN for these.
    """

    removed: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class _ShareResult:
    """The results for one share of unsafe rows, by kind of row; `rows` counts the rows of all draws."""

    unsafe: float
    rows: Counter[str]
    kinds: dict[str, _Kind]


def _run(context: StudyContext) -> Finding:
    # Shares that amount to the same number of unsafe rows count once.
    shares = {
        share.unsafe: share
        for share in (_share(context, float(w)) for w in split_names(context.settings.unsafe_shares))
    }
    data: list[dict[str, Any]] = [
        {"unsafe_share": share.unsafe, "kind": name, "rows": share.rows[name]}
        | as_columns({"removed": kind.removed, "auroc": kind.auroc})
        for share in shares.values()
        for name, kind in share.kinds.items()
    ]
    table = markdown_table(
        ("unsafe rows", "kind", "rows", "removed", "AUROC against ordinary rows"),
        [
            (f"{share.unsafe:.1%}", name, share.rows[name], kind.removed, kind.auroc)
            for share in shares.values()
            for name, kind in share.kinds.items()
        ],
    )

    def draw(figure: Figure) -> None:
        for axes, share in zip(side_by_side(figure, len(shares)), shares.values(), strict=True):
            in_kind = {name: kind.auroc for name, kind in share.kinds.items() if name not in (_ORDINARY, _UNSAFE)}
            dots(axes, in_kind, "AUROC", chance=0.5)
            axes.set_title(f"{share.unsafe:.1%} unsafe", fontsize=8)

    summary = _summary(context.title(context.draws), list(shares.values()))
    return Finding(data, table, summary, draw, (3.0 * len(shares), 3.0))


def _share(context: StudyContext, wanted: float) -> _ShareResult:
    kinds_of_draws: list[dict[str, str]] = []

    def filter_draw(mix: Mix) -> dict[str, _Kind]:
        rows = _rows(mix, wanted, context.settings.training.seed)
        # Named by its content: shares that amount to the same rows share a filter run.
        unsafe = sum(kind in DISGUISES for kind, _ in rows)
        kinds, path = _write(rows, context.folder / STUDY_ROWS, f"{folder_name(mix)}-{unsafe}-unsafe")
        folder = context.folder / "filters" / path.stem
        run = filtered_rows(path, mix.safe, context.settings, folder, context.console)[0]
        scores = pq.read_table(run.file(SCORES)).to_pydict()
        removed = was_removed(scores["decision"], drop_unscorable=context.settings.decision.drop_unscorable)
        kinds_of_draws.append(kinds)
        return _by_kind(kinds, dict(zip(scores["id"], zip(scores["suspicion"], removed, strict=True), strict=True)))

    results = mean_over_draws(context.draws, filter_draw)
    kinds = Counter(kind for of_draw in kinds_of_draws for kind in of_draw.values())
    kinds[_UNSAFE] = sum(kinds[kind] for kind in DISGUISES)
    return _ShareResult(kinds[_UNSAFE] / (sum(kinds.values()) - kinds[_UNSAFE]), kinds, results)


def _rows(mix: Mix, share: float, seed: int) -> list[tuple[str, Row]]:
    """Combine the mix's harmless rows, look-alikes, and unsafe rows in every disguise in turn, each with its kind.

    Raises:
        InputError: The mix has no unsafe rows, or too few.
    """
    rows = list(read_jsonl(mix.noisy))
    harmless = [(_ORDINARY, row) for row in rows if row["label"] != UNSAFE]
    harmless += [(row["kind"], row) for row in look_alikes()]
    # Our disguises do not fit conversations of several turns.
    unsafe = [row for row in rows if row["label"] == UNSAFE and isinstance(row["prompt"], str)]
    count = max(1, round(share / (1 - share) * len(harmless)))
    if len(unsafe) < count:
        raise InputError(
            f"{mix.noisy}: {count} unsafe rows of one prompt each are wanted for a share of {share:.1%}, found "
            f"{len(unsafe)}"
        )
    generator = np.random.default_rng(seed)
    disguised = []
    for number, i in enumerate(generator.permutation(len(unsafe))[:count]):
        kind = list(DISGUISES)[number % len(DISGUISES)]
        prompt, completion = DISGUISES[kind](unsafe[i]["prompt"], unsafe[i]["completion"])
        disguised.append((kind, {"id": f"disguised-{unsafe[i]['id']}", "prompt": prompt, "completion": completion}))
    together = harmless + disguised
    return [together[i] for i in generator.permutation(len(together))]


def _look_alike_kinds() -> list[str]:
    return list(dict.fromkeys(row["kind"] for row in look_alikes()))


def _write(rows: list[tuple[str, Row]], folder: Path, name: str) -> tuple[dict[str, str], Path]:
    """Write the rows without their kinds, and return the kinds, by id, and the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    plain = ({key: row[key] for key in ("id", "prompt", "completion")} for _, row in rows)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain), encoding="utf-8")
    return {row["id"]: kind for kind, row in rows}, path


def _by_kind(kinds: dict[str, str], results: dict[str, tuple[float, bool]]) -> dict[str, _Kind]:
    forgetting = np.array([results[id][0] for id in kinds], dtype=float)
    removed = np.array([results[id][1] for id in kinds])
    kind_of, order = np.array(list(kinds.values())), unscored_last(forgetting)
    ordinary = kind_of == _ORDINARY
    groups = {_ORDINARY: ordinary, _UNSAFE: np.isin(kind_of, list(DISGUISES))}
    groups |= {kind: kind_of == kind for kind in (*DISGUISES, *_look_alike_kinds())}
    return {
        kind: _Kind(wilson(int(removed[in_kind].sum()), int(in_kind.sum())), _auroc(order, in_kind, ordinary))
        for kind, in_kind in groups.items()
        if in_kind.any()
    }


def _auroc(forgetting: NDArray[np.floating], in_kind: NDArray[np.bool_], ordinary: NDArray[np.bool_]) -> Estimate:
    if (in_kind & ordinary).any():
        return UNKNOWN
    chosen = in_kind | ordinary
    return Estimate(
        auroc(forgetting[chosen], in_kind[chosen]), *bootstrap_interval(forgetting[chosen], in_kind[chosen])
    )


def _summary(title: str, shares: list[_ShareResult]) -> str:
    sentences = [f"{title}, with few of its unsafe rows."]
    for share in shares:
        kinds, rows = share.kinds, share.rows
        auroc = kinds[_UNSAFE].auroc
        passed = rows[_UNSAFE] * (1 - kinds[_UNSAFE].removed.value)
        lost = sum(rows[kind] * kinds[kind].removed.value for kind in (_ORDINARY, *_look_alike_kinds()))
        hidden = min((kind for kind in DISGUISES if kind in kinds), key=lambda kind: kinds[kind].auroc.value)
        suspect = max(_look_alike_kinds(), key=lambda kind: kinds[kind].auroc.value)
        sentences.append(
            f"At {share.unsafe:.1%}: {passed:.0f} of {rows[_UNSAFE]} unsafe rows pass and {lost:.0f} harmless rows are "
            f"removed; the unsafe rows stand out with an AUROC of {auroc.value:.2f} ({auroc.low:.2f} to "
            f"{auroc.high:.2f}). Least suspicious of the disguises is “{hidden}” ({kinds[hidden].auroc.value:.2f}, of "
            f"{rows[hidden]}), most suspicious of the look-alikes “{suspect}” ({kinds[suspect].auroc.value:.2f}, of "
            f"{rows[suspect]})."
        )
    sentences.append("Kinds of few rows tell little: the table has their intervals.")
    return " ".join(sentences)


STUDY = Study(
    "realistic",
    "Few unsafe rows, in disguise",
    "With few unsafe rows, disguises, near copies and look-alikes that are harmless: what passes, what is lost?",
    _run,
)
