"""What the report shows, gathered from a run folder: numbers, the rows worth looking at, the sessions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.layouts import text_columns
from ..data.rows import Rows
from ..data.tokens import TokenTable
from ..decision import Summary, read_planted
from ..filtering.signals import SIGNALS
from ..inputs import DATA, ROWS, TOKENS
from ..overrides import FILTER
from ..run import SCORES, Run

# So many values tell how many rows lie above any threshold, exactly up to this count.
_VALUES, _PLANTED = 4000, 2000
# Rows shown: the most forgotten, those around the threshold, a random sample; of a small data set, all.
_MOST_FORGOTTEN, _NEAR, _SAMPLE = 600, 600, 600
_PROMPT_SHOWN, _TOKENS_SHOWN, _TOKEN_SHOWN = 1500, 400, 60
# Characters of all rows together, so that the page stays small.
_ROOM = 4_000_000
# A token that was ten times as likely before the review has the deepest shade.
_SHADES, _NATS_A_SHADE = 5, 0.5
_TAG_SHOWN, _GROUPS, _GROUPED_ROWS = 60, 12, 20_000
_POINTS = 200


@dataclass(frozen=True)
class Contents:
    """Everything that the page needs, as plain JSON values.

    Attributes:
        name: Of the data.
        model: What it was filtered with.
        folder: Of the run, for the commands that the page shows.
        summary: The decision; see `Summary`.
        scored: Rows with a score.
        values: Forgetting of the scored rows in rising order, all of them or quantiles.
        trusted, known_unsafe: Forgetting of the rows of known kind.
        rows: Rows worth looking at, the most forgotten first.
        shown: Why these, in words.
        groups: For every column of the data with few values: forgetting by value.
        decided: What a person decided already: `kept` or `removed` by the row's id.
        sessions: Loss along learning and review, and what they took.
    """

    name: str
    model: str
    folder: str
    summary: dict[str, Any]
    scored: int
    values: list[float]
    trusted: list[float]
    known_unsafe: list[float]
    rows: list[dict[str, Any]]
    shown: str
    groups: list[dict[str, Any]]
    decided: dict[str, str]
    sessions: list[dict[str, Any]]


def gather(run: Run, summary: Summary) -> Contents:
    """Read what the report shows of a run that is decided."""
    rows, scores = Rows.open(run.folder(ROWS) / DATA), pq.read_table(run.path / SCORES)
    forgetting = scores.column("forgetting").to_numpy()
    known = np.sort(forgetting[~np.isnan(forgetting)])
    chosen, shown = _choose(forgetting, summary.cut, run.settings.seed)
    planted = read_planted(run, SIGNALS[summary.signal])
    return Contents(
        name=Path(rows.name).name or rows.name,
        model=run.settings.model,
        folder=str(run.path),
        summary=asdict(summary),
        scored=len(known),
        values=_quantiles(known, _VALUES).tolist(),
        trusted=_quantiles(planted.trusted, _PLANTED).tolist(),
        known_unsafe=_quantiles(planted.known_unsafe, _PLANTED).tolist(),
        rows=list(_rows(run, rows, scores, chosen)),
        shown=shown,
        groups=_groups(run, rows, scores),
        decided=_decided(scores),
        sessions=list(_sessions(run)),
    )


def _decided(scores: pa.Table) -> dict[str, str]:
    theirs = scores.filter(pc.not_equal(scores.column("decided_by"), FILTER))
    return dict(zip(theirs.column("id").to_pylist(), theirs.column("decision").to_pylist(), strict=True))


def _numbers(values: NDArray[np.floating]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _quantiles(values: NDArray[np.floating], most: int) -> NDArray[np.floating]:
    """Values in rising order, thinned out evenly where there are too many."""
    ordered = np.sort(values[~np.isnan(values)])
    if len(ordered) <= most:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, most).round().astype(np.intp)]


def _choose(forgetting: NDArray[np.floating], cut: float | None, seed: int) -> tuple[NDArray[np.intp], str]:
    """Which rows to show, the most forgotten first, and why these."""
    order = np.argsort(-np.nan_to_num(forgetting, nan=-np.inf), kind="stable")
    if len(order) <= _MOST_FORGOTTEN + _NEAR + _SAMPLE:
        return order, "all rows"
    top = order[:_MOST_FORGOTTEN]
    middle = int((forgetting > cut).sum()) if cut is not None else 0
    near = order[max(0, middle - _NEAR // 2) : middle + _NEAR // 2]
    sample = np.random.default_rng(seed).choice(order, _SAMPLE, replace=False)
    chosen = np.isin(order, np.concatenate([top, near, sample]))
    said = f"{len(top):,} forgotten most, {len(near):,} around the threshold and a random {len(sample):,}"
    return order[chosen], f"{int(chosen.sum()):,} of {len(order):,} rows: {said}"


def _rows(run: Run, rows: Rows, scores: pa.Table, chosen: NDArray[np.intp]) -> Iterator[dict[str, Any]]:
    """The chosen rows, until there is no room left."""
    picked = scores.take(pa.array(chosen)).to_pylist()
    positions = [row["row"] for row in picked]
    said = dict(rows.at(positions))
    besides = text_columns(rows.layout, run.settings.columns)
    tags = {i: _tags(columns, besides) for i, columns in zip(sorted(positions), rows.fields(positions), strict=True)}
    shades = _shades(run, [row["id"] for row in picked])
    table = TokenTable(run.folder(TOKENS) / f"{DATA}.arrow")
    room = _ROOM
    for row in picked:
        prompt = "\n".join(m.content for m in said[row["row"]] if not m.trained)
        pieces = table.pieces(int(np.searchsorted(table.rows, row["row"])))[:_TOKENS_SHOWN]
        pieces = [piece[:_TOKEN_SHOWN] for piece in pieces]
        if not pieces:
            pieces = [m.content[:_PROMPT_SHOWN] for m in said[row["row"]] if m.trained]
        finite = {
            key: None if row[key] is None or row[key] != row[key] else row[key]
            for key in ("learned", "reviewed", "forgetting")
        }
        shown = finite | {
            "id": row["id"][:200],
            "row": row["row"],
            "prompt": prompt[:_PROMPT_SHOWN],
            "pieces": pieces,
            "shades": shades.get(row["id"], [])[: len(pieces)],
            "cut": len(prompt) > _PROMPT_SHOWN or row["tokens"] > len(pieces) or row["truncated"],
            "decision": row["decision"],
            "by": row["decided_by"],
            "reason": row["reason"][:600],
            "tags": tags[row["row"]],
        }
        room -= len(json.dumps(shown))
        if room < 0:
            return
        yield shown


def _tags(columns: Mapping[str, Any], besides: set[str]) -> dict[str, str]:
    """What a row has besides its texts, as far as it is short: labels, sources, scores."""
    short = {
        str(name)[:_TAG_SHOWN]: str(value)
        for name, value in columns.items()
        if isinstance(value, (str, int, float)) and name not in besides
    }
    return {name: value for name, value in list(short.items())[:_GROUPS] if 0 < len(value) <= _TAG_SHOWN}


def _shades(run: Run, ids: list[str]) -> dict[str, list[int]]:
    """How much of each completion token was forgotten, from 0 to the number of shades, by the row's id."""
    folders = [run.folder(f"{state}-scores") / DATA for state in ("learned", "reviewed")]
    wanted, found = pa.array(ids, pa.string()), {}
    for file in sorted(folders[0].glob("part-*.parquet")):
        names = pq.read_schema(file).names
        if "logprobs" not in names:
            return {}
        parts = [pq.read_table(folder / file.name, columns=["id", "logprobs"]) for folder in folders]
        before, after = (part.filter(pc.is_in(part.column("id"), value_set=wanted)) for part in parts)
        later = dict(zip(after.column("id").to_pylist(), after.column("logprobs"), strict=True))
        for name, learned in zip(before.column("id").to_pylist(), before.column("logprobs"), strict=True):
            drop = learned.values.to_numpy() - later[name].values.to_numpy()
            found[name] = np.clip(np.round(drop / _NATS_A_SHADE), 0, _SHADES).astype(int)[:_TOKENS_SHOWN].tolist()
    return found


def _groups(run: Run, rows: Rows, scores: pa.Table) -> list[dict[str, Any]]:
    """Forgetting by the value of each column that has few, over all rows or a sample of them."""
    positions, forgetting = scores.column("row").to_numpy(), scores.column("forgetting").to_numpy()
    scored = np.flatnonzero(~np.isnan(forgetting))
    if len(scored) > _GROUPED_ROWS:
        scored = np.sort(np.random.default_rng(run.settings.seed).choice(scored, _GROUPED_ROWS, replace=False))
    scored = scored[np.argsort(positions[scored], kind="stable")]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    many: set[str] = set()
    besides = text_columns(rows.layout, run.settings.columns)
    for i, columns in zip(scored, rows.fields(positions[scored].tolist()), strict=True):
        for name, value in _tags(columns, besides).items():
            if name not in many:
                found[name][value].append(float(forgetting[i]))
                if len(found[name]) > _GROUPS:
                    many.add(name)
                    del found[name]
    return [
        {
            "column": column,
            "values": [
                {"value": value, "count": len(of), "quartiles": _numbers(np.quantile(of, (0, 0.25, 0.5, 0.75, 1)))}
                for value, of in sorted(values.items(), key=lambda item: -float(np.median(item[1])))
            ],
        }
        for column, values in found.items()
        if len(values) > 1
    ]


def _sessions(run: Run) -> Iterator[dict[str, Any]]:
    for stage, title in (("learned", "Learning the untrusted data"), ("reviewed", "Safety review")):
        path = run.folder(stage) / "history.json"
        if not path.is_file():
            continue
        steps = json.loads(path.read_text(encoding="utf-8"))
        edges = np.linspace(0, len(steps), min(len(steps), _POINTS) + 1).astype(int)
        yield {
            "title": title,
            "steps": len(steps),
            "tokens": sum(step["tokens"] for step in steps),
            "seconds": round(sum(step["seconds"] for step in steps), 1),
            "loss": _numbers(np.array([np.mean([s["loss"] for s in steps[a:b]]) for a, b in pairwise(edges)])),
        }
