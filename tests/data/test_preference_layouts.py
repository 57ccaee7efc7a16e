"""Preference data as it is published: which text is the prompt, which is learned, and which is only scored."""

import json

import pytest

from forgetfilter.data.chats import FieldError, Message
from forgetfilter.data.columns import FIELDS, find_layout
from forgetfilter.errors import InputError
from forgetfilter.settings.groups import LAYOUTS

SYSTEM, ASKED = Message("system", "S"), Message("user", "Q")
GOOD, BAD = (Message("assistant", text, trained=True) for text in ("A", "B"))


def user(text):
    return {"role": "user", "content": text}


def answer(text):
    return {"role": "assistant", "content": text}


def both(row, name="auto", columns=None):
    layout = find_layout(row, name, columns or {}, "data")
    chat = layout.chat(row)
    return list(chat.messages), chat.rejected


SAYS_THE_SAME = {
    "explicit strings": {"prompt": "Q", "chosen": "A", "rejected": "B"},
    "explicit messages": {"prompt": [user("Q")], "chosen": [answer("A")], "rejected": [answer("B")]},
    "implicit messages": {"chosen": [user("Q"), answer("A")], "rejected": [user("Q"), answer("B")]},
    "null prompt": {"prompt": None, "chosen": [user("Q"), answer("A")], "rejected": [user("Q"), answer("B")]},
    "prompt repeated": {"prompt": "Q ", "chosen": [user("Q"), answer("A")], "rejected": [user("Q"), answer("B")]},
    "UltraFeedback": {
        "prompt": "Q",
        "prompt_id": "x",
        "messages": [user("Q"), answer("A")],
        "chosen": [user("Q"), answer("A")],
        "rejected": [user("Q"), answer("B")],
        "score_chosen": 9.0,
    },
    "no prompt but messages": {
        "messages": [user("Q"), answer("A")],
        "chosen": [user("Q"), answer("A")],
        "rejected": [user("Q"), answer("B")],
    },
    "HH": {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    "HH with its prompt": {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": " A", "rejected": " B"},
    "HH with its prompt on both sides": {
        "prompt": "\n\nHuman: Q\n\nAssistant:",
        "chosen": "\n\nHuman: Q\n\nAssistant: A",
        "rejected": "\n\nHuman: Q\n\nAssistant: B",
    },
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "A"},
        "rejected": {"from": "gpt", "value": "B"},
    },
    "OpenAI messages": {"messages": [user("Q")], "chosen": answer("A"), "rejected": answer("B")},
    "Alpaca": {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"},
    "distilabel": {"input": "Q", "chosen": "A", "rejected": "B", "generations": ["A", "B"]},
    "OpenAI preferences": {
        "input": {"messages": [user("Q")], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [answer("A")],
        "non_preferred_output": [answer("B")],
    },
    "JSON in a table": {
        "prompt": json.dumps([user("Q")]),
        "chosen": json.dumps([answer("A")]),
        "rejected": json.dumps(answer("B")),
    },
}


@pytest.mark.parametrize("row", SAYS_THE_SAME.values(), ids=SAYS_THE_SAME)
def test_every_published_form_says_the_same(row):
    assert both(row) == ([ASKED, GOOD], [ASKED, BAD])


@pytest.mark.parametrize(
    "row",
    [
        {"system": "S", "question": "Q", "chosen": "A", "rejected": "B"},
        {"system": "S", "prompt": "Q", "chosen": [user("Q"), answer("A")], "rejected": [user("Q"), answer("B")]},
        {"system": "S", "chosen": [user("Q"), answer("A")], "rejected": [user("Q"), answer("B")]},
        {
            "question": "Q",
            "chosen": [{"role": "system", "content": "S"}, user("Q"), answer("A")],
            "rejected": [{"role": "system", "content": "S"}, user("Q"), answer("B")],
        },
        {"system": "S", "chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
        {
            "system": "S",
            "prompt": "\n\nHuman: Q\n\nAssistant:",
            "chosen": "\n\nHuman: Q\n\nAssistant: A",
            "rejected": "\n\nHuman: Q\n\nAssistant: B",
        },
    ],
)
def test_the_system_stands_before_both_sides(row):
    assert both(row) == ([SYSTEM, ASKED, GOOD], [SYSTEM, ASKED, BAD])


def test_of_texts_alone_the_words_that_both_begin_with_are_the_prompt():
    chosen, rejected = both({"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert chosen == [Message("user", "The sky is"), Message("assistant", "blue.", trained=True)]
    assert rejected == [Message("user", "The sky is"), Message("assistant", "black.", trained=True)]


@pytest.mark.parametrize(
    ("one", "other", "shared"), [("A b", "A b", "A"), ("A b", "A b c", "A"), ("Yes", "No", ""), ("A b ", "A b", "A")]
)
def test_something_of_each_text_is_left(one, other, shared):
    chosen, rejected = both({"chosen": one, "rejected": other})
    assert chosen[0].content == rejected[0].content == shared
    assert f"{shared} {chosen[1].content}".split() == one.split()
    assert f"{shared} {rejected[1].content}".split() == other.split()


def test_an_input_stands_below_its_instruction_and_history_before_it():
    row = {"instruction": "Add", "input": "1, 2", "history": [["Hi", "Hello"]], "chosen": "3", "rejected": "4"}
    chosen, rejected = both(row)
    assert [turn.content for turn in chosen] == ["Hi", "Hello", "Add\n\n1, 2", "3"]
    assert [turn.trained for turn in chosen] == [turn.trained for turn in rejected] == [False, False, False, True]


def test_turns_after_the_first_difference_are_the_answer():
    row = {
        "chosen": [user("Q"), answer("Hi"), user("R"), answer("A"), user("T"), answer("C")],
        "rejected": [user("Q"), answer("Hi"), user("R"), answer("B")],
    }
    chosen, rejected = both(row)
    assert [turn.trained for turn in chosen] == [False, False, False, True, False, True]
    assert [turn.trained for turn in rejected] == [False, False, False, True]


def test_of_sides_that_are_alike_the_last_answer_is_compared():
    same = [user("Q"), answer("Hi"), user("R"), answer("A")]
    chosen, rejected = both({"chosen": same, "rejected": same})
    assert chosen == rejected
    assert [turn.trained for turn in chosen] == [False, False, False, True]


def test_a_prompt_of_several_turns_goes_on():
    prompt = [user("Q"), answer("Hi"), user("R")]
    chosen, rejected = both({"prompt": prompt, "chosen": [answer("A")], "rejected": [*prompt, answer("B")]})
    assert [turn.content for turn in chosen] == ["Q", "Hi", "R", "A"]
    assert [turn.content for turn in rejected] == ["Q", "Hi", "R", "B"]
    assert [turn.trained for turn in chosen] == [False, False, False, True]


def test_an_answer_may_be_a_dialogue_that_was_asked_for():
    said = "Human: Hi\n\nAssistant: Hello"
    chosen, _ = both({"prompt": "Write a dialogue", "chosen": said, "rejected": "Human: No\n\nAssistant: No"})
    assert chosen == [Message("user", "Write a dialogue"), Message("assistant", said, trained=True)]


def test_a_speaker_who_says_nothing_is_text():
    chosen, rejected = both({"prompt": "Q", "chosen": "\n\nHuman: ", "rejected": "Human:"})
    assert [side[-1].content for side in (chosen, rejected)] == ["\n\nHuman: ", "Human:"]


def test_tools_come_along():
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    row = {"prompt": "Q", "chosen": "A", "rejected": "B", "tools": json.dumps([tool])}
    assert find_layout(row, "auto", {}, "data").chat(row).tools == [tool]
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}
    row = {
        "input": {"messages": [user("Q")], "tools": [tool]},
        "preferred_output": [call],
        "non_preferred_output": [answer("B")],
    }
    chat = find_layout(row, "auto", {}, "data").chat(row)
    assert chat.tools == [tool]
    assert chat.messages[-1].trained
    assert "look" in chat.completion


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Q", "chosen": "A", "rejected": None}, "rejected: found null, expected an answer"),
        ({"prompt": "Q", "chosen": None, "rejected": "B"}, "chosen: found null, expected an answer"),
        ({"prompt": "Q", "chosen": "A", "rejected": ""}, "rejected: found nothing, expected an answer"),
        ({"prompt": "Q", "chosen": "A", "rejected": float("nan")}, "rejected: found NaN"),
        ({"prompt": "Q", "chosen": "A", "rejected": " "}, "rejected: found only white space"),
        ({"prompt": "Q", "chosen": "A", "rejected": []}, "rejected: found no message of the assistant"),
        (
            {
                "chosen": [user("Q"), answer("Hi"), user("R"), answer("A")],
                "rejected": [user("Q"), answer("Hi"), user("R")],
            },
            "rejected: found no answer",
        ),
        ({"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant:"}, "rejected: found no"),
        ({"chosen": [user("Q"), answer("A")], "rejected": "B"}, "rejected: found text, expected messages"),
        ({"prompt": "Q", "chosen": "A", "rejected": [answer("B\ud800")]}, "rejected[0].content: found a lone"),
    ],
)
def test_a_side_that_cannot_be_used_is_described(row, said):
    with pytest.raises(FieldError) as error:
        both(row, "preference")
    assert str(error.value).startswith(said)


def test_which_of_two_columns_is_the_prompt_is_asked():
    row = {"question": "Q", "instruction": "R", "chosen": "A", "rejected": "B"}
    with pytest.raises(InputError, match="--columns prompt=instruction"):
        both(row)
    assert both(row, columns={"prompt": "question"})[0] == [ASKED, GOOD]


def test_columns_of_these_names_may_hold_no_answers():
    layout = find_layout({"prompt": "Q", "completion": "A", "chosen": True, "rejected": False}, "auto", {}, "data")
    assert layout.name == "prompt-completion"


def test_empty_columns_of_these_names_are_no_preferences():
    row = {"prompt": "Q", "completion": "A", "chosen": None, "rejected": None}
    assert find_layout(row, "auto", {}, "data").name == "prompt-completion"
    assert find_layout({"prompt": "Q", "chosen": None, "rejected": None}, "auto", {}, "data").name == "preference"


def test_columns_of_preferences_can_be_named():
    row = {"ask": "Q", "good": "A", "worse": "B"}
    assert both(row, columns={"prompt": "ask", "chosen": "good", "rejected": "worse"}) == ([ASKED, GOOD], [ASKED, BAD])


@pytest.mark.parametrize("label", [True, False, "True", "false"])
def test_kto_is_named_and_read_as_prompt_and_completion(label):
    layout = find_layout({"prompt": "Q", "completion": "A", "label": label}, "auto", {}, "data")
    assert layout.name == "kto"
    for later in (label, None, "x"):
        row = {"prompt": [user("Q")], "completion": [answer("A")], "label": later}
        assert list(layout.chat(row).messages) == [ASKED, GOOD]
    assert list(layout.chat({"prompt": "Q", "completion": "A"}).messages) == [ASKED, GOOD]


@pytest.mark.parametrize("label", ["unsafe", 1, None, 0.5])
def test_other_labels_are_no_kto(label):
    assert find_layout({"prompt": "Q", "completion": "A", "label": label}, "auto", {}, "data").name != "kto"
    assert find_layout({"prompt": "Q", "completion": "A", "label": label}, "kto", {}, "data").name == "kto"


def test_every_layout_can_be_named():
    assert set(LAYOUTS) == {"auto", *FIELDS}
