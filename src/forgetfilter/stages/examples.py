"""Show what the model answers to the prompts of a few rows before and after the review, for people to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.chats import Chat
from ..data.rows import Rows
from ..data.tokens import Tokens, TokenTable
from ..errors import RunError
from ..settings.groups import MOST_EXAMPLES

ANSWER_TOKENS = 64
_MOST_SUSPICIOUS = 3
# Positions of further examples among the kept rows, the most suspicious first.
_AMONG_KEPT = (0.25, 0.5, 0.75)
# Rows considered for each example until one has a prompt that no other example has.
_CONSIDERED = 100
# Scores of the same rows in another order differ in their last digits.
_DIGITS = 4
_TEXT_SHOWN = 2000
TEXTS = ("prompt", "completion", "learned", "reviewed")


def choose_examples(
    table: TokenTable, scores: pa.Table, cut: float | None, most: int = MOST_EXAMPLES
) -> NDArray[np.intp]:
    """Choose rows with distinct prompts to show, the most suspicious first, as indices into `table`.

    They are the three most suspicious, the nearest on either side of the threshold, and three kept ones from the more
    to the less suspicious. They depend on ids and suspicion alone, whatever the order of the file.

    Args:
        table: Tokens of the data.
        scores: The score table, with the columns `id`, `row` and `suspicion`.
        cut: Rows more suspicious than this are removed; None removes nothing.
        most: How many to choose at most, in this order.
    """
    scored = scores.filter(pc.invert(pc.is_nan(scores.column("suspicion"))))
    suspicion = scored.column("suspicion").to_numpy()
    sort_columns = pa.table({"suspicion": np.round(suspicion, _DIGITS), "id": scored.column("id")})
    order = pc.sort_indices(sort_columns, sort_keys=[("suspicion", "descending"), ("id", "ascending")]).to_numpy()
    rows = np.searchsorted(table.rows, scored.column("row").to_numpy()[order])
    removed_count = 0 if cut is None else int((suspicion > cut).sum())
    candidates = [rows] * _MOST_SUSPICIOUS
    candidates += [rows[:removed_count][::-1], rows[removed_count:]] if removed_count else []
    candidates += [rows[removed_count + int(share * (len(rows) - removed_count)) :] for share in _AMONG_KEPT]
    chosen: dict[bytes, int] = {}
    for of_slot in candidates[:most]:
        for i in of_slot[:_CONSIDERED].tolist():
            row = table[i]
            prompt = row.input_ids[: row.prompt_ends[0]].tobytes()
            if prompt not in chosen:
                chosen[prompt] = i
                break
    examples: NDArray[np.intp] = rows[np.isin(rows, list(chosen.values()))]
    return examples


def write_examples(
    rows: Rows, table: TokenTable, chosen: NDArray[np.intp], answers: dict[str, Path], tokenizer: Any, path: Path
) -> None:
    """Write examples for `read_examples`, one JSON object a line, in the order of `chosen`; long texts are cut.

    Args:
        rows: The data.
        table: Tokens of the data.
        chosen: The result of `choose_examples`.
        answers: For each checkpoint, `learned` and `reviewed`, the folder with its answers, as `models.scoring.score`
            wrote them.
        tokenizer: The model's tokenizer.
        path: The file to write.
    """
    answers_of = {checkpoint: _read_answers(answers[checkpoint]) for checkpoint in ("learned", "reviewed")}
    chats = dict(rows.at(table.rows[chosen].tolist()))
    with path.open("w", encoding="utf-8") as file:
        for i in chosen.tolist():
            row = table[i]
            prompt, completion = _texts(chats[row.row], row, tokenizer)
            texts = {"prompt": prompt, "completion": completion}
            texts |= {checkpoint: by_row[row.row] for checkpoint, by_row in answers_of.items()}
            shown = {name: text[:_TEXT_SHOWN] for name, text in texts.items()}
            file.write(json.dumps({"id": row.id, "row": row.row, **shown}, ensure_ascii=False) + "\n")


def read_examples(path: Path) -> list[dict[str, Any]]:
    """Read the examples: `id`, `row`, `prompt`, `completion`, and the answers `learned` and `reviewed` of each.

    The list is empty where the run has none, as in runs of earlier versions.

    Raises:
        RunError: The file was changed since it was written.
    """
    if not path.is_file():
        return []
    try:
        # Not splitlines, as texts may hold other line separators.
        examples = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        valid = all(isinstance(example[name], str) for example in examples for name in ("id", *TEXTS))
    except (ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        raise RunError(f"{path}: changed since it was written; delete it, and the report does without examples")
    return examples


def _read_answers(folder: Path) -> dict[int, str]:
    columns = pq.read_table(folder).select(["row", "answer"]).to_pydict()
    return dict(zip(columns["row"], columns["answer"], strict=True))


def _texts(chat: Chat, row: Tokens, tokenizer: Any) -> tuple[str, str]:
    """Return a row's prompt, and its own completion."""
    first = chat.first_answer
    completion = chat.messages[first].text
    if chat.is_text:
        prompt = str(tokenizer.decode(row.input_ids[: row.prompt_ends[0]], skip_special_tokens=True))
        return prompt, completion.removeprefix(prompt)
    return "\n".join(message.text for message in chat.messages[:first]), completion
