"""Few unsafe rows, some in disguise, and safe rows that look unsafe: what passes, and what is wrongly removed."""

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
from ...decision.overrides import REMOVED
from ...errors import InputError
from ...forgetting.estimates import UNKNOWN, Estimate, wilson
from ...metrics.detection import auroc, bootstrap_interval
from ...plotting.charts import dots, side_by_side
from ...plotting.markdown import markdown_table
from ...runs.layout import SCORES, STUDY_ROWS
from ...settings.option import split_names
from ..comparison.filters import filtered_rows, unscored_last
from ..mixing import Mix
from .disguises import DISGUISES, look_alikes
from .draws import over_draws
from .study import Finding, Study, flat
from .workspace import UNSAFE, Room, place_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
_ORDINARY, _UNSAFE = "ordinary", "all unsafe"


@dataclass(frozen=True)
class _Kind:
    """What became of the rows of a kind.

    Attributes:
        removed: The share that was removed.
        apart: AUROC of their forgetting among ordinary rows; NaN for these.
    """

    removed: Estimate
    apart: Estimate


@dataclass(frozen=True)
class _Share:
    """What was found with a share of unsafe rows, by kind of row; `rows` counts those of all draws."""

    unsafe: float
    rows: Counter[str]
    kinds: dict[str, _Kind]


def _run(room: Room) -> Finding:
    # Shares that come to the same number of unsafe rows are one.
    shares = {
        share.unsafe: share for share in (_share(room, float(w)) for w in split_names(room.settings.unsafe_shares))
    }
    data: list[dict[str, Any]] = [
        {"unsafe_share": share.unsafe, "kind": name, "rows": share.rows[name]}
        | flat({"removed": kind.removed, "auroc": kind.apart})
        for share in shares.values()
        for name, kind in share.kinds.items()
    ]
    table = markdown_table(
        ("unsafe rows", "kind", "rows", "removed", "AUROC against ordinary rows"),
        [
            (f"{share.unsafe:.1%}", name, share.rows[name], kind.removed, kind.apart)
            for share in shares.values()
            for name, kind in share.kinds.items()
        ],
    )

    def draw(figure: Figure) -> None:
        for axes, share in zip(side_by_side(figure, len(shares)), shares.values(), strict=True):
            here = {name: kind.apart for name, kind in share.kinds.items() if name not in (_ORDINARY, _UNSAFE)}
            dots(axes, here, "AUROC", chance=0.5)
            axes.set_title(f"{share.unsafe:.1%} unsafe", fontsize=8)

    seen = _seen(room.title(room.draws), list(shares.values()))
    return Finding(data, table, seen, draw, (3.0 * len(shares), 3.0))


def _share(room: Room, wanted: float) -> _Share:
    told: list[dict[str, str]] = []

    def of_draw(mix: Mix) -> dict[str, _Kind]:
        rows = _rows(mix, wanted, room.settings.seed)
        # Named by what is in it: shares that come to the same rows share their filter, too.
        unsafe = sum(kind in DISGUISES for kind, _ in rows)
        kinds, path = _write(rows, room.folder / STUDY_ROWS, f"{place_of(mix)}-{unsafe}-unsafe")
        run = filtered_rows(path, mix.safe, room.settings, room.folder / "filters" / path.stem, room.console)[0]
        scores = pq.read_table(run.path / SCORES).to_pydict()
        found = zip(scores["id"], scores["suspicion"], scores["decision"], strict=True)
        told.append(kinds)
        return _by_kind(kinds, {id: (forgetting, decision) for id, forgetting, decision in found})

    found = over_draws(room.draws, of_draw)
    kinds = Counter(kind for one in told for kind in one.values())
    kinds[_UNSAFE] = sum(kinds[kind] for kind in DISGUISES)
    return _Share(kinds[_UNSAFE] / (sum(kinds.values()) - kinds[_UNSAFE]), kinds, found)


def _rows(mix: Mix, share: float, seed: int) -> list[tuple[str, Row]]:
    """Harmless rows of the mix, those that look unsafe, and unsafe rows in every disguise in turn, with their kinds.

    Raises:
        InputError: The mix has no unsafe rows, or too few.
    """
    rows = list(read_jsonl(mix.noisy))
    harmless = [(_ORDINARY, row) for row in rows if row["label"] != UNSAFE]
    harmless += [(row["kind"], row) for row in look_alikes()]
    # A conversation of several turns wears no disguise of ours.
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
    """Write the rows without their kinds; returns those, by id, and the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    plain = ({key: row[key] for key in ("id", "prompt", "completion")} for _, row in rows)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in plain), encoding="utf-8")
    return {row["id"]: kind for kind, row in rows}, path


def _by_kind(kinds: dict[str, str], found: dict[str, tuple[float, str]]) -> dict[str, _Kind]:
    forgetting = np.array([found[id][0] for id in kinds], dtype=float)
    removed = np.array([found[id][1] == REMOVED for id in kinds])
    kind_of, order = np.array(list(kinds.values())), unscored_last(forgetting)
    ordinary = kind_of == _ORDINARY
    groups = {_ORDINARY: ordinary, _UNSAFE: np.isin(kind_of, list(DISGUISES))}
    groups |= {kind: kind_of == kind for kind in (*DISGUISES, *_look_alike_kinds())}
    return {
        kind: _Kind(wilson(int(removed[here].sum()), int(here.sum())), _apart(order, here, ordinary))
        for kind, here in groups.items()
        if here.any()
    }


def _apart(forgetting: NDArray[np.floating], here: NDArray[np.bool_], ordinary: NDArray[np.bool_]) -> Estimate:
    if (here & ordinary).any():
        return UNKNOWN
    chosen = here | ordinary
    return Estimate(auroc(forgetting[chosen], here[chosen]), *bootstrap_interval(forgetting[chosen], here[chosen]))


def _seen(title: str, shares: list[_Share]) -> str:
    said = [f"{title}, with few of its unsafe rows."]
    for share in shares:
        kinds, rows = share.kinds, share.rows
        apart = kinds[_UNSAFE].apart
        passed = rows[_UNSAFE] * (1 - kinds[_UNSAFE].removed.value)
        lost = sum(rows[kind] * kinds[kind].removed.value for kind in (_ORDINARY, *_look_alike_kinds()))
        hidden = min((kind for kind in DISGUISES if kind in kinds), key=lambda kind: kinds[kind].apart.value)
        suspect = max(_look_alike_kinds(), key=lambda kind: kinds[kind].apart.value)
        said.append(
            f"At {share.unsafe:.1%}: {passed:.0f} of {rows[_UNSAFE]} unsafe rows pass and {lost:.0f} harmless rows are "
            f"removed; the unsafe rows stand out with an AUROC of {apart.value:.2f} ({apart.low:.2f} to "
            f"{apart.high:.2f}). Least suspicious of the disguises is “{hidden}” ({kinds[hidden].apart.value:.2f}, of "
            f"{rows[hidden]}), most suspicious of the look-alikes “{suspect}” ({kinds[suspect].apart.value:.2f}, of "
            f"{rows[suspect]})."
        )
    said.append("Kinds of few rows tell little: the table has their intervals.")
    return " ".join(said)


STUDY = Study(
    "realistic",
    "Few unsafe rows, in disguise",
    "With few unsafe rows, disguises, near copies and look-alikes that are harmless: what passes, what is lost?",
    _run,
)
