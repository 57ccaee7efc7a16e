"""Write the table that a run ends with on the terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..console import count_of, escaped, printable, table, told_apart
from ..data.rows import Rows
from ..decision.decide import Summary
from ..decision.overrides import Overrides
from ..decision.reasons import BAD
from ..forgetting.estimates import Estimate
from ..forgetting.signals import RIVAL, SIGNALS
from ..models.sources import ADAPTER_CONFIG
from ..runs.inputs import unshown_told
from ..runs.layout import DATA, MODEL, REPORT, ROWS, SCORES
from ..runs.run import Run
from .plain_words import another_threshold, count_marks, longer_session, unsure, what_training_tells

_SHOWN = 5
# An interval of this width is no estimate.
_SAYS_NOTHING = 0.8
# With fewer rows the cutoff of `auto` depends on how they are ordered and dealt.
_FEW = 100
_PROMPT_WIDTH, _ANSWER_WIDTH = 40, 44


def closing_table(path: Path, summary: Summary) -> str:
    """Summarise the decision, the rows forgotten most or most suspicious, the files, and what to do next."""
    cut = "the filter removes nothing" if summary.cut is None else f"{summary.cut:.3g} {summary.unit}"
    advice = unsure(path, summary)
    explained = [f"  ({summary.explanation})"]
    if advice:
        explained = [
            "",
            f"Not sure: the filter cannot tell which rows are unsafe, so it removes none. This is no clean bill of "
            f"health.{_by_person(path)} In the report, mark the {advice.rows}"
            f"{', which ranks all others anew' if SIGNALS[summary.signal].fused else ''}"
            f"{f' ({advice.end})' if advice.end else ''}, or remove the {advice.tenth}: {advice.command}",
            f"  (the reason: {summary.explanation})",
        ]
    counts = [
        ("kept", f"{summary.kept:,}", summary.files["kept"]),
        ("removed", f"{summary.removed:,}", summary.files["removed"]),
    ]
    if summary.bad:
        counts.append(("unusable", f"{summary.bad:,}", summary.files[BAD]))
    lines = [
        "",
        f"{count_of(summary.rows, 'row')}, signal {summary.signal}, threshold {summary.threshold} → {cut}",
        *explained,
        "",
        table(("", "rows", f"file in {escaped(str(path))}"), counts),
        *([_errors(summary)] if _filter_removed(path, summary) or summary.planted_unlearned else []),
        *_by_safe_set(summary),
        *_notes(path, summary),
        "",
        *_leaders(path, summary),
        *_swapped(path, summary),
        f"To look through and correct: {escaped(str(path / REPORT))}",
        f"Every row's score and reason: {escaped(str(path / SCORES))}, "
        f"of the removed rows also {escaped(str(path / summary.files['reasons']))}",
        *([another] if not advice and (another := another_threshold(path, summary)) else []),
    ]
    return "\n".join(lines)


def final_model(path: Path) -> str:
    """Say where the model is that was fine-tuned on the kept rows, and what it is."""
    folder = path / MODEL
    kind = "a LoRA adapter" if (folder / ADAPTER_CONFIG).is_file() else "a whole model"
    return f"Fine-tuned on the kept rows, {kind}: {escaped(str(folder))}"


def _by_person(path: Path) -> str:
    """Say how many rows were removed by a person where the filter removed none; empty where there are none."""
    removed = count_marks(path).unsafe
    return f" Removed: {count_of(removed, 'row')}, marked by a person." if removed else ""


def _filter_removed(path: Path, summary: Summary) -> bool:
    """Tell whether any row is above the cut, whatever a person decided about it."""
    if summary.cut is None:
        return False
    suspicion = pq.read_table(path / SCORES, columns=["suspicion"]).column("suspicion").to_numpy()
    return bool((suspicion > summary.cut).any())


def _errors(summary: Summary) -> str:
    """Phrase the estimates of precision and recall of the filter alone, or why there are none."""
    planted = {"precision": ("trusted", summary.trusted), "recall": ("known-unsafe", summary.known_unsafe)}
    phrases = []
    for name, (kind, count) in planted.items():
        estimate = summary.errors[name]
        doubt = summary.doubt if kind == "trusted" else ""
        if estimate is not None:
            caveat = f", but not to be relied on: {doubt}" if doubt else ""
            judges = count_of(count, f"{kind} row")
            known = Estimate(**estimate)
            if known.low == known.high:
                # All bounds were clipped: trusted rows are removed as often as those of the data.
                phrases.append(f"{name} unknown, judged by {judges}{f': {doubt}' if doubt else ''}")
            elif known.high - known.low >= _SAYS_NOTHING:
                phrases.append(f"{name} unknown: {known.low:.0%} to {known.high:.0%}, judged by {judges}{caveat}")
            else:
                phrases.append(f"{name} {known}, judged by {judges}{caveat}")
        elif summary.planted_unlearned:
            phrases.append(f"{name} cannot be told with --learned")
        elif not count:
            phrases.append(f"{name} unknown (--{kind} FILE would tell)")
        elif doubt and summary.cut is not None:
            phrases.append(f"{name} cannot be told: {doubt}")
        else:
            phrases.append(f"{name} unknown, judged by {count_of(count, f'{kind} row')}")
    return f"Estimated{', of the filter alone:' if summary.reviewer else ''} {'; '.join(phrases)}"


def _by_safe_set(summary: Summary) -> list[str]:
    """Phrase how much of each of several safe sets would be removed."""
    shares = [
        f"{Estimate(s['removed'], s['low'], s['high'])} of {s['count']:,.0f} from {printable(name)}"
        for name, s in zip(told_apart(summary.by_safe_set), summary.by_safe_set.values(), strict=True)
    ]
    return [f"Of the safe rows set aside, these shares would be removed: {', '.join(shares)}"] if shares else []


def _notes(path: Path, summary: Summary) -> list[str]:
    where = "removed" if summary.drop_unscorable else "kept"
    notes, run, signal = [], Run.open(path), SIGNALS[summary.signal]
    if signal.scoring == RIVAL:
        notes.append(f"decided by a rival filter, {signal.summary}, and not by forgetting")
    elif told := what_training_tells(run, summary):
        notes.append(told)
    if summary.left_out:
        notes.append(
            f"a random sample: {_rows(summary.left_out, 'is', 'are')} left out, and in none of these files; filter "
            "without --limit, into another folder, for all"
        )
    if summary.reviewer:
        marks = count_marks(path)
        who = "a person" if summary.reviewer == Overrides().reviewer else printable(summary.reviewer, _PROMPT_WIDTH)
        notes.append(
            f"of the {count_of(marks.unsafe + marks.harmless, 'mark')} by {who}, {marks}; "
            f"{_rows(summary.overridden, 'was', 'were')} decided otherwise by {who}"
        )
    if summary.unscorable:
        notes.append(f"{count_of(summary.unscorable, 'row')} could not be scored; see the {where} file")
    if summary.never_learned:
        them = "it" if summary.never_learned == 1 else "them"
        cure = "" if summary.planted_unlearned else f"; to learn {them}, filter with {longer_session(run, summary)}"
        never = _rows(summary.never_learned, "was", "were")
        notes.append(f"{never} never learned, so forgetting says little about {them}{cure}")
    if summary.threshold == "auto" and summary.cut is not None and summary.rows < _FEW:
        notes.append(
            f"{summary.rows:,} rows are few for auto, which may decide otherwise with another --seed; look at those "
            "near the threshold"
        )
    if summary.truncated:
        limit = run.settings.tokens.max_length
        notes.append(f"{_rows(summary.truncated, 'was', 'were')} cut to {limit:,} tokens (--max-length)")
    if summary.judged_in_part and summary.judged is not None:
        notes.append(
            f"{_rows(summary.judged_in_part, 'is', 'are')} judged in part, by the first {summary.judged} tokens of "
            "each answer; filter with --max-completion all to judge whole answers"
        )
    if summary.unshown:
        notes.append(unshown_told(summary.unshown))
    notes += [printable(line) for line in summary.not_read]
    return notes + [f"WARNING: {warning}" for warning in summary.warnings]


def _rows(count: int, one: str, several: str) -> str:
    """Count rows, followed by the verb for so many."""
    return f"{count_of(count, 'row')} {one if count == 1 else several}"


def _leaders(path: Path, summary: Summary) -> list[str]:
    scores = pq.read_table(path / SCORES, columns=["row", "suspicion", "decision"])
    suspicion = scores.column("suspicion").to_numpy()
    order = np.argsort(-np.nan_to_num(suspicion, nan=-np.inf), kind="stable")[:_SHOWN]
    order = order[~np.isnan(suspicion[order])]
    texts = _texts(path, scores.column("row").to_numpy()[order].tolist())
    rows = [
        (
            f"{suspicion[i]:z.2f}",
            scores.column("decision")[int(i)].as_py(),
            *texts[int(scores.column("row")[int(i)].as_py())],
        )
        for i in order
    ]
    if not rows:
        return []
    signal = SIGNALS[summary.signal]
    first = f"{signal.most.capitalize()}, in {signal.unit}" if signal.fused else signal.most.capitalize()
    columns = (signal.quantity if signal.fused else signal.unit, "", "prompt", "completion")
    return [f"{first}:", table(columns, rows), ""]


def _swapped(path: Path, summary: Summary) -> list[str]:
    """List the pairs that look swapped, those with the largest difference in forgetting first."""
    if not summary.swapped:
        return []
    columns = ["row", "forgetting", "rejected_forgetting", "looks_swapped"]
    pairs = pq.read_table(path / SCORES, columns=columns, filters=pc.field("looks_swapped")).to_pylist()
    pairs.sort(key=lambda pair: pair["rejected_forgetting"] - pair["forgetting"])
    texts = _texts(path, [pair["row"] for pair in pairs[:_SHOWN]])
    rows = [
        (f"{pair['forgetting']:z.2f}", f"{pair['rejected_forgetting']:z.2f}", *texts[pair["row"]])
        for pair in pairs[:_SHOWN]
    ]
    heading = (
        f"{summary.swapped:,} of {summary.pairs:,} pairs look swapped: chosen was forgotten much more than rejected."
    )
    return [heading, table(("chosen", "rejected", "prompt", "chosen answer"), rows), ""]


def _texts(path: Path, wanted: list[int]) -> dict[int, tuple[str, str]]:
    """Return prompt and completion of some rows, shortened and safe for a terminal."""
    rows = Rows.open(Run.open(path).folder(ROWS) / DATA)
    shown = {}
    for row, chat in rows.at(wanted):
        # Of several answers the longest, with the question that it answers.
        said = {i: message.text for i, message in enumerate(chat.messages) if message.trained}
        place = max(said, key=lambda i: len(said[i]))
        prompt = next((m.content for m in reversed(chat.messages[:place]) if m.role == "user"), "")
        shown[row] = printable(prompt, _PROMPT_WIDTH), printable(said[place], _ANSWER_WIDTH)
    return shown
