"""Gather from a run folder what the report shows: numbers, the rows worth looking at, and the sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.chats import Chat
from ..data.columns import text_columns
from ..data.rows import Rows
from ..data.tokens import Tokens, TokenTable
from ..decision.decide import Summary, read_planted
from ..decision.overrides import FILTER, read_overrides
from ..decision.reasons import BY, GUARD_FIELDS, PAIR_FIELDS, TEMPLATE_TOKEN, evidence_label, found_by_guard
from ..decision.suspicion import rests_on_safe_examples, safe_examples_look_unlike
from ..forgetting.estimates import OTHER_UNSAFE
from ..forgetting.signals import ALL, SIGNALS, SUSPICION
from ..runs.layout import (
    DATA,
    EXAMPLES,
    EXAMPLES_FILE,
    LEARNED,
    OVERRIDES,
    REVIEWED,
    ROWS,
    SCORES,
    SHARDS,
    STAGES,
    TOKENS,
    numbered,
    scores_of,
    tokens_of,
)
from ..runs.run import Run, check_file
from ..stages.examples import TEXTS, read_examples
from ..stages.witnesses import read_witnesses
from ..suspicion.proposing import propose
from .by_column import IN_FILE, break_down, quantiles, short_fields
from .plain_words import unsure, what_training_tells
from .review_curve import MOST_GROUPS, read_curve
from .topics import choose_members, gather_topics

# Values from which the page counts the rows above any threshold; the count is exact up to this number of rows.
_VALUES, _PLANTED = 4000, 2000
# Rows shown: those with the largest values, those around the threshold and a random sample; all of a small data set.
_MOST, _NEAR, _SAMPLE = 600, 600, 600
_PROMPT_SHOWN, _TOKENS_SHOWN, _TOKEN_SHOWN = 1500, 400, 60
# Bytes for all rows together, so that the page stays small; each row has an equal share. A row whose id takes more
# than a quarter of its share is left out, because a shortened id would not identify the row.
_ROOM = 7_000_000
_AT_ONCE = 1 << 14
_LISTED = ["id", "row", "learned", "reviewed", "forgetting", "suspicion", "decision", "reason", "tokens", "truncated"]
(_REJECTED, _SWAPPED) = (name for name, _ in PAIR_FIELDS)
# A token that was about ten times as likely before the review has the deepest shade.
_SHADES, _NATS_A_SHADE = 5, 0.5
# The shade of text that the decision does not depend on.
UNJUDGED = -1
_TAGS, _CURVE_COLUMNS = 12, 40
_POINTS = 200
_GUARD_TAG = "guard model"
# Stand for the filter's decision among the columns, and for the value of a column that a row lacks.
_DECISION, _NO_VALUE = None, "(none)"


@dataclass(frozen=True)
class Contents:
    """Everything that the page needs, as plain JSON values.

    Attributes:
        name: Name of the data.
        model: The model that it was filtered with.
        folder: The run folder, for the commands that the page shows.
        summary: The decision; see `Summary`.
        run: Key that identifies this run and its present decisions.
        scored: Rows with a score.
        signal: The words for the signal: `quantity` ("forgetting", "suspicion"), `quality`, `more`, `most`; and whether
            it is `fused` from several kinds of evidence.
        evidence: The label of each kind of evidence, in the order of the rows' values.
        unsure: What to do where the filter was not sure enough to remove any row; None otherwise.
        training: What training tells where that is nothing, or nothing was trained, and how to go on; empty otherwise.
        above: Scored rows above the threshold.
        values: Forgetting or suspicion of the scored rows in ascending order, all of them or quantiles.
        planted: For `trusted` and `known_unsafe` rows, how many have a score, and the same values.
        kinds: The same for each kind of trusted rows, where there are two.
        other_unsafe: How far shares of unsafe rows differ from those of known ones, on the scale of logits.
        untold: Why trusted rows tell nothing of errors, whatever the threshold; empty where they may.
        rows: Rows worth looking at, those with the largest values first.
        proposed: Why a person should look at some rows first, by the row's id, the most informative first.
        shown: How the rows were chosen, in words.
        topics: What the most suspicious or most forgotten rows are about; see `gather_topics`.
        groups: Forgetting or suspicion by column; see `break_down`.
        decided: A person's earlier decisions: `kept` or `removed` by the row's id.
        by_group: The ids of those of these rows that were decided about together with a group.
        examples: The answers of the learned and the reviewed model to the prompts of a few rows.
        sessions: Loss, steps, tokens and seconds of learning and review.
        curve: Mean forgetting along the review, by decision and by every column of the data with few values; None
            where it was not measured.
    """

    name: str
    model: str
    folder: str
    summary: dict[str, Any]
    run: str
    signal: dict[str, Any]
    evidence: list[str]
    unsure: dict[str, Any] | None
    training: str
    scored: int
    above: int
    values: list[float]
    planted: dict[str, dict[str, Any]]
    kinds: list[dict[str, Any]]
    other_unsafe: float
    untold: str
    rows: list[dict[str, Any]]
    proposed: dict[str, str]
    shown: str
    topics: dict[str, Any]
    groups: list[dict[str, Any]]
    decided: dict[str, str]
    by_group: list[str]
    examples: list[dict[str, Any]]
    sessions: list[dict[str, Any]]
    curve: dict[str, Any] | None


def gather(run: Run, summary: Summary) -> Contents:
    """Read what the report shows of a decided run."""
    rows, short = Rows.open(run.folder(ROWS) / DATA), ["decision", "decided_by"]
    columns = ["row", "suspicion", *short, *_further_columns(run)]
    scores = pq.read_table(run.file(SCORES), columns=columns, read_dictionary=short)
    suspicion, signal = scores.column("suspicion").to_numpy(), SIGNALS[summary.signal]
    known = suspicion[~np.isnan(suspicion)]
    decided = pc.not_equal(scores.column("decided_by").cast(pa.string()), FILTER).to_numpy()
    proposed = _propose(run, suspicion, summary.cut, decided) if signal.fused else {}
    named = [np.flatnonzero(decided)[:_NEAR], np.array(list(proposed), dtype=np.intp)]
    if _SWAPPED in scores.column_names:
        named.append(np.flatnonzero(scores.column(_SWAPPED).to_numpy())[:_NEAR])
    chosen, shown = _choose(suspicion, summary.cut, np.concatenate(named), run.settings.training.seed, signal.most)
    picked, left_out = _drop_long_ids(_take(run, chosen))
    members, _ = _drop_long_ids(_take(run, choose_members(suspicion, summary.cut)))
    planted, advice = read_planted(run), unsure(run.path.absolute(), summary)
    kinds, asked = planted.trusted_kinds, signal.fused and rests_on_safe_examples(run, planted)
    untold = safe_examples_look_unlike(run) if asked else None
    return Contents(
        name=Path(rows.name).name or rows.name,
        model=run.settings.model.model,
        folder=str(run.path.absolute()),
        summary=asdict(summary),
        run=f"{run.fingerprint(DATA)} {summary.overrides}",
        signal={name: getattr(signal, name) for name in ("quantity", "quality", "more", "most", "fused")},
        evidence=[evidence_label(name) for name in _evidence(run)],
        unsure=asdict(advice) if advice else None,
        training=what_training_tells(run, summary),
        scored=len(known),
        above=0 if summary.cut is None else int((known > summary.cut).sum()),
        values=quantiles(known, _VALUES).tolist(),
        planted={"trusted": _planted_values(planted.trusted), "known_unsafe": _planted_values(planted.known_unsafe)},
        kinds=[_planted_values(kind) for kind in kinds] if len(kinds) > 1 else [],
        other_unsafe=OTHER_UNSAFE,
        untold=untold.because if untold else "",
        rows=list(_rows(run, rows, summary, picked.to_pylist())),
        proposed=_by_id(run, proposed, picked),
        shown=shown + left_out,
        topics=gather_topics(rows, members, summary.cut),
        groups=break_down(rows, scores, summary.cut, run.settings.training.seed),
        decided=_decisions_by_id(_take(run, np.flatnonzero(decided))),
        by_group=list(read_overrides(run.file(OVERRIDES)).by_group) if summary.overrides else [],
        examples=list(_examples(run)),
        sessions=list(_sessions(run)),
        curve=_curve(run, rows, scores),
    )


def _propose(
    run: Run, suspicion: NDArray[np.floating], cut: float | None, decided: NDArray[np.bool_]
) -> dict[int, str]:
    """Return the places of the rows that a person should look at first, and why."""
    scored, witnesses = np.flatnonzero(~np.isnan(suspicion)), read_witnesses(run)
    states = witnesses.features.states
    # The data is the first of the parts, so that its states need not be copied.
    states = states[: len(scored)] if (witnesses.part[: len(scored)] == DATA).all() else states[witnesses.of(DATA)]
    proposal = propose(suspicion[scored], states, cut, decided[scored])
    near = "near the threshold" if cut is not None else f"among the {SUSPICION.most}"
    reasons = dict.fromkeys(scored[proposal.uncertain].tolist(), near)
    for place, size in zip(scored[proposal.leaders].tolist(), proposal.group_sizes.tolist(), strict=True):
        reasons[place] = f"stands for about {size:,} {'rows' if size > 1 else 'row'} like it"
    return reasons


def _by_id(run: Run, proposed: Mapping[int, str], picked: pa.Table) -> dict[str, str]:
    """Return the same by the row's id, for the rows that are shown."""
    if not proposed:
        return {}
    ids = _take(run, np.array(list(proposed), dtype=np.intp)).column("id").to_pylist()
    shown = set(picked.column("id").to_pylist())
    return {name: why for name, why in zip(ids, proposed.values(), strict=True) if name in shown}


def _evidence(run: Run) -> list[str]:
    """Return the kinds of evidence that the score table has columns for."""
    return [name.removeprefix(BY) for name in pq.read_schema(run.path / SCORES).names if name.startswith(BY)]


def _decisions_by_id(rows: pa.Table) -> dict[str, str]:
    return dict(zip(rows.column("id").to_pylist(), rows.column("decision").to_pylist(), strict=True))


def _planted_values(suspicion: NDArray[np.floating]) -> dict[str, Any]:
    return {"count": int((~np.isnan(suspicion)).sum()), "values": quantiles(suspicion, _PLANTED).tolist()}


def _numbers(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _choose(
    suspicion: NDArray[np.floating], cut: float | None, named: NDArray[np.intp], seed: int, most: str
) -> tuple[NDArray[np.intp], str]:
    """Choose the rows to show, the largest values first and `named` ones included, and say how they were chosen."""
    order = np.argsort(-np.nan_to_num(suspicion, nan=-np.inf), kind="stable")
    if len(order) <= _MOST + _NEAR + _SAMPLE:
        return order, "all rows"
    top = order[:_MOST]
    middle = int((suspicion > cut).sum()) if cut is not None else 0
    near = order[max(0, middle - _NEAR // 2) : middle + _NEAR // 2] if cut is not None else order[:0]
    sample = np.random.default_rng(seed).choice(order, _SAMPLE, replace=False)
    chosen = np.isin(order, np.concatenate([top, near, sample, named]))
    around = f", {len(near):,} around the threshold" if len(near) else ""
    kinds = f"{len(top):,} {most}{around} and a random {len(sample):,}"
    return order[chosen], f"{int(chosen.sum()):,} of {len(order):,} rows: {kinds}"


def _further_columns(run: Run) -> list[str]:
    """Return the further columns of the score table where the data holds preferences or a guard model was asked."""
    columns = pq.read_schema(run.path / SCORES).names
    return [name for name, _ in (*PAIR_FIELDS, *GUARD_FIELDS) if name in columns]


def _take(run: Run, places: NDArray[np.intp]) -> pa.Table:
    """Read some rows of the score table, in the order of `places`."""
    file, order, start = pq.ParquetFile(run.path / SCORES), np.argsort(places), 0
    wanted, batches = places[order], []
    columns = [*_LISTED, *_further_columns(run), *(BY + name for name in _evidence(run))]
    for batch in file.iter_batches(_AT_ONCE, columns=columns):
        places_in_batch = wanted[(wanted >= start) & (wanted < start + len(batch))] - start
        batches.append(batch.take(pa.array(places_in_batch)))
        start += len(batch)
    return pa.Table.from_batches(batches).take(pa.array(np.argsort(order)))


def _drop_long_ids(picked: pa.Table) -> tuple[pa.Table, str]:
    """Drop the rows whose ids are too long to list, and say how many they are."""
    most = _ROOM // max(1, len(picked)) // 4
    short = pc.less_equal(pc.binary_length(picked.column("id")), most)
    count = len(picked) - pc.sum(short).as_py() if len(picked) else 0
    note = f" ({count:,} of them not listed: an id is longer than {most:,} bytes)" if count else ""
    return picked.filter(short), note


def _rows(run: Run, rows: Rows, summary: Summary, picked: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield rows of the score table as the page shows them, with long texts cut to each row's share of bytes."""
    positions = [row["row"] for row in picked]
    chats = dict(rows.at(positions))
    text_fields = text_columns(rows.layout, rows.columns)
    tags = {
        i: short_fields(columns, text_fields)
        for i, columns in zip(sorted(positions), rows.fields(positions), strict=True)
    }
    if len(rows.sources) > 1:
        files = rows.files(np.array(positions, dtype=np.int64)).to_pylist()
        tags = {i: {IN_FILE: file} | tags[i] for i, file in zip(positions, files, strict=True)}
    tags = {row["row"]: _guard_tag(row) | tags[row["row"]] for row in picked}
    shades = _shades(run, [row["id"] for row in picked])
    table = TokenTable(run.folder(TOKENS) / tokens_of(DATA))
    in_part, whole_answers = table.judged_in_part(summary.judged), run.settings.tokens.max_completion == ALL
    room, evidence = _ROOM // max(1, len(picked)), [BY + name for name in _evidence(run)]
    for row in picked:
        chat = chats[row["row"]]
        prompt = _before(chat)
        prompt_shown = _first_bytes(prompt[:_PROMPT_SHOWN], room // 3)
        place = int(np.searchsorted(table.rows, row["row"]))
        answers = [message for message in chat.messages if message.trained]
        # Where only the beginning of answers is learned, it is the beginning of each part.
        texts = [text for answer in answers for text in ([answer.text] if whole_answers else answer.parts)]
        judged = summary.judged if in_part[place] else None
        rest = 0 if SIGNALS[summary.signal].reads_texts else UNJUDGED
        parts, whole = _completion(table[place], texts, shades.get(row["id"], []), judged, rest, room)
        shown = _finite(row, "learned", "reviewed", "forgetting", "suspicion") | {
            "id": row["id"],
            "row": row["row"],
            "prompt": prompt_shown,
            "pieces": [text for text, _ in parts],
            "shades": [shade for _, shade in parts],
            "cut": len(prompt) > len(prompt_shown) or not whole or row["truncated"],
            "pair": _pair(chat, row, room // 4),
            "decision": row["decision"],
            "reason": row["reason"][:600],
            "evidence": [value for name in evidence for value in _numbers([row[name]]) if value == value],
            "tags": dict(list(tags[row["row"]].items())[:_TAGS]),
        }
        yield shown


def _before(chat: Chat) -> str:
    """Return what a row's last answer follows: a question by itself, or all turns with who says them."""
    last = max(i for i, message in enumerate(chat.messages) if message.trained)
    before = chat.messages[:last]
    if len(before) < 2:
        return chat.prompt
    return "\n\n".join(f"{message.role}: {message.text}" for message in before)


def _guard_tag(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what a guard model makes of a row, as a field to show beside those of the data."""
    (unsafe, _), (categories, _) = GUARD_FIELDS
    if row.get(unsafe) is None or row[unsafe] != row[unsafe]:
        return {}
    said = found_by_guard(row[unsafe], row[categories]) or "safe"
    return {_GUARD_TAG: f"{said} ({row[unsafe]:.2f})"}


def _finite(row: Mapping[str, Any], *keys: str) -> dict[str, float | None]:
    return {key: None if row[key] is None or row[key] != row[key] else row[key] for key in keys}


def _pair(chat: Chat, row: Mapping[str, Any], most: int) -> dict[str, Any] | None:
    """Return the rejected answer and the filter's verdict on it; None where the row is no preference."""
    other = chat.other_side
    if other is None:
        return None
    begins = min(chat.first_answer, other.first_answer)
    text = "\n".join(message.text for message in other.messages[begins:])
    shown = _first_bytes(text[:_PROMPT_SHOWN], most)
    pair = {"text": shown, "cut": len(shown) < len(text), "swapped": row[_SWAPPED]}
    return pair | {"forgetting": _finite(row, _REJECTED)[_REJECTED]}


def _completion(
    row: Tokens, texts: list[str], shades: list[int], judged: int | None, of_rest: int, room: int
) -> tuple[list[tuple[str, int]], bool]:
    """Split a row's answers into pieces with their shades, and tell whether the pieces are complete.

    Text that the decision does not depend on is included, so that a person can judge all of it.

    Args:
        row: The tokens that were learned.
        texts: The row's answers, or their parts, which begin with these tokens.
        shades: The shade of each token.
        judged: How many tokens of each answer the decision depends on; None for all.
        of_rest: Shade of text that was not learned.
        room: Bytes for the row.
    """
    fitting = _fit_into([piece[:_TOKEN_SHOWN] for piece in row.pieces[:_TOKENS_SHOWN]], room // 3)
    share, parts, start, next_text = room // 4 // max(1, len(texts)), list[tuple[str, int]](), 0, 0
    whole = True

    def add(rest: str) -> None:
        nonlocal whole
        shown = _first_bytes(rest[:_PROMPT_SHOWN], share)
        parts.extend([(shown, of_rest)] if shown else [])
        whole = whole and len(shown) == len(rest)

    for first, last in row.spans:
        pieces, end = fitting[start : start + last - first], start + last - first
        parts += [("\n", 0)] * bool(parts)
        for place, piece in enumerate(_without_end(pieces, texts), start):
            unjudged = judged is not None and place - start >= judged
            parts.append((piece, UNJUDGED if unjudged else shades[place] if place < len(shades) else 0))
        rests = (
            (k, _unlearned_rest(text, "".join(row.pieces[start:end]))) for k, text in enumerate(texts) if k >= next_text
        )
        # What a template renders in its own way, such as a tool call, matches none of these texts.
        k, rest = next(((k, rest) for k, rest in rests if rest is not None), (next_text, ""))
        start, next_text = end, k + 1
        if len(pieces) < last - first:
            return parts, False
        add(rest)
    for text in texts[next_text : next_text + _TOKENS_SHOWN]:
        parts += [("\n", 0)] * bool(parts)
        add(text)
    return parts, whole and len(texts) <= next_text + _TOKENS_SHOWN


def _without_end(pieces: list[str], texts: list[str]) -> list[str]:
    """Return the tokens of an answer without those with which the chat template ends it, and no text of the row has."""
    end = len(pieces)
    for i in reversed(range(len(pieces))):
        said = pieces[i].strip()
        if said and (not TEMPLATE_TOKEN.fullmatch(said) or any(said in text for text in texts)):
            break
        end = i if said else end
    return pieces[:end]


def _unlearned_rest(text: str, learned: str) -> str | None:
    """Return the rest of a text after its learned beginning; None where `learned` belongs to another text."""
    if text.strip() in learned:
        return ""
    start = text.find(learned.strip())
    rest = text[start + len(learned.strip()) :]
    return (rest if rest.strip() else "") if start >= 0 else None


def _first_bytes(text: str, most: int) -> str:
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _fit_into(pieces: list[str], most: int) -> list[str]:
    """Return the first pieces that fit into this many bytes, with their quotes, commas and shades."""
    ends = np.cumsum([len(piece.encode("utf-8", "replace")) + 5 for piece in pieces])
    return pieces[: max(1, int(np.searchsorted(ends, most, side="right")))]


def _shades(run: Run, ids: list[str]) -> dict[str, list[int]]:
    """Compute how much of each completion token was forgotten, from 0 to the number of shades, by the row's id."""
    checkpoints = [LEARNED, *numbered(REVIEWED, run.settings.safe.safe)]
    folders = [run.folder(scores_of(checkpoint)) / DATA for checkpoint in checkpoints]
    if not all(folder.is_dir() for folder in folders):
        # A first look: the run was killed between its first scores and its last.
        return {}
    wanted, shades = pa.array(ids, pa.string()), {}
    for file in sorted(folders[0].glob(SHARDS)):
        names = pq.read_schema(file).names
        if "logprobs" not in names:
            return {}
        if not pc.any(pc.is_in(pq.read_table(file, columns=["id"]).column("id"), value_set=wanted)).as_py():
            continue
        parts = [pq.read_table(folder / file.name, columns=["id", "logprobs"]) for folder in folders]
        before, *after = (part.filter(pc.is_in(part.column("id"), value_set=wanted)) for part in parts)
        reviewed = [dict(zip(part.column("id").to_pylist(), part.column("logprobs"), strict=True)) for part in after]
        for name, learned in zip(before.column("id").to_pylist(), before.column("logprobs"), strict=True):
            drop = np.mean([learned.values.to_numpy() - by_id[name].values.to_numpy() for by_id in reviewed], axis=0)
            shades[name] = np.clip(np.round(drop / _NATS_A_SHADE), 0, _SHADES).astype(int)[:_TOKENS_SHOWN].tolist()
    return shades


def _examples(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the examples with their rows' present decisions; long texts are cut."""
    path = run.path / EXAMPLES_FILE
    if path.exists() or run.has(EXAMPLES):
        again = f"delete {run.path / STAGES / EXAMPLES} and run the 'forgetfilter filter' command of this run again"
        check_file(run.path, EXAMPLES_FILE, again)
    examples = read_examples(path)
    wanted = pc.field("id").isin(pa.array([example["id"] for example in examples], pa.string()))
    columns = ["id", "row", "suspicion", "decision"]
    rows = pq.read_table(run.file(SCORES), columns=columns, filters=wanted).to_pylist()
    current = {row.pop("id"): {key: None if value != value else value for key, value in row.items()} for row in rows}
    for example in examples:
        if example["id"] not in current:
            continue
        texts = {name: _first_bytes(example[name], _PROMPT_SHOWN) for name in TEXTS}
        cut = {name: len(texts[name]) < len(example[name]) for name in TEXTS}
        yield texts | {"cut": cut, **current[example["id"]]}


def _curve(run: Run, rows: Rows, scores: pa.Table) -> dict[str, Any] | None:
    """Average the review curve over the rows, grouped in every way that gives few groups."""
    curve = read_curve(run)
    if curve is None:
        return None
    positions = curve.rows.tolist()
    on_curve = pc.is_in(scores.column("row"), value_set=pa.array(positions, pa.int64()))
    decisions = scores.select(["row", "decision"]).filter(on_curve).to_pydict()
    decided = dict(zip(decisions["row"], decisions["decision"], strict=True))
    text_fields = text_columns(rows.layout, rows.columns)
    tags = [short_fields(columns, text_fields) for columns in rows.fields(positions)]
    groupings: dict[str | None, list[str]] = {_DECISION: [decided[row] for row in positions]}
    names = dict.fromkeys(name for of_row in tags for name in of_row)
    groupings |= {name: [of_row.get(name, _NO_VALUE) for of_row in tags] for name in names}
    return {
        "steps": curve.steps.tolist(),
        "rows": len(positions),
        "groups": [
            {"column": column, "values": [_mean(value, *mean) for value, mean in curve.means(groups).items()]}
            for column, groups in groupings.items()
            if column == _DECISION or 1 < len(set(groups)) <= MOST_GROUPS
        ][:_CURVE_COLUMNS],
    }


def _mean(value: str, count: int, means: NDArray[np.floating], halves: NDArray[np.floating]) -> dict[str, Any]:
    finite = [None if np.isnan(half) else float(f"{half:.3g}") for half in halves]
    return {"value": value, "count": count, "mean": _numbers(means), "half": finite}


def _sessions(run: Run) -> Iterator[dict[str, Any]]:
    titles = {LEARNED: "Learning the untrusted data"}
    safe = run.settings.safe.safe
    titles |= zip(numbered(REVIEWED, safe), numbered("Safety review", safe), strict=True)
    for stage, title in titles.items():
        steps = run.history(stage)
        if not steps:
            continue
        edges = np.linspace(0, len(steps), min(len(steps), _POINTS) + 1).astype(int)
        yield {
            "title": title,
            "steps": len(steps),
            "tokens": sum(step["tokens"] for step in steps),
            "seconds": round(sum(step["seconds"] for step in steps), 1),
            "loss": _numbers(np.array([np.mean([s["loss"] for s in steps[a:b]]) for a, b in pairwise(edges)])),
        }
