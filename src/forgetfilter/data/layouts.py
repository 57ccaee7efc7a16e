"""Read the fields of a row by their meaning: a row of any published layout becomes a chat.

A layout is recognised by the names of its fields (`data.columns`). `Layout.chat` checks a row strictly, because what
it lets through is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Any

import regex

from .chats import (
    ASSISTANT,
    FUNCTION_CALL,
    REASONING,
    ROLES,
    TEXT_ROLE,
    TOOL_CALLS,
    Chat,
    FieldError,
    Message,
    called,
    describe,
    field_of,
    is_missing,
    parsed,
    text_of,
    usable,
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """The layout of one data set: its name, and the column of each of its fields."""

    name: str
    columns: Mapping[str, str]

    def chat(self, row: Row) -> Chat:
        """Read one row.

        Raises:
            FieldError: A field is missing, of the wrong type, empty, or holds text that cannot be used.
        """
        chat = READERS[self.name](row, self.columns)
        return replace(
            chat,
            tools=_tools(row.get(self.columns.get("tools", "tools"))) or chat.tools,
            template_kwargs=_template_kwargs(row.get("chat_template_kwargs")),
        )

    def unread(self, row: Row) -> list[str]:
        """Return the columns in which a row has something that is not read."""
        read = {*self.columns.values(), *_BESIDE, _system_column(row, self.columns)}
        return [
            str(column) or "(no name)" for column, value in row.items() if column not in read and not _is_empty(value)
        ]


# Columns that rows of any layout may have besides their texts.
_BESIDE = ("id", "tools", "chat_template_kwargs")


def _is_empty(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, (list, Mapping)) and not value)


def _tools(value: Any) -> list[Mapping[str, Any]]:
    found = parsed(value)
    if is_missing(found) or (isinstance(found, str) and found.lstrip()[:1] not in ("[", "{")):
        # A column of this name may hold anything; what is no JSON does not describe tools.
        return []
    value = [found] if isinstance(found, Mapping) else found
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise FieldError("tools", describe(value), "a list of JSON schemas, or such a list as JSON text")
    tools: list[Mapping[str, Any]] = usable(value, "tools")
    return tools


def _template_kwargs(value: Any) -> Mapping[str, Any]:
    value = parsed(value)
    if is_missing(value):
        return {}
    if not isinstance(value, Mapping):
        raise FieldError("chat_template_kwargs", describe(value), "an object")
    kwargs: Mapping[str, Any] = usable(value, "chat_template_kwargs")
    return kwargs


def _content(value: Any, field: str, *, filled: bool) -> str:
    """Read a message's content: text, or OpenAI's list of parts as long as all of them are text."""
    if not isinstance(value, list):
        return text_of(value, field, filled=filled)
    parts = []
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else describe(part)
            raise FieldError(field, f"a part of type {kind!r}", "parts of type 'text' only")
        parts.append(text_of(part.get("text"), f"{field}.text", filled=False))
    return text_of("".join(parts), field, filled=filled)


# Fields of a message that are read here; all others are left to the chat template.
_READ = {"role", "content", "from", "value", "weight", FUNCTION_CALL}


def _turn(turn: Any, place: str) -> Message:
    if not isinstance(turn, dict):
        raise FieldError(place, describe(turn), "an object with 'role' and 'content', or 'from' and 'value'")
    # Tables of several kinds of turns have both, one of them null.
    keys = ("from", "value") if turn.get("role") is None and "from" in turn else ("role", "content")
    said_by, said = turn.get(keys[0]), turn.get(keys[1])
    if not isinstance(said_by, str) or said_by not in ROLES:
        raise FieldError(f"{place}.{keys[0]}", describe(said_by), f"one of {', '.join(ROLES)}")
    role = ROLES[said_by]
    extra = {name: value for name, value in turn.items() if name not in _READ and value is not None}
    # What stands there in other forms is no call, and templates go through it as if it were.
    extra.pop(TOOL_CALLS, None)
    calls = _calls(turn, said if said_by == FUNCTION_CALL else None, place)
    if calls:
        extra[TOOL_CALLS] = calls
    if said_by == FUNCTION_CALL and calls:
        said = None
    extra = usable(extra, place)
    # Only what is trained on has to say something; an empty system message is common and harmless, and an answer may
    # be nothing but a call.
    silent = role == ASSISTANT and (calls or any(isinstance(extra.get(name), str) for name in REASONING))
    if said is None and silent:
        content = ""
    else:
        content = _content(said, f"{place}.{keys[1]}", filled=role == ASSISTANT and not silent)
    # OpenAI's fine-tuning format marks a turn that is not to be learned with a weight of 0.
    return Message(role, content, trained=role == ASSISTANT and turn.get("weight") != 0, extra=extra)


def _calls(turn: Mapping[str, Any], said: Any, place: str) -> list[dict[str, Any]]:
    """Read the tool calls of a turn, all in the form that chat templates take.

    Args:
        turn: The turn.
        said: The content of a turn that is nothing but a call, as ShareGPT has it; else None.
        place: What to call it in messages.
    """
    calls = parsed(turn.get(TOOL_CALLS))
    if is_missing(calls) or calls == []:
        calls = parsed(turn.get(FUNCTION_CALL)) if said is None else parsed(said)
        if said is not None and not isinstance(calls, (list, Mapping)):
            # Some files keep calls of their own form there; they are read as an answer of text.
            return []
    if is_missing(calls):
        return []
    calls = [calls] if isinstance(calls, Mapping) else calls
    field = f"{place}.{TOOL_CALLS}"
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise FieldError(field, describe(calls), "a list of calls, each with a function's name and arguments")
    found = []
    for call in calls:
        bare = called(call)
        if not isinstance(bare["name"], str) or not bare["name"].strip():
            raise FieldError(field, "a call without a function's name", "a name and arguments in each")
        # Templates of most models take arguments as an object, whatever OpenAI's files have.
        bare["arguments"] = parsed(bare["arguments"])
        found.append({**{k: v for k, v in call.items() if k in ("id", "index")}, "type": "function", "function": bare})
    return found


def _turns(value: Any, field: str) -> list[Message]:
    _not_a_repr(value, field)
    value = turn_list(value)
    if not isinstance(value, list):
        raise FieldError(field, describe(value), "a list of messages")
    return [_turn(turn, f"{field}[{i}]") for i, turn in enumerate(value)]


def turn_list(value: Any) -> Any:
    """Return turns as a list, also those that are JSON text or an object of lists; another value as it is."""
    found = parsed(value)
    if isinstance(found, Mapping) and found and all(isinstance(column, list) for column in found.values()):
        # `datasets` used to keep a list of objects in this way.
        found = [dict(zip(found, turn, strict=False)) for turn in zip(*found.values(), strict=False)]
    # A text may look like JSON and yet be a prompt or an answer.
    told = isinstance(value, str) and not (isinstance(found, list) and found and all(map(is_turn, found)))
    return value if told else found


def _not_a_repr(value: Any, field: str) -> None:
    """Refuse turns that were written as Python shows them: as text they would be taken for an answer.

    Raises:
        FieldError: They are.
    """
    if isinstance(value, str) and _REPR.match(value):
        raise FieldError(field, "messages as Python shows them, in single quotes", "JSON (json.dumps), or a list")


# How pandas writes a list of messages into a csv file.
_REPR = regex.compile(r"\s*\[\s*\{\s*'(?:role|from|content|value)'\s*:")


def is_turn(value: Any) -> bool:
    """Tell whether a value is an object that says who speaks."""
    return isinstance(value, Mapping) and ("role" in value or "from" in value)


def _answers(value: Any, field: str) -> list[Message]:
    """Read what follows a prompt: text, or messages."""
    _not_a_repr(value, field)
    if not isinstance(turn_list(value), list):
        return [Message(ASSISTANT, text_of(value, field), trained=True)]
    return _with_answer(_turns(value, field), field)


def _with_answer(turns: list[Message], field: str) -> list[Message]:
    if not any(turn.trained for turn in turns):
        if any(turn.role == ASSISTANT for turn in turns):
            found = "no message of the assistant to learn, as each has a weight of 0"
            raise FieldError(field, found, "at least one without, to train on and to score")
        raise FieldError(field, "no message of the assistant", "at least one, to train on and to score")
    return turns


def _asked(value: Any, field: str) -> list[Message]:
    """Read a prompt, as text or messages; none of it is trained on."""
    _not_a_repr(value, field)
    if isinstance(turn_list(value), list):
        return [replace(turn, trained=False) for turn in _turns(value, field)]
    return [Message("user", text_of(value, field, filled=False))]


def _system(row: Row, columns: Mapping[str, str]) -> list[Message]:
    """Read the system message that some layouts keep in a separate column."""
    column = _system_column(row, columns)
    value = row.get(column)
    return [] if is_missing(value) else [Message("system", text_of(value, column))]


def _system_column(row: Row, columns: Mapping[str, str]) -> str:
    column = columns.get("system", "system")
    # The first row, by which columns are found, may have had none.
    return "system_prompt" if column == "system" and column not in row else column


def _led(row: Row, columns: Mapping[str, str], turns: list[Message]) -> list[Message]:
    """Put the row's system message before turns that have none."""
    return turns if turns and turns[0].role in ("system", "developer") else [*_system(row, columns), *turns]


def _read_turns(field: str, row: Row, columns: Mapping[str, str]) -> Chat:
    column = columns[field]
    return Chat(_with_answer(_led(row, columns, _turns(field_of(row, column), column)), column))


def _read_prompt_completion(row: Row, columns: Mapping[str, str]) -> Chat:
    prompt, completion = field_of(row, columns["prompt"]), field_of(row, columns["completion"])
    asked = _led(row, columns, _asked(prompt, columns["prompt"]))
    return Chat([*asked, *_answers(completion, columns["completion"])])


def _read_preference(row: Row, columns: Mapping[str, str]) -> Chat:
    """Read both sides of a preference; the chosen answer is trained on."""
    asked, tools = _asked_of_both(row, columns)
    fields = columns["chosen"], columns["rejected"]
    answers = _told([_answer(row, column) for column in fields], asked)
    if _is_dialogue(row.get(columns["prompt"])):
        # Such a text ends with a speaker's name and a blank comes before the answer.
        answers = [answer.strip() if isinstance(answer, str) else answer for answer in answers]
    if not asked and all(isinstance(answer, str) for answer in answers):
        # What both texts begin with is the prompt, as it is to other trainers.
        begin = _shared_words(*answers)
        asked, answers = [Message("user", begin.strip())], [answer[len(begin) :] for answer in answers]
    elif not asked and any(isinstance(answer, str) for answer in answers):
        raise FieldError(fields[isinstance(answers[1], str)], "text", "messages, as the other answer has them")
    chosen, rejected = (
        _led(row, columns, _joined(asked, _answers(value, column)))
        for column, value in zip(fields, answers, strict=True)
    )
    # The prompt is what both begin with, whether it also stands by itself or not.
    alike = [one.role == other.role and one.text == other.text for one, other in zip(chosen, rejected, strict=False)]
    # Where one side ends in the other, or both are alike, the last answer of each is what is compared.
    shared = min([*alike, False].index(False), len(chosen) - 1, len(rejected) - 1)
    chosen, rejected = (
        [replace(turn, trained=turn.trained and i >= shared) for i, turn in enumerate(turns)]
        for turns in (chosen, rejected)
    )
    for turns, column in zip((chosen, rejected), fields, strict=True):
        if not any(turn.trained for turn in turns):
            raise FieldError(column, "no answer after what both sides begin with", "one, to compare with the other")
    return Chat(chosen, tools=tools, rejected=rejected)


def _asked_of_both(row: Row, columns: Mapping[str, str]) -> tuple[list[Message], list[Mapping[str, Any]]]:
    """Read the prompt of a preference that stands in a separate column, and the tools that may come with it."""
    column = columns["prompt"]
    value, tools = parsed(row.get(column)), []
    if isinstance(value, Mapping) and "messages" in value:
        # OpenAI's preferences: an object with messages and tools.
        tools, value = _tools(value.get("tools")), value["messages"]
    else:
        value = row.get(column)
    if is_missing(value) or value == []:
        return [], tools
    if isinstance(value, str):
        value = _dialogue(value)
    turns = _asked(value, column)
    below = row.get(columns.get("input", ""))
    if not is_missing(below) and len(turns) == 1:
        text = text_of(below, columns["input"], filled=False)
        turns = [replace(turns[0], content=f"{turns[0].content}\n\n{text}" if text.strip() else turns[0].content)]
    earlier = [replace(turn, trained=False) for turn in _history(row, columns)] if "history" in columns else []
    return _led(row, columns, [*earlier, *turns]), tools


def _answer(row: Row, column: str) -> Any:
    """Read one answer of a preference in its own form: text, or a list of messages."""
    value = field_of(row, column)
    _not_a_repr(value, column)
    if is_missing(value):
        found = "nothing" if value == "" else describe(value)
        raise FieldError(column, found, "an answer, as a preference has two (rows with one are prompt and completion)")
    found = parsed(value)
    value = [found] if isinstance(found, Mapping) and is_turn(found) else turn_list(value)
    return value if isinstance(value, list) else text_of(value, column)


def _told(answers: list[Any], asked: list[Message]) -> list[Any]:
    """Return the answers, as turns where both are dialogues written as one text.

    An answer may also be a dialogue that somebody asked for; so one with a prompt has to begin as the prompt does.
    """
    if not all(map(_is_dialogue, answers)):
        return answers
    told = [_dialogue(answer) for answer in answers]
    first = _first_said(asked)
    return told if first is None or all(_alike(first, _turn(turns[0], "")) for turns in told) else answers


def _first_said(turns: list[Message]) -> Message | None:
    """Return the first turn of a chat that is not its system message."""
    return next((turn for turn in turns if turn.role not in _SYSTEM), None)


def _is_dialogue(value: Any) -> bool:
    told = _dialogue(value) if isinstance(value, str) else ""
    return isinstance(told, list) and bool(told)


def _joined(asked: list[Message], side: list[Message]) -> list[Message]:
    """Join the prompt and one side, which may begin with the prompt already."""
    first, begin = _first_said(asked), _first_said(side)
    if begin is None or begin.role != "user" or first is None or not _alike(first, begin):
        return [*asked, *side]
    system = [] if side[0].role in _SYSTEM else [turn for turn in asked[:1] if turn.role in _SYSTEM]
    return [*system, *side]


def _alike(one: Message, other: Message) -> bool:
    return one.role == other.role and one.text.strip() == other.text.strip()


def _shared_words(one: str, other: str) -> str:
    """Return the whole words with which both texts begin; at least one word of each is left."""
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    shared = one[: min(alike, len(one.rstrip()) - 1, len(other.rstrip()) - 1)]
    return shared[: max((match.end() for match in _BLANKS.finditer(shared)), default=0)]


_SYSTEM = ("system", "developer")
_BLANKS = regex.compile(r"\s+")


# How Anthropic's HH, and files after its kind, write a dialogue as one text.
_SPEAKERS = {"Human": "user", "Assistant": ASSISTANT}
_TOLD = regex.compile(r"(?:^|\n\n)(Human|Assistant):")


def _dialogue(text: str) -> str | list[dict[str, str]]:
    """Return the turns of a dialogue that is written as one text; another text as it is."""
    before, *told = _TOLD.split(text)
    if before.strip() or not told or told[0] != "Human":
        return text
    turns = zip(told[::2], told[1::2], strict=True)
    return [{"role": _SPEAKERS[speaker], "content": said.strip()} for speaker, said in turns if said.strip()]


def _read_alpaca(row: Row, columns: Mapping[str, str]) -> Chat:
    instruction = text_of(field_of(row, columns["instruction"]), columns["instruction"])
    extra = row.get(columns["input"])
    extra = "" if is_missing(extra) else text_of(extra, columns["input"], filled=False)
    prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    answer = Message(ASSISTANT, text_of(field_of(row, columns["output"]), columns["output"]), trained=True)
    return Chat([*_system(row, columns), *_history(row, columns), Message("user", prompt), answer])


def _history(row: Row, columns: Mapping[str, str]) -> list[Message]:
    """Read the earlier turns of an Alpaca row: pairs of a prompt and an answer, which is trained on, too."""
    column = columns.get("history", "history")
    value = parsed(row.get(column))
    if is_missing(value):
        return []
    if not isinstance(value, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value):
        raise FieldError(column, describe(value), "a list of pairs, each of a prompt and an answer")
    turns = []
    for i, (asked, answered) in enumerate(value):
        turns.append(Message("user", text_of(asked, f"{column}[{i}]", filled=False)))
        turns.append(Message(ASSISTANT, text_of(answered, f"{column}[{i}]"), trained=True))
    return turns


def _read_text(row: Row, columns: Mapping[str, str]) -> Chat:
    return Chat([Message(TEXT_ROLE, text_of(field_of(row, columns["text"]), columns["text"]), trained=True)])


READERS: dict[str, Callable[[Row, Mapping[str, str]], Chat]] = {
    "preference": _read_preference,
    "messages": partial(_read_turns, "messages"),
    "sharegpt": partial(_read_turns, "conversations"),
    "kto": _read_prompt_completion,
    "prompt-completion": _read_prompt_completion,
    "alpaca": _read_alpaca,
    "text": _read_text,
}
