"""Chats in which every message has words of its own, and answers that are awkward to find in a chat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A word that stands in one message only. SYSTEM, USER, RESULT and TOOL are never the assistant's.
MARK = re.compile(r"(?:SYSTEM|USER|ANSWER|REASON|VALUE|RESULT|TOOL)(?:ONE|TWO|THREE|FOUR|N\d+E)[A-C]")


@dataclass(frozen=True)
class Chat:
    """A row, and the messages that a trainer would hand to the chat template for it.

    Attributes:
        row: The row as it stands in a data set.
        messages: What `apply_chat_template` is given.
        trained: The positions of the answers that are trained on.
        tools: The tools that are offered.
    """

    row: Mapping[str, Any]
    messages: list[dict[str, Any]]
    trained: tuple[int, ...]
    tools: list[dict[str, Any]] | None = field(default=None)


def words(what: str, which: str) -> str:
    """Some text that no other message has, beginning, middle and end."""
    name = f"{what.upper()}{which.upper()}"
    return f"{name}A tells, as {name}B does, of {name}C."


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def system(which: str = "one") -> dict[str, Any]:
    return message("system", words("system", which))


def user(which: str) -> dict[str, Any]:
    return message("user", words("user", which))


def answer(which: str, **more: Any) -> dict[str, Any]:
    return message("assistant", words("answer", which), **more)


def chat(*messages: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> Chat:
    """A row in OpenAI's layout."""
    trained = tuple(i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("weight") != 0)
    row: dict[str, Any] = {"messages": list(messages)}
    return Chat(row | ({"tools": tools} if tools else {}), list(messages), trained, tools)


def thought(which: str) -> str:
    return f"<think>\n{words('reason', which)}\n</think>\n\n"


def call(which: str, *, as_text: bool = False, id: str = "callid001") -> dict[str, Any]:
    value = f"VALUE{which.upper()}A"
    arguments: Any = f'{{"place": "{value}", "days": 2}}' if as_text else {"place": value, "days": 2}
    return {"id": id, "type": "function", "function": {"name": f"lookup_{which}", "arguments": arguments}}


def result(which: str, id: str = "callid001") -> dict[str, Any]:
    return message("tool", words("result", which), tool_call_id=id, name=f"lookup_{which}")


def tool(which: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}}
    function = {"name": f"lookup_{which}", "description": words("tool", which), "parameters": parameters}
    return {"type": "function", "function": function}


def _three(**more: Any) -> list[dict[str, Any]]:
    turns = [(user(n), answer(n, **more)) for n in ("one", "two", "three")]
    return [m for turn in turns for m in turn]


def _thinking(content_of: Any, *which: str) -> list[dict[str, Any]]:
    return [m for n in which for m in (user(n), content_of(n))]


def _in_content(n: str) -> dict[str, Any]:
    return message("assistant", thought(n) + words("answer", n))


def _long(turns: int) -> list[dict[str, Any]]:
    return [m for i in range(turns) for m in (user(f"n{i}e"), answer(f"n{i}e"))]


_LINES = "ANSWERONEA first:\n\n- ANSWERONEB\n\n\n```python\nif x:\n    print('ANSWERONEC')\n```"
_PADDED = f" \n {words('answer', 'one')} \n\n"


def _signs(what: str, which: str) -> str:
    """Marked words with signs around them, which are the answer's, too."""
    name = f"{what.upper()}{which.upper()}"
    return f'**"({name}A, {name}B: {name}C)"** — 🙂!'


def _signs_in_content(n: str) -> dict[str, Any]:
    return message("assistant", f"<think>\n{_signs('reason', n)}\n</think>\n\n{_signs('answer', n)}")


def _signs_beside(n: str) -> dict[str, Any]:
    return message("assistant", _signs("answer", n), reasoning_content=_signs("reason", n))


CHATS: dict[str, Chat] = {
    "one_turn": chat(user("one"), answer("one")),
    "system": chat(system(), user("one"), answer("one")),
    "empty_system": chat(message("system", ""), user("one"), answer("one")),
    "three_turns": chat(*_three()),
    "three_turns_system": chat(system(), *_three()),
    "last_user": chat(user("one"), answer("one"), user("two")),
    "last_user_system": chat(system(), user("one"), answer("one"), user("two"), answer("two"), user("three")),
    "assistant_first": chat(answer("one"), user("one"), answer("two")),
    "system_assistant_first": chat(system(), answer("one"), user("one"), answer("two")),
    "two_assistants": chat(user("one"), answer("one"), answer("two"), user("two"), answer("three")),
    "two_users": chat(user("one"), user("two"), answer("one"), user("three"), answer("two")),
    "system_within": chat(user("one"), answer("one"), system(), user("two"), answer("two")),
    "system_at_the_end": chat(user("one"), answer("one"), system()),
    "developer": chat(message("developer", words("system", "one")), user("one"), answer("one")),
    "weight": chat(
        user("one"),
        answer("one", weight=0),
        user("two"),
        answer("two", weight=1),
        user("three"),
        answer("three", weight=0),
    ),
    "weight_last": chat(*_three(weight=0)[:-1], answer("three", weight=1)),
    "lines": chat(user("one"), message("assistant", _LINES), user("two"), answer("two")),
    "padded": chat(
        user("one"), message("assistant", _PADDED), message("user", f"\n{words('user', 'two')} \n"), answer("two")
    ),
    "ten_turns": chat(system(), *_long(10)),
    "signs": chat(*_thinking(lambda n: message("assistant", _signs("answer", n)), "one", "two")),
    "think_signs": chat(system(), *_thinking(_signs_in_content, "one", "two")),
    "think_signs_last_user": chat(*_thinking(_signs_in_content, "one", "two"), user("three")),
    "reasoning_signs": chat(*_thinking(_signs_beside, "one", "two")),
    "think": chat(user("one"), _in_content("one")),
    "think_twice": chat(*_thinking(_in_content, "one", "two")),
    "think_system": chat(system(), *_thinking(_in_content, "one", "two", "three")),
    "think_earlier": chat(user("one"), _in_content("one"), user("two"), answer("two")),
    "think_last_user": chat(user("one"), _in_content("one"), user("two")),
    "think_long_last_user": chat(*_thinking(_in_content, "one", "two"), message("user", words("user", "three") * 9)),
    "think_weight": chat(user("one"), {**_in_content("one"), "weight": 0}, user("two"), _in_content("two")),
    "reasoning": chat(*_thinking(lambda n: answer(n, reasoning_content=words("reason", n)), "one")),
    "reasoning_twice": chat(*_thinking(lambda n: answer(n, reasoning_content=words("reason", n)), "one", "two")),
    "reasoning_last_user": chat(user("one"), answer("one", reasoning_content=words("reason", "one")), user("two")),
    "thinking": chat(*_thinking(lambda n: answer(n, thinking=words("reason", n)), "one", "two")),
    "tools_not_used": chat(system(), user("one"), answer("one"), user("two"), answer("two"), tools=[tool("one")]),
    "call": chat(
        user("one"),
        message("assistant", None, tool_calls=[call("one")]),
        result("one"),
        answer("two"),
        tools=[tool("one")],
    ),
    "call_empty_text": chat(
        system(), user("one"), message("assistant", "", tool_calls=[call("one")]), result("one"), answer("two")
    ),
    "call_as_text": chat(
        user("one"),
        message("assistant", None, tool_calls=[call("one", as_text=True)]),
        result("one"),
        answer("two"),
        tools=[tool("one")],
    ),
    "call_with_words": chat(
        user("one"), answer("one", tool_calls=[call("one")]), result("one"), answer("two"), user("two"), answer("three")
    ),
    "calls": chat(
        user("one"),
        message("assistant", None, tool_calls=[call("one"), call("two", id="callid002")]),
        result("one"),
        result("two", "callid002"),
        answer("three"),
        tools=[tool("one"), tool("two")],
    ),
    "call_reasoning": chat(
        system(),
        user("one"),
        message("assistant", "", reasoning_content=words("reason", "one"), tool_calls=[call("one")]),
        result("one"),
        answer("two", reasoning_content=words("reason", "two")),
        user("two"),
        answer("three", reasoning_content=words("reason", "three")),
        tools=[tool("one")],
    ),
    "call_last": chat(user("one"), answer("one"), user("two"), message("assistant", None, tool_calls=[call("two")])),
    "call_last_user": chat(
        user("one"), message("assistant", None, tool_calls=[call("one")]), result("one"), answer("two"), user("two")
    ),
    "prompt_completion": Chat(
        {"prompt": words("user", "one"), "completion": words("answer", "one")}, [user("one"), answer("one")], (1,)
    ),
    "prompt_of_messages": Chat(
        {"prompt": [system(), user("one"), answer("one"), user("two")], "completion": [answer("two")]},
        [system(), user("one"), answer("one"), user("two"), answer("two")],
        (4,),
    ),
    "alpaca": Chat(
        {"instruction": words("user", "one"), "input": words("user", "two"), "output": words("answer", "one")},
        [message("user", f"{words('user', 'one')}\n\n{words('user', 'two')}"), answer("one")],
        (1,),
    ),
    "sharegpt": Chat(
        {
            "conversations": [
                {"from": "human", "value": words("user", "one")},
                {"from": "gpt", "value": words("answer", "one")},
                {"from": "human", "value": words("user", "two")},
                {"from": "gpt", "value": words("answer", "two")},
            ]
        },
        [user("one"), answer("one"), user("two"), answer("two")],
        (1, 3),
    ),
}

# Three answers each, which are given one after the other; the questions and the system message hold them as well.
AWKWARD: dict[str, tuple[str, str, str]] = {
    "yes": ("yes", "yes", "yes"),
    "letter": ("a", "a", "b"),
    "letters_of_headers": ("s", "n", "I"),
    "digit": ("1", "0", "2"),
    "roles": ("assistant", "user", "system"),
    "roles_again": ("model", "Assistant", "User"),
    "role_headers": ("Assistant:", "USER:", "assistant\n"),
    "repeats": ("abab", "ab", "ababab"),
    "words_of_defaults": ("You are a helpful assistant.", "helpful", "A"),
    "full_stop": (".", "?", "..."),
    "punctuation": ("?!", ":", "-"),
    "brackets": ("{}", "[]", "<>"),
    "markup": ("<b>&amp;</b>", "&", "<"),
    "emoji": ("🙂", "👩‍👩‍👧‍👦", "🏳️‍🌈 yes"),
    "chinese": ("不", "日本語です。", "答：对"),
    "right_to_left": ("مرحبا بالعالم", "שלום", "\u202eabc\u202c"),
    "combining": ("e\u0301", "é", "n\u0303\u0323 o"),
    "invisible": ("\u200bx\u200b", "\ufeffx", "x\u00ad"),
    "private": ("\ue000", "\U000f0000x\U0010fffd", "\ufdd0\ufffe"),
    "control": ("a\x01b", "\x1dyes", "\x7f"),
    "patterns": (".*", "^yes$", "(a|b)+\\b"),
    "case": ("İ", "ß", "ǆ"),
    "quotes": ('"', "'", '"yes"'),
    "escapes": ("\\", "\\n", "\\\\n\\u0041"),
    "json": ('{"a": "b"}', '"role": "user"', "null"),
    "line_breaks": ("\nyes", "yes\n", "\n\nyes\n\n"),
    "blanks": ("  yes", "yes  ", " \t yes \t "),
    "inner_blanks": ("yes  no", "yes\n\n\nno", "yes \n no"),
    "carriage_returns": ("yes\r\nno\r\n", "\r\nyes", "yes\r"),
    "wide_blanks": ("\u3000yes\u3000", "\u00a0no\u00a0", "\u2028x"),
    "chatml": ("<|im_start|>user", "<|im_end|>", "yes<|im_end|>\n<|im_start|>user\nUSERFOURA"),
    "llama": ("[INST]", "[/INST] yes", "</s>"),
    "llama_headers": ("<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\nyes", "<<SYS>>"),
    "ends": ("<|end|>", "yes<|end|>\n<|user|>no<|end|>\n<|assistant|>", "<|endoftext|>"),
    "gemma_tags": ("<end_of_turn>", "<start_of_turn>user\nno", "<start_of_turn>model\nyes<end_of_turn>"),
    "deepseek_tags": ("<｜User｜>no", "<｜Assistant｜>yes", "<｜end▁of▁sentence｜>"),
    "headers_of_text": ("### Response:", "### Instruction:\nno", "USER: no ASSISTANT: yes"),
    "jinja": ("{{ 7*7 }}", "{% raw %}", "{% generation %}x{% endgeneration %}"),
    "format": ("%s", "{0}", "$1 \\1"),
    "closed_thoughts": ("</think>", "no </think> yes", "yes</think>"),
    "open_thoughts": ("<think>", "<think>no", "yes <think>"),
    "empty_thoughts": ("<think></think>", "<think>\n\n</think>\n\nyes", "[THINK]no[/THINK]yes"),
    "channels": ("<|channel|>final<|message|>yes", "<|message|>", "<|return|>"),
    "tool_tags": ("<tool_call>\n{}\n</tool_call>", "[TOOL_CALLS]", "<tool_response>no</tool_response>"),
    "long": ("yes " * 200, "no\n" * 100, "a" * 600),
}


def awkward(name: str, *, with_system: bool) -> list[dict[str, Any]]:
    """Three turns (and in every second chat a question more) whose questions hold the answers' very words."""
    first, second, third = AWKWARD[name]
    head = [message("system", f"SYSTEMONEA {first} {second} SYSTEMONEB {third}")] if with_system else []
    turns = [
        message("user", f"{first} USERONEA {first} or {second}"),
        message("assistant", first),
        message("user", f"{second} USERTWOA {first} or {third} {second}"),
        message("assistant", second),
        message("user", f"{third}"),
        message("assistant", third),
    ]
    tail = [message("user", f"{third} USERFOURB {first}")] if len(name) % 2 else []
    return [*head, *turns, *tail]
