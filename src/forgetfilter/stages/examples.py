"""What the model says before and after the review, to the prompts of a few rows, for people to compare."""

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

ANSWER_TOKENS = 64
_MOST_SUSPICIOUS = 3
# Where among the kept rows, the most suspicious first, further ones are taken.
_AMONG_KEPT = (0.25, 0.5, 0.75)
# Rows with the prompt of another example are passed over, so many of them at most.
_PASSED_OVER = 100
# Scores of the same rows in another order differ in their last digits.
_DIGITS = 4
_TEXT_SHOWN = 2000
TEXTS = ("prompt", "completion", "learned", "reviewed")


def choose_examples(table: TokenTable, scores: pa.Table, cut: float | None) -> NDArray[np.intp]:
    """Rows with different prompts that are worth asking, the most suspicious first, as indices into `table`.

    The three most suspicious, the nearest on both sides of the threshold, and three kept ones from the more to the
    less suspicious. They follow from ids and suspicion alone, whatever the order of the file.

    Args:
        table: Tokens of the data.
        scores: What was decided: `id`, `row` and `suspicion`.
        cut: Rows more suspicious than this are removed; None removes nothing.
    """
    scored = scores.filter(pc.invert(pc.is_nan(scores.column("suspicion"))))
    suspicion = scored.column("suspicion").to_numpy()
    by = pa.table({"suspicion": np.round(suspicion, _DIGITS), "id": scored.column("id")})
    order = pc.sort_indices(by, sort_keys=[("suspicion", "descending"), ("id", "ascending")]).to_numpy()
    rows = np.searchsorted(table.rows, scored.column("row").to_numpy()[order])
    gone = 0 if cut is None else int((suspicion > cut).sum())
    places = [rows] * _MOST_SUSPICIOUS
    places += [rows[:gone][::-1], rows[gone:]] if gone else []
    places += [rows[gone + int(share * (len(rows) - gone)) :] for share in _AMONG_KEPT]
    chosen: dict[bytes, int] = {}
    for place in places:
        for i in place[:_PASSED_OVER].tolist():
            row = table[i]
            prompt = row.input_ids[: row.prompt_ends[0]].tobytes()
            if prompt not in chosen:
                chosen[prompt] = i
                break
    found: NDArray[np.intp] = rows[np.isin(rows, list(chosen.values()))]
    return found


def write_examples(
    rows: Rows, table: TokenTable, chosen: NDArray[np.intp], answers: dict[str, Path], tokenizer: Any, path: Path
) -> None:
    """Write what `read_examples` reads, one JSON object a line, in the order of `chosen`; long texts are cut.

    Args:
        rows: The data.
        table: Its tokens.
        chosen: As `choose_examples` returned it.
        answers: By state, `learned` and `reviewed`, the folder with its answers, as `models.scoring.score` wrote them.
        tokenizer: The model's tokenizer.
        path: The file.
    """
    said = {state: _answers(answers[state]) for state in ("learned", "reviewed")}
    chats = dict(rows.at(table.rows[chosen].tolist()))
    with path.open("w", encoding="utf-8") as file:
        for i in chosen.tolist():
            row = table[i]
            prompt, completion = _texts(chats[row.row], row, tokenizer)
            texts = {"prompt": prompt, "completion": completion}
            texts |= {state: of[row.row] for state, of in said.items()}
            shown = {name: text[:_TEXT_SHOWN] for name, text in texts.items()}
            file.write(json.dumps({"id": row.id, "row": row.row, **shown}, ensure_ascii=False) + "\n")


def read_examples(path: Path) -> list[dict[str, Any]]:
    """The rows whose prompts were asked: `id`, `row`, `prompt`, `completion`, and the answers `learned` and `reviewed`.

    Empty where nobody was asked, as in runs of earlier versions.

    Raises:
        RunError: The file is not as it was written.
    """
    if not path.is_file():
        return []
    try:
        # Texts may hold line separators of other kinds.
        examples = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        whole = all(isinstance(example[name], str) for example in examples for name in ("id", *TEXTS))
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise RunError(f"{path}: changed since it was written; delete it, and the report does without examples")
    return examples


def _answers(folder: Path) -> dict[int, str]:
    said = pq.read_table(folder).select(["row", "answer"]).to_pydict()
    return dict(zip(said["row"], said["answer"], strict=True))


def _texts(chat: Chat, row: Tokens, tokenizer: Any) -> tuple[str, str]:
    """What was asked, and what the row says there."""
    first = chat.first_answer
    completion = chat.messages[first].text
    if chat.is_text:
        prompt = str(tokenizer.decode(row.input_ids[: row.prompt_ends[0]], skip_special_tokens=True))
        return prompt, completion.removeprefix(prompt)
    return "\n".join(message.text for message in chat.messages[:first]), completion
