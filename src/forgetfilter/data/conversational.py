"""Turn chats into the rows that trainers such as TRL's take, whatever layout they came in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .chats import Chat, Message
from .tables import as_dataset

if TYPE_CHECKING:
    import datasets


def as_conversations(chats: Iterable[Chat], name: str) -> datasets.Dataset:
    """Make a data set with `prompt` and `completion`, each a list of messages; or with `text`, of plain texts.

    The completion begins with the first answer that is trained on. `tools` (as JSON text) and `chat_template_kwargs`
    are columns if any chat has them.

    Args:
        chats: The chats, all of them plain texts or none.
        name: What to call the rows in messages.

    Raises:
        InputError: What the messages hold besides their texts does not go into a column.
    """
    rows = [_row(chat) for chat in chats]
    unused = [column for column in ("tools", "chat_template_kwargs") if not any(row.get(column) for row in rows)]
    return as_dataset(({key: value for key, value in row.items() if key not in unused} for row in rows), name)


def _row(chat: Chat) -> dict[str, Any]:
    if chat.is_text:
        return {"text": chat.messages[0].content}
    first = chat.first_answer
    return {
        "prompt": _turns(chat.messages[:first]),
        "completion": _turns(chat.messages[first:]),
        "tools": json.dumps(chat.tools) if chat.tools else None,
        "chat_template_kwargs": dict(chat.template_kwargs),
    }


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": message.content, **message.extra} for message in messages]
