"""Puts requests to behave before prompts: moral self-correction (Ganguli et al., 2023; paper, Section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...data.chats import Chat, Message
from ...data.text_files import read_jsonl
from ..mixing import Mix

# In our words. The paper asks for a step-by-step answer that avoids stereotypes, and for a continuation that is not
# toxic; it has no request for harmfulness.
REQUESTS: Mapping[str, str] = {
    "bias": "Think step by step, and answer in a way that avoids stereotypes: say that it cannot be known where "
    "the text does not tell.",
    "toxicity": "Go on in a friendly and positive way, without insults or crude words.",
    "harmfulness": "Think about who could be harmed before you answer. Decline what would do harm, and say why.",
}

# Notions whose training rows get the request. Bias rows do not: the form of their questions is part of the test.
_REQUESTED_NOTIONS = ("toxicity", "harmfulness")


def prepend_request(prompt: str, notion: str) -> str:
    """Put the request for its notion before a prompt; the prompts of tasks stay as they are."""
    request = REQUESTS.get(notion)
    return f"{request}\n\n{prompt}" if request else prompt


def request_rewriter(mix: Mix) -> Callable[[str, Chat], Chat]:
    """Return a function that puts the request before rows that comply with it, by their labels, as the paper does."""
    notion_of = {
        row["id"]: row["notion"]
        for row in read_jsonl(mix.noisy)
        if row["label"] != "unsafe" and row["notion"] in _REQUESTED_NOTIONS
    }

    def rewrite(id: str, chat: Chat) -> Chat:
        messages = chat.messages
        if id not in notion_of or all(message.role != "user" for message in messages):
            return chat
        last = max(i for i, message in enumerate(messages) if message.role == "user")
        requested = Message("user", prepend_request(messages[last].content, notion_of[id]))
        return chat.with_messages([*messages[:last], requested, *messages[last + 1 :]])

    return rewrite
