"""`--safe self`: the aligned model's own answers to the data's prompts, reviewed in place of safe examples.

Before it has seen the data the model is aligned, so that what it says by itself shows the behaviour that the
review should bring back, in the data's own domain and without a label.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..data.chats import TEXT_ROLE, Message
from ..data.rows import Rows, Said
from ..data.tokens import TokenTable

ANSWERS = "answers.jsonl"


def choose_prompts(table: TokenTable, count: int, seed: int) -> NDArray[np.intp]:
    """Rows of the table with different prompts, `count` of them or all there are, in random order.

    Of a chat with several answers, the prompt is what stands before the first.
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
    """The rows that were answered, with the model's answer in place of theirs; empty answers are left out.

    Args:
        rows: The data.
        table: Its tokens.
        folder: What `models.scoring.score` wrote with the `Answers` scorer.
        tokenizer: The model's tokenizer.
    """
    said = pq.read_table(folder).select(["row", "answer"]).to_pydict()
    answers = dict(zip(said["row"], said["answer"], strict=True))
    for position, chat in rows.at(list(answers)):
        # A tiny model may say what no reader takes for text.
        answer = answers[position].replace("\0", "")
        if not answer.strip():
            continue
        row = table[int(np.searchsorted(table.rows, position))]
        if chat.is_text:
            begun = tokenizer.decode(row.input_ids[: row.prompt_ends[0]], skip_special_tokens=True)
            said = [Message(TEXT_ROLE, begun + answer, trained=True)]
        else:
            said = [*chat.messages[: chat.first_answer], Message("assistant", answer, trained=True)]
        yield row.id, position, chat.with_messages(said)


def write_answers(said: Sequence[Said], path: Path) -> None:
    """Write the answers for people to look at, in a layout that `--safe` reads."""
    with path.open("w", encoding="utf-8") as file:
        for id, _, chat in said:
            turns = [{"role": turn.role, "content": turn.content, **turn.extra} for turn in chat.messages]
            beside = {"tools": chat.tools, "chat_template_kwargs": chat.template_kwargs}
            fields = {"text": turns[0]["content"]} if chat.is_text else {"messages": turns} | beside
            told = {name: value for name, value in fields.items() if value}
            file.write(json.dumps({"id": id, **told}, ensure_ascii=False) + "\n")
