"""Every layout, and every way in which a row can be unusable."""

import math

import pytest

from forgetfilter.data.chats import FieldError, Message
from forgetfilter.data.columns import find_layout
from forgetfilter.errors import InputError

ASKED, ANSWERED = Message("user", "Q"), Message("assistant", "A", trained=True)


def read(row, name="auto", columns=None):
    return find_layout(row, name, columns or {}, "data").chat(row).messages


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "completion": "A"},
        {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]},
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Q"}]},
                {"role": "assistant", "content": "A"},
            ]
        },
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"instruction": "Q", "input": "", "output": "A"},
        {"instruction": "Q", "output": "A", "label": "unsafe"},
    ],
)
def test_layouts_are_found_and_say_the_same(row):
    assert read(row) == [ASKED, ANSWERED]


def test_plain_text_is_trained_on_as_a_whole():
    assert read({"text": "Some words"}) == [Message("text", "Some words", trained=True)]


def test_alpaca_puts_the_input_below_the_instruction():
    assert read({"instruction": "Add", "input": "1, 2", "output": "3"})[0].content == "Add\n\n1, 2"


def test_a_chat_trains_on_every_turn_of_the_assistant():
    turns = [("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "R"), ("assistant", "B")]
    said = read({"messages": [{"role": role, "content": content} for role, content in turns]})
    assert [m.trained for m in said] == [False, False, True, False, True]


def test_turns_in_the_prompt_are_context():
    prompt = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "R"}]
    said = read({"prompt": prompt, "completion": [{"role": "assistant", "content": "B"}]})
    assert [m.trained for m in said] == [False, False, False, True]


def called_by(call):
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "tool_calls": call}]
    return read({"messages": turns})[1].extra.get("tool_calls")


@pytest.mark.parametrize("name", ["arguments", "parameters", "input", "args"])
@pytest.mark.parametrize("beside", [{}, {"function": None}, {"arguments": None}])
def test_arguments_of_calls_have_several_names(name, beside):
    given = {"name": "look", **beside, name: {"place": "Rome"}}
    wanted = [{"type": "function", "function": {"name": "look", "arguments": {"place": "Rome"}}}]
    assert called_by([given]) == wanted
    if "function" not in beside:
        assert called_by([{"type": "function", "function": given}]) == wanted


@pytest.mark.parametrize("call", [{"function": "look", "arguments": {}}, {"function": ["look"]}, {"function": {}}])
def test_a_call_that_names_no_function_is_refused(call):
    with pytest.raises(FieldError, match="a call without a function's name"):
        called_by([call])


@pytest.mark.parametrize("missing", [math.nan, None, "", []])
def test_calls_that_are_not_there_are_none(missing):
    assert called_by(missing) is None


@pytest.mark.parametrize("depth", [150, 600, 20_000])
def test_what_is_nested_too_deep_is_refused(depth):
    arguments = 1
    for _ in range(depth):
        arguments = {"a": arguments} if depth % 200 else [arguments]
    with pytest.raises(FieldError, match="more than 100 deep"):
        called_by([{"name": "look", "arguments": arguments}])


def test_turns_of_both_kinds_that_one_table_holds():
    turns = [
        {"role": None, "content": None, "from": "human", "value": "Q"},
        {"role": "assistant", "content": "A", "from": None, "value": None},
    ]
    assert [(m.role, m.content) for m in read({"conversations": turns})] == [("user", "Q"), ("assistant", "A")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": "[{'role': 'user', 'content': 'Q'}, {'role': 'assistant', 'content': 'A'}]"},
        {"prompt": "Q", "completion": "[{'content': 'A', 'role': 'assistant'}]"},
        {"prompt": "[{'role': 'user', 'content': 'Q'}]", "completion": "A"},
        {"prompt": "Q", "chosen": "[{'role': 'assistant', 'content': 'A'}]", "rejected": "B"},
    ],
)
def test_messages_as_python_shows_them_are_no_text(row):
    with pytest.raises(FieldError, match="in single quotes, expected JSON"):
        read(row)


def test_a_system_message_may_come_after_the_first_row():
    layout = find_layout({"prompt": "Q", "completion": "A"}, "auto", {}, "data")
    assert layout.chat({"prompt": "Q", "completion": "A", "system_prompt": "S"}).messages[0] == Message("system", "S")


def test_columns_that_are_not_read_are_named():
    row = {"prompt": "Q", "completion": "A", "id": "1", "system": "S", "context": "C", "n": 0, "history": [], "x": None}
    assert find_layout(row, "auto", {}, "data").unread(row) == ["context", "n"]


def test_functions_are_tools():
    row = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    row["functions"] = [{"name": "look", "parameters": {}}]
    assert find_layout(row, "auto", {}, "data").chat(row).tools == row["functions"]


def test_an_object_of_lists_is_not_taken_for_messages():
    row = {"context": "C", "question": "Q", "answers": {"text": ["A"], "answer_start": [1]}}
    with pytest.raises(InputError) as error:
        find_layout(row, "auto", {}, "data")
    assert "messages=answers" not in str(error.value)


def test_a_weight_of_zero_is_context():
    turns = [
        {"role": "assistant", "content": "A", "weight": 0},
        {"role": "assistant", "content": "B", "weight": 1},
    ]
    assert [m.trained for m in read({"messages": turns})] == [False, True]


def test_columns_can_be_named():
    assert read({"q": "Q", "a": "A"}, columns={"prompt": "q", "completion": "a"}) == [ASKED, ANSWERED]


def test_a_named_layout_wins_over_the_first_that_fits():
    row = {"text": "T", "prompt": "Q", "completion": "A"}
    assert read(row, "text") == [Message("text", "T", trained=True)]


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        (
            {"ask": "Q", "said": "A"},
            {},
            "do not fit any known layout. The closest is prompt-completion: if these are its "
            "columns, pass --columns prompt=ask,completion=said",
        ),
        ({"my ask;$(x)": "Q"}, {}, "The closest is text: if these are its columns, pass --columns 'text=my ask;$(x)'"),
        ({"prompt": "Q", "completion": "A"}, {"prompt": "q"}, "no column 'q'"),
        ({"prompt": "Q", "completion": "A"}, {"reply": "completion"}, "'reply' is no field"),
        ({}, {}, "(none)"),
    ],
)
def test_an_unknown_layout_says_what_is_there(row, columns, said):
    with pytest.raises(InputError) as error:
        read(row, columns=columns)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        (None, "null"),
        (math.nan, "NaN"),
        (7, "the int 7"),
        (True, "the bool True"),
        ({"a": 1}, "an object"),
        ("", "nothing"),
        (" \n", "only white space"),
        ("a\0b", "a NUL character at position 1"),
        ("ab\ud800", "a lone surrogate (half a character) at position 2"),
        ([], "no message of the assistant"),
        ([{"role": "assistant", "content": None}], "null"),
        ([{"role": "robot", "content": "A"}], "the str 'robot'"),
        (["A"], "the str 'A'"),
        ([{"role": "assistant", "content": [{"type": "image_url"}]}], "a part of type 'image_url'"),
        (
            [{"role": "assistant", "content": "A", "weight": 0}],
            "no message of the assistant to learn, as each",
        ),
    ],
)
def test_an_unusable_completion_is_described(completion, found):
    with pytest.raises(FieldError) as error:
        read({"prompt": "Q", "completion": completion})
    assert found in error.value.found
    assert error.value.field.startswith("completion")


def test_a_missing_field_is_named():
    layout = find_layout({"prompt": "Q", "completion": "A"}, "auto", {}, "data")
    with pytest.raises(FieldError, match="completion: found no such field"):
        layout.chat({"prompt": "Q"})
