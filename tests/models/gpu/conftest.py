"""Rows of several lengths, for what takes rows end to end."""

from __future__ import annotations

import pytest

from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from support.tiny_models import make_tokenizer

SAID = [
    ("Who?", "Me."),
    ("What is it that you want?", "Nothing at all, thank you."),
    ("Why?", "Because I can."),
    ("Go", "No"),
]


@pytest.fixture
def table(tmp_path) -> TokenTable:
    path = tmp_path / "tokens.arrow"
    rows = [(str(i), i, Chat.of(p, c)) for i, (p, c) in enumerate(SAID)]
    for _ in write_tokens(rows, Encoder(make_tokenizer(), "auto", 64), path):
        pass
    return TokenTable(path)
