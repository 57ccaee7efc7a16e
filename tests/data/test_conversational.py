"""Rows in the form that trainers take, whatever layout they came in."""

import json

from forgetfilter.data.containers import from_memory
from forgetfilter.data.conversational import as_conversations
from forgetfilter.data.rows import ReadOptions, read_chats


def conversations(*rows):
    container = from_memory(list(rows), "rows", "train")
    return as_conversations([chat for _, _, chat in read_chats(container, ReadOptions())], "rows")


def turn(role, content):
    return {"role": role, "content": content}


CHAT = [
    turn("system", "Be kind."),
    turn("user", "a"),
    turn("assistant", "b"),
    turn("user", "c"),
    turn("assistant", "d"),
]


def test_a_question_and_an_answer_are_two_messages():
    rows = conversations({"question": "a", "answer": "b", "ticket": "T1"})
    assert rows.to_list() == [{"prompt": [turn("user", "a")], "completion": [turn("assistant", "b")]}]


def test_the_completion_begins_with_the_first_answer():
    assert conversations({"messages": CHAT}).to_list() == [{"prompt": CHAT[:2], "completion": CHAT[2:]}]


def test_a_preference_gives_the_chosen_side():
    rows = conversations({"prompt": "a", "chosen": "b", "rejected": "c"})
    assert rows.to_list() == [{"prompt": [turn("user", "a")], "completion": [turn("assistant", "b")]}]


def test_plain_texts_stay_texts():
    assert conversations({"text": "a"}, {"text": "b"}).to_list() == [{"text": "a"}, {"text": "b"}]


def test_tools_and_variables_of_the_template_go_along():
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    with_tools = {"messages": CHAT, "tools": json.dumps(tools), "chat_template_kwargs": {"thinking": True}}
    first, second = conversations(with_tools, {"messages": CHAT}).to_list()
    assert json.loads(first["tools"]) == tools
    assert first["chat_template_kwargs"] == {"thinking": True}
    # TRL unpacks it, which null does not allow.
    assert second["tools"] is None
    assert second["chat_template_kwargs"] is not None
