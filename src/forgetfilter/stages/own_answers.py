"""Generate the aligned model's own answers to the data's prompts, to review in place of safe examples (`--safe self`).

Before it is trained on the data the model is aligned, so its own answers show the behaviour that the
review should restore, in the data's own domain and without a label.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.chats import ASSISTANT, TEXT_ROLE, Message
from ..data.rows import Rows, Said
from ..data.tokens import TokenTable


def choose_prompts(table: TokenTable, count: int, seed: int) -> NDArray[np.intp]:
    """Choose up to `count` rows with distinct prompts at random, as indices in ascending order.

    The prompt of a chat with several answers is everything before the first one.
    """
    seen: set[bytes] = set()
    chosen: list[int] = []
    for i in table.shuffled(table.scorable, seed):
        row = table[int(i)]
        prompt = row.input_ids[: row.prompt_ends[0]].tobytes()
        if prompt not in seen:
            seen.add(prompt)
            chosen.append(int(i))
        if len(chosen) == count:
            break
    return np.array(sorted(chosen), dtype=np.intp)


def answered(rows: Rows, table: TokenTable, folder: Path, tokenizer: Any) -> Iterator[Said]:
    """Yield the rows that the model answered, with its answer in place of theirs; empty answers are left out.

    Args:
        rows: The data.
        table: Tokens of the data.
        folder: The scores that `models.scoring.score` wrote with the `Answers` scorer.
        tokenizer: The model's tokenizer.
    """
    columns = pq.read_table(folder).select(["row", "answer"]).to_pydict()
    answers = dict(zip(columns["row"], columns["answer"], strict=True))
    for position, chat in rows.at(list(answers)):
        # A tiny model may generate null characters, which readers do not accept as text.
        answer = answers[position].replace("\0", "")
        if not answer.strip():
            continue
        row = table[int(np.searchsorted(table.rows, position))]
        if chat.is_text:
            prompt = tokenizer.decode(row.input_ids[: row.prompt_ends[0]], skip_special_tokens=True)
            messages = [Message(TEXT_ROLE, prompt + answer, trained=True)]
        else:
            messages = [*chat.messages[: chat.first_answer], Message(ASSISTANT, answer, trained=True)]
        yield row.id, position, chat.with_messages(messages)


def write_answers(rows: Sequence[Said], path: Path) -> None:
    """Write the answered rows for people to look at, in a layout that `--safe` reads."""
    with path.open("w", encoding="utf-8") as file:
        for id, _, chat in rows:
            turns = [_turn(turn) for turn in chat.messages]
            settings = {"tools": chat.tools, "chat_template_kwargs": chat.template_kwargs}
            fields = {"text": turns[0]["content"]} if chat.is_text else {"messages": turns} | settings
            present = {name: value for name, value in fields.items() if value}
            file.write(json.dumps({"id": id, **present}, ensure_ascii=False) + "\n")


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content, **message.extra}
    # Answers of the data that come before are context, and not the model's own.
    return turn if message.trained or message.role != ASSISTANT else turn | {"weight": 0}
