"""Masks worked by hand: what each peculiar template leaves of an answer, and what is learned of it."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import jinja2
import pytest

from forgetfilter.errors import ModelError
from support.template_chats import AWKWARD, CHATS, awkward, call, message, result, tool
from support.template_kinds import KINDS, bytes_of, composed, ended, greedy, pieces, source, trained
from support.template_law import faults
from support.template_masks import encoded, masked, shown, spans, unshown


def said(*turns: str, system: str = "") -> dict[str, Any]:
    """A row whose turns are the user's and the assistant's, one after the other."""
    roles = [message(("user", "assistant")[i % 2], text) for i, text in enumerate(turns)]
    return {"messages": [message("system", system), *roles] if system else roles}


THOUGHT = "<think>\nplan long enough to reach over\n</think>\n\nOk."
MORE = "<think>\nmore\n</think>\n\nDone."
TWO_TURNS = said("One?", "Ok.", "Two?", "Done.")
TWO_THOUGHTS = said("One?", THOUGHT, "Two?", MORE)
EARLIER_THOUGHT = said("One?", THOUGHT, "USERTWO asks a longer follow up question?")

# Templates in whose mask nothing stands but the answers and their ends: two turns, "Ok." and "Done.".
PLAIN_TURNS = {
    "llama2": ["Ok. </s>", "Done. </s>"],
    "llama3": ["Ok.<|eot_id|>", "Done.<|eot_id|>"],
    "llama31": ["Ok.<|eot_id|>", "Done.<|eot_id|>"],
    "llama4": ["Ok.<|eot|>", "Done.<|eot|>"],
    "mistral_v1": ["Ok.</s>", "Done.</s>"],
    "mistral_v3": ["Ok.</s>", "Done.</s>"],
    "mistral_tekken": ["Ok.</s>", "Done.</s>"],
    "zephyr": ["Ok.</s>", "Done.</s>"],
    "vicuna": ["Ok.</s>", "Done.</s>"],
    "alpaca": ["Ok.</s>", "Done.</s>"],
    "gemma": ["Ok.<end_of_turn>", "Done.<end_of_turn>"],
    "gemma3": ["Ok.<end_of_turn>", "Done.<end_of_turn>"],
    "qwen25": ["Ok.<|im_end|>", "Done.<|im_end|>"],
    "deepseek_v3": ["Ok.<｜end▁of▁sentence｜>", "Done.<｜end▁of▁sentence｜>"],
    # The last answer ends the text, an earlier one its turn.
    "gpt_oss": ["Ok.<|end|>", "Done.<|return|>"],
    # The end of text behind the last answer's end of turn belongs to none.
    "phi3": ["Ok.<|end|>", "Done.<|end|>"],
    "phi4": ["Ok.<|im_end|>", "Done.<|im_end|>"],
    "phi4_mini": ["Ok.<|end|>", "Done.<|end|>"],
    "command_r": ["Ok.<|END_OF_TURN_TOKEN|>", "Done.<|END_OF_TURN_TOKEN|>"],
    # The next message's header is what ends an answer.
    "glm4": ["Ok.", "Done."],
    "nemotron": ["Ok.", "Done."],
    "baichuan": ["Ok.", "Done."],
    "chatglm2": ["Ok.", "Done."],
    "granite3": ["Ok.<|end_of_text|>", "Done.<|end_of_text|>"],
    "chatml_generation": ["Ok.<|im_end|>", "Done.<|im_end|>"],
    # Marks around too much, or around the wrong messages, make no mask.
    "chatml_generation_header": ["Ok.<|im_end|>", "Done.<|im_end|>"],
    "chatml_generation_wrong": ["Ok.<|im_end|>", "Done.<|im_end|>"],
    "olmo2": ["Ok.<|endoftext|>", "Done.<|endoftext|>"],
    "falcon3": ["Ok.<|endoftext|>", "Done.<|endoftext|>"],
    "minimax": ["Ok.[e~[", "Done.[e~["],
    "kimi_k2": ["Ok.<|im_end|>", "Done.<|im_end|>"],
    "exaone": ["Ok.[|endofturn|]", "Done.[|endofturn|]"],
    # Only one of the answers has an end: then none is learned.
    "end_only_last": ["Ok.", "Done."],
    "end_not_last": ["Ok.", "Done."],
    "counts_messages": ["Ok.<|end|>", "Done.<|end|>"],
    "reminder": ["Ok.<|end|>", "Done.<|end|>"],
    "repeats_question": ["Ok.<|end|>", "Done.<|end|>"],
    "answers_as_user": ["Ok.<|end|>", "Done.<|end|>"],
    # The template's own words before and after an answer are not the answer's.
    "opens_with_words": ["Ok.<|end|>", "Done.<|end|>"],
    "closes_with_words": ["Ok.", "Done."],
    "json_content": ["Ok.", "Done."],
    "html_escape": ["Ok.", "Done."],
    "indents": ["Ok.", "Done."],
    "titled": ["Ok.<|end|>", "Done.<|end|>"],
    "always_asks": ["Ok.<|end|>", "Done.<|end|>"],
    "refuses_beginnings": ["Ok.<|end|>", "Done.<|end|>"],
    "pairs": ["Ok.</s>", "Done.</s>"],
    "reply_to": ["Ok.<|end|>", "Done.<|end|>"],
    "ends_by_next": ["Ok.<|next_user|>", "Done.<|next_nobody|>"],
    "first_turn_bare": ["Ok.", "Done."],
    "no_separator": ["Ok.", "Done."],
}


# The same where a question follows: nothing but what is listed changes.
ASKED_ON = {
    "gpt_oss": ["Ok.<|end|>", "Done.<|end|>"],
    "end_not_last": ["Ok.<|im_end|>", "Done.<|im_end|>"],
    "ends_by_next": ["Ok.<|next_user|>", "Done.<|next_user|>"],
}
# Marks that leave the end out may be followed, and an end that not every answer has may be left out everywhere.
OPEN = ("chatml_generation_wrong", "end_not_last")


def stripped(texts: list[str] | None) -> list[str]:
    """Spans without the blanks around them, which may be learned or not."""
    assert texts is not None
    return [text.strip() for text in texts]


@pytest.mark.parametrize("name", PLAIN_TURNS)
def test_two_turns(name):
    found = stripped(masked(TWO_TURNS, bytes_of(name)))
    assert found == PLAIN_TURNS[name] or (name in OPEN and found == ["Ok.", "Done."])


@pytest.mark.parametrize("name", PLAIN_TURNS)
def test_a_question_at_the_end_is_nobodys_answer(name):
    row = {"messages": [*TWO_TURNS["messages"], message("user", "So?")]}
    found = stripped(masked(row, bytes_of(name)))
    assert found == ASKED_ON.get(name, PLAIN_TURNS[name]) or (name in OPEN and found == ["Ok.", "Done."])


# What is left of an earlier answer's reasoning, and of the last one's.
THOUGHTS = {
    "llama3": [f"{THOUGHT}<|eot_id|>", f"{MORE}<|eot_id|>"],
    "qwen3": ["Ok.<|im_end|>", f"{MORE}<|im_end|>"],
    "qwen35": ["Ok.<|im_end|>", f"{MORE}<|im_end|>"],
    "qwq": ["Ok.<|im_end|>", f"{MORE}<|im_end|>"],
    "lfm2": ["Ok.<|im_end|>", f"{MORE}<|im_end|>"],
    "minimax": ["Ok.[e~[", f"{MORE}[e~["],
    "deepseek_r1": ["\n\nOk.<｜end▁of▁sentence｜>", "\n\nDone.<｜end▁of▁sentence｜>"],
    "deepseek_v31": ["\n\nOk.<｜end▁of▁sentence｜>", "\n\nDone.<｜end▁of▁sentence｜>"],
    "glm45": ["Ok.", "<think>more</think>\nDone."],
    "strips_at_thinking_tag": ["Ok.\n<SPECIAL_11>", "Done.\n<SPECIAL_11>"],
    "smollm3": [f"{THOUGHT}<|im_end|>", f"{MORE}<|im_end|>"],
}


def _bare(texts: list[str] | None) -> list[str]:
    assert texts is not None
    return [re.sub(r"^(?:\s|</?think>)*", "", text).rstrip() for text in texts]


@pytest.mark.parametrize("name", THOUGHTS)
def test_an_earlier_answer_is_what_the_template_leaves_of_it(name):
    assert _bare(masked(TWO_THOUGHTS, bytes_of(name))) == _bare(THOUGHTS[name])


@pytest.mark.parametrize("name", THOUGHTS)
def test_it_does_not_reach_into_a_question_at_the_end(name):
    # LFM2 asks which answer is the last, not which question.
    left = f"{THOUGHT}<|im_end|>" if name == "lfm2" else THOUGHTS[name][0]
    assert _bare(masked(EARLIER_THOUGHT, bytes_of(name))) == _bare([left])


def test_reasoning_of_its_own_field_is_learned_where_it_is_shown():
    for key in ("reasoning_content", "thinking", "reasoning"):
        row = {"messages": [message("user", "q"), message("assistant", "a", **{key: "HIDDEN"})]}
        assert _bare(masked(row, bytes_of("qwen3"))) == ["HIDDEN\n</think>\n\na<|im_end|>"]
        assert _bare(masked(row, bytes_of("glm45"))) == ["HIDDEN</think>\na"]
        assert masked(row, bytes_of("gpt_oss")) == [
            "HIDDEN<|end|><|start|>assistant<|channel|>final<|message|>a<|return|>"
        ]
        magistral = masked(row, bytes_of("magistral"))
        assert magistral is not None
        assert [text.removeprefix("[THINK]") for text in magistral] == ["HIDDEN[/THINK]a</s>"]


def test_earlier_analysis_is_dropped_and_the_answer_behind_it_stands():
    thinking = [message("assistant", text, thinking=f"about {text}") for text in ("Ok.", "Done.")]
    row = {"messages": [message("user", "One?"), thinking[0], message("user", "Two?"), thinking[1]]}
    assert masked(row, bytes_of("gpt_oss")) == [
        "Ok.<|end|>",
        "about Done.<|end|><|start|>assistant<|channel|>final<|message|>Done.<|return|>",
    ]


@pytest.mark.parametrize("name", ["mistral_v3", "mistral_tekken"])
def test_a_system_message_that_moves_into_the_last_question(name):
    tokenizer = bytes_of(name)
    for question, reply in (("Is it a or b?", "a"), ("Pick one, yes or no: may we paint the shed this week?", "no")):
        assert stripped(masked(said(question, reply, system="Be kind."), tokenizer)) == [f"{reply}</s>"]
    # Where a question comes last, the system message is shown behind all answers.
    row = said("Is it a or b?", "a", "Be kind. a?", "b", "a?", system="Be kind. a b")
    found = spans(row, tokenizer)
    assert found is not None
    assert stripped([span.text for span in found]) == ["a</s>", "b</s>"]
    assert [span.before.rstrip().endswith("[/INST]") for span in found] == [True, True]
    assert not any("kind. a b" in span.before for span in found)


def test_a_system_message_that_is_part_of_the_first_question():
    (span,) = spans(said("Is it a?", "a", system="Say a."), bytes_of("gemma3")) or [None]
    assert span == (
        "a<end_of_turn>",
        "<bos><start_of_turn>user\nSay a.\n\nIs it a?<end_of_turn>\n<start_of_turn>model\n",
    )


def test_a_system_message_that_is_refused_makes_a_bad_row():
    assert masked(said("q", "a", system="Be kind."), bytes_of("gemma")) is None
    assert masked(said("q", "a"), bytes_of("gemma")) == ["a<end_of_turn>"]


def test_a_system_message_that_is_shown_last():
    assert masked(said("q", "a", system="a"), bytes_of("system_last")) == ["a<|end|>"]


def words_of(name: str, *turns: str) -> list[str] | None:
    """The spans of a chat without their ends, or None where it is refused."""
    found = masked(said(*turns), bytes_of(name))
    return None if found is None else [text.strip().removesuffix("<|end|>") for text in found]


def test_an_answer_that_is_not_shown_as_it_is_makes_a_bad_row_or_is_followed():
    assert words_of("upper_case", "q", "Say it.") in (None, ["SAY IT."])
    assert words_of("upper_case", "q", "123!") == ["123!"]
    assert words_of("collapses_blanks", "q", "one  two") in (None, ["one two"])
    assert words_of("collapses_blanks", "q", "one two") == ["one two"]
    assert words_of("backwards", "q", "abc") in (None, ["cba"])
    assert words_of("json_content", "q", "a\nb") in (None, ["a\\nb"])
    assert words_of("json_dump", "q", "a", "a", "user") in (None, ["a", "user"])
    assert words_of("html_escape", "q", "it's") in (None, ["it&#39;s"])
    assert words_of("truncates", "q", "word " * 9) in (
        None,
        ["word word word word word…"],
        ["word word word word word"],
    )


def test_what_a_template_adds_or_takes_for_what_an_answer_says_is_not_learned():
    assert words_of("notes_agreement", "q", "yes") in (None, ["yes"])
    assert words_of("notes_agreement", "q", "no") == ["no"]
    assert words_of("removes_its_tags", "q", "yes<|end|>") in (None, ["yes"])
    assert words_of("removes_its_tags", "q", "yes") == ["yes"]
    assert words_of("titled", "a b c", "a", "b", "a b c") == ["a", "a b c"]
    assert words_of("reply_to", "a", "a", "b a", "b a") == ["a", "b a"]


def test_an_answer_of_which_a_part_is_changed():
    assert words_of("capital_letter", "q", "Ok.", "q", "Done.") == ["Ok.", "Done."]
    assert words_of("capital_letter", "q", "ok.") in (None, ["Ok."])
    assert words_of("capital_letter", "a", "a") in (None, ["A"])
    assert words_of("removes_stars", "q", "Ok. *Done.*") == ["Ok. *Done.*"]
    assert words_of("removes_stars", "q", "**Ok.** Done.") in (None, ["Ok. Done."])
    assert words_of("renames_role", "q", "a model") == ["a model"]
    assert words_of("renames_role", "q", "assistant", "assistant", "the assistant.") in (None, ["model", "the model."])
    assert words_of("wraps_words", "q", "one two") == ["one two"]
    wrapped = f"{'twelve chars ' * 4}twelve\nchars{' twelve chars' * 4}\ntwelve chars"
    assert words_of("wraps_words", "q", "twelve chars " * 10) in (None, [wrapped])
    assert words_of("numbers_lines", "q", "Ok.", "q", "1") == ["Ok.", "1"]
    assert words_of("labelled", "q", "Ok. Ok.", "q", "a") in (None, ["Ok. Ok.", "a"])


def test_an_answer_that_is_not_shown_is_not_found_in_other_words():
    assert words_of("drops_repeats", "yes", "yes") in (None, [])
    assert words_of("drops_repeats", "q", "yes", "yes", "no") in (None, ["yes", "no"])
    assert words_of("drops_repeats", "q", "a", "b", "b") in (None, ["a"])
    assert words_of("only_final_answer", "q", "left", "q", "out") in (None, ["out"])
    assert words_of("only_final_answer", "q", "(left out)", "q", "b") in (None, ["b"])
    assert words_of("only_final_answer", "q", "b") == ["b"]
    assert words_of("last_two", "a", "a", "a", "b") in (None, ["b"])
    assert words_of("parts_only", "Assistant", "Assistant") in (None, ["Assistant"])
    cut = ["word word word word over", "word word word word over…"]
    found = words_of("truncates", "q", "word " * 4 + "over the edge", "edge", "edge")
    assert found in (None, ["edge"], *([first, "edge"] for first in cut))


def test_an_answer_that_is_not_shown_makes_a_bad_row_or_no_span():
    assert words_of("last_two", "One?", "Ok.", "Two?", "Done.") in (None, ["Done."])
    assert words_of("last_two", "One?", "Ok.", "Two?") in (None, ["Ok."])


@pytest.mark.parametrize("name", ["twice", "tells_answer_first", "quotes_answer", "other_order", "answers_first"])
@pytest.mark.parametrize("turns", [("Yes?", "Yes"), ("q", "a", "b?", "b"), ("q", "a", "a")])
def test_where_it_cannot_be_told_the_row_is_bad_or_the_words_are_the_answers(name, turns):
    found = words_of(name, *turns)
    assert found is None or sorted(found) == sorted(turns[1::2])


def test_answers_within_answers_tags_of_the_template():
    """Hunyuan shows an earlier answer without the tags that it was given with."""
    first, last = "<think>x</think><answer>Ok.</answer>", "<think>y</think><answer>Done.</answer>"
    end = "<｜hy_place▁holder▁no▁2｜>"
    assert masked(said("One?", first, "Two?", last), bytes_of("hunyuan")) == [f"Ok.{end}", f"{last}{end}"]


def test_two_answers_that_become_one_turn():
    row = {"messages": [message("user", "q"), message("assistant", "One."), message("assistant", "Two.")]}
    assert stripped(masked(row, bytes_of("merges_turns"))) == ["One.", "Two."]


def test_a_turn_without_weight_is_context():
    turns = [message("user", "a"), message("assistant", "a", weight=0), message("user", "a"), message("assistant", "a")]
    (span,) = spans({"messages": turns}, bytes_of("qwen25")) or [None]
    assert span is not None
    assert span.text == "a<|im_end|>"
    assert span.before.count("<|im_start|>") == 5


ASKED = message("user", "weather?")
CALL = {"id": "callid001", "type": "function", "function": {"name": "delete_everything", "arguments": {"all": "yes"}}}
# How a call is shown, up to the function's name and behind it.
CALLED = {
    "llama31": ('{"name": "', '", "parameters": {"all": "yes"}}<|eot_id|>'),
    "mistral_v3": ('[TOOL_CALLS] [{"name": "', '", "arguments": {"all": "yes"}, "id": "callid001"}]</s>'),
    "magistral": ("[TOOL_CALLS]", '[ARGS]{"all": "yes"}</s>'),
    "qwen25": ('<tool_call>\n{"name": "', '", "arguments": {"all": "yes"}}\n</tool_call><|im_end|>'),
    "qwen3": ('<tool_call>\n{"name": "', '", "arguments": {"all": "yes"}}\n</tool_call><|im_end|>'),
    "qwen35": (
        "<tool_call>\n<function=",
        ">\n<parameter=all>\nyes\n</parameter>\n</function>\n</tool_call><|im_end|>",
    ),
    "hermes": ('<tool_call>\n{"arguments": {"all": "yes"}, "name": "', '"}\n</tool_call><|im_end|>'),
    "granite3": ('<|tool_call|>[{"name": "', '", "arguments": {"all": "yes"}}]<|end_of_text|>'),
    "gpt_oss": ("to=functions.", '<|channel|>commentary json<|message|>{"all": "yes"}<|call|>'),
    "glm4": ("", '\n{"all": "yes"}'),
    "glm45": ("<tool_call>", "\n<arg_key>all</arg_key>\n<arg_value>yes</arg_value>\n</tool_call>"),
    "deepseek_v31": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
        '<｜tool▁sep｜>{"all": "yes"}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
    ),
    "phi4_mini": ('<|tool_call|>[{"name": "', '", "arguments": {"all": "yes"}}]<|/tool_call|><|end|>'),
    "minimax": (
        '<minimax:tool_call>\n<invoke name="',
        '"><parameter name="all">yes</parameter></invoke>\n</minimax:tool_call>[e~[',
    ),
    "seed_oss": (
        "<seed:tool_call>\n<function=",
        ">\n<parameter=all>yes</parameter>\n</function>\n</seed:tool_call><seed:eos>",
    ),
}


@pytest.mark.parametrize("name", CALLED)
@pytest.mark.parametrize("tools", [{}, {"tools": [tool("one")]}])
def test_a_call_is_learned_as_the_template_shows_it(name, tools):
    """Its name and arguments and its end are learned; what opens it may be; the header of the turn is not."""
    row = {"messages": [ASKED, message("assistant", None, tool_calls=[CALL])], **tools}
    (found,) = _bare(masked(row, bytes_of(name)))
    opening, closing = CALLED[name]
    own = "arguments" if "arguments" in opening else "delete_everything"
    assert f"{opening}delete_everything{closing}".endswith(found)
    assert own in found


ARGUMENTS = [
    {},
    {"n": 3},
    {"all": True, "x": -1.5e9},
    {"a": [1, {"b": "c", "d": []}]},
    {"q": 'say "hi"\n{}'},
]


@pytest.mark.parametrize("name", [name for name in CALLED if name not in ("hermes", "phi4_mini", "seed_oss")])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_a_call_is_learned_to_its_end_whatever_its_arguments(name, arguments):
    """All that the template shows behind the function's name, up to the end of the chat, is the answer's."""
    function = {"name": "delete_everything", "arguments": arguments}
    turns = [ASKED, message("assistant", None, tool_calls=[CALL | {"function": function}])]
    text = shown(bytes_of(name), turns)
    assert text is not None
    (found,) = _bare(masked({"messages": turns}, bytes_of(name)))
    assert found[found.index("delete_everything") :] == text[text.index("delete_everything") :].rstrip()


def test_a_text_and_a_call_are_one_answer():
    text_call = CALL | {"function": {"name": "delete_everything", "arguments": "{}"}}
    turns = [
        ASKED,
        message("assistant", "I look.", tool_calls=[text_call]),
        message("tool", "sunny", tool_call_id="callid001"),
        message("assistant", "It is sunny.", reasoning_content="HIDDEN"),
    ]
    first, last = masked({"messages": turns}, bytes_of("qwen3")) or ["", ""]
    shape = 'I look.\n<tool_call>\n{"name": "delete_everything", "arguments": %s}\n</tool_call><|im_end|>'
    assert _bare([first])[0] in (shape % "{}", shape % '"{}"')
    assert _bare([last]) == ["HIDDEN\n</think>\n\nIt is sunny.<|im_end|>"]


@pytest.mark.parametrize("name", ["qwen25", "qwen3", "mistral_v3", "gpt_oss", "granite3", "glm45", "llama31"])
def test_a_tools_result_is_no_answer_though_it_says_the_same(name):
    turns = [
        message("user", "yes"),
        message("assistant", None, tool_calls=[call("one")]),
        result("one") | {"content": "yes"},
        message("assistant", "yes"),
    ]
    found = spans({"messages": turns, "tools": [tool("one")]}, bytes_of(name))
    assert found is not None
    assert len(found) == 2
    assert _bare([found[1].text])[0].removesuffix((KINDS[name].ends or ("",))[-1]).rstrip() == "yes"
    assert found[1].before.count("yes") == (shown(bytes_of(name), turns, [tool("one")]) or "").count("yes") - 1


def test_what_stands_beside_the_turns_is_shown_to_the_model():
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    (span,) = spans({"conversations": turns, "system": "SYSTEM COLUMN TEXT"}, bytes_of("qwen25")) or [None]
    assert span is not None
    assert span.text == "a<|im_end|>"
    assert "SYSTEM COLUMN TEXT" in span.before
    row = {"instruction": "now?", "input": "", "output": "a", "system": "SYSTEMTEXT", "history": [["HISTQ", "HISTA"]]}
    found = spans(row, bytes_of("qwen25"))
    assert found is not None
    assert found[-1].text == "a<|im_end|>"
    order = [found[-1].before.find(text) for text in ("SYSTEMTEXT", "HISTQ", "HISTA", "now?")]
    assert -1 not in order
    assert order == sorted(order)
    tools = {"messages": [message("user", "q"), message("assistant", "a")], "tools": [tool("one")]}
    (span,) = spans(tools, bytes_of("qwen25")) or [None]
    assert span is not None
    assert "lookup_one" in span.before
    assert span.text == "a<|im_end|>"


# Plain rows: prompt, new line, completion, end of text.


@pytest.mark.parametrize("kind", CHATS)
@pytest.mark.parametrize("maker", [bytes_of, ended])
def test_plain_rows_hold_the_same_law(kind, maker):
    tokenizer, chat = maker("qwen15"), CHATS[kind]
    found = masked(chat.row, tokenizer, "plain")
    answers = [chat.messages[i] for i in chat.trained]
    if any("tool_calls" in answer for answer in answers):
        # There is no form for a call in plain text.
        return
    assert found is not None
    assert len(found) == len(answers)
    ends = [text.endswith("<|im_end|>") for text in found]
    # A text has one end, wherever its answers are.
    assert ends == [False] * (len(answers) - 1) + [chat.trained[-1] == len(chat.messages) - 1]
    if chat.messages[0]["role"] == "assistant":
        found, answers = found[1:], answers[1:]
    for text, answer in zip(found, answers, strict=True):
        assert text.removesuffix("<|im_end|>").strip().endswith(answer["content"].strip())


@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_answers_in_plain_rows(kind):
    tokenizer = ended("qwen15")
    found = masked({"messages": awkward(kind, with_system=True)}, tokenizer, "plain")
    assert found is not None
    for answer, text in zip(AWKWARD[kind], found, strict=True):
        assert text in (answer, f"{answer}<|im_end|>")


@pytest.mark.parametrize("row", [{"prompt": "q", "completion": "a"}, {"text": "one two three four five"}])
@pytest.mark.parametrize("maker", [bytes_of, ended])
def test_the_end_of_text_comes_once_and_has_no_text(row, maker):
    tokenizer = maker("qwen15")
    tokens = encoded(row, tokenizer, "plain")
    assert tokens is not None
    ids = tokens.input_ids.tolist()
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    assert tokens.spans[-1][1] == len(ids)
    text = row.get("completion") or row["text"]
    assert tokens.pieces[-1] == ""
    # Nothing stands before a text's first token, unless the tokenizer puts its beginning there.
    assert text.endswith("".join(tokens.pieces))
    assert len("".join(tokens.pieces)) >= len(text) - 1


def test_text_that_looks_like_an_end_is_text():
    """An end of text that a row's own words hold is one more; the row's end comes all the same."""
    tokenizer = ended("qwen15")
    tokens = encoded({"prompt": "q", "completion": "a<|im_end|>"}, tokenizer, "plain")
    if tokens is not None:
        assert tokenizer.decode(tokens.input_ids[slice(*tokens.spans[0])]).startswith("a<|im_end|>")


def test_the_pieces_of_a_chat_are_the_mask():
    """Each token's own text, one after the other, is what is learned, whatever the tokenizer's tokens are."""
    texts = [text for kind in CHATS.values() for text in (m["content"] or "" for m in kind.messages)]
    for maker in (bytes_of, ended, trained(texts), pieces(texts)):
        for kind in ("three_turns", "lines", "padded", "system_within"):
            tokenizer, chat = maker("qwen25"), CHATS[kind]
            tokens = encoded(chat.row, tokenizer)
            assert tokens is not None
            learned, cursor = [], 0
            for start, end in tokens.spans:
                learned.append("".join(tokens.pieces[cursor : cursor + end - start]))
                cursor += end - start
            assert cursor == len(tokens.pieces)
            for text, i in zip(learned, chat.trained, strict=True):
                assert text.endswith("<|im_end|>")
                assert text.removesuffix("<|im_end|>").strip() == chat.messages[i]["content"].strip()


@pytest.mark.parametrize("name", ["phi3", "qwen25", "qwen3", "zephyr", "glm45", "gemma"])
@pytest.mark.parametrize("kind", ["one_turn", "three_turns", "padded", "lines"])
def test_a_header_that_swallows_the_blanks_behind_it_is_no_answer(name, kind):
    """Some tokens (as Phi's) take the blanks that follow them, even those that an answer begins with."""
    assert not faults(name, greedy(name), CHATS[kind], loose=True)


def test_a_header_that_swallows_an_answers_own_blanks_is_not_learned():
    for reply in ("  yes", "\n\nyes", "yes  "):
        assert stripped(masked(said("q", reply), greedy("phi3"))) in (["yes<|end|>"], ["yes  <|end|>"])


def test_a_tokenizer_that_changes_characters_keeps_their_places():
    tokenizer = composed("qwen25")
    for question, reply in (
        ("e\u0301?", "cafe\u0301 n\u0303o"),
        ("cafe\u0301" * 9, "e\u0301"),
        ("a", "\u1112\u1161\u11ab"),
    ):
        composed_reply = unicodedata.normalize("NFC", reply)
        assert masked(said(question, reply), tokenizer) == [f"{composed_reply}<|im_end|>"]


def test_a_template_of_several_is_the_one_that_transformers_takes():
    tokenizer = composed("hermes")
    tokenizer.chat_template = {"default": source("chatml_default"), "tool_use": source("hermes")}
    assert masked(said("q", "a"), tokenizer) == ["a<|im_end|>"]
    turns = [ASKED, message("assistant", None, tool_calls=[CALL]), result("one"), message("assistant", "Done.")]
    found = masked({"messages": turns, "tools": [tool("one")]}, tokenizer)
    assert found is not None
    assert "delete_everything" in found[0]
    assert found[1] == "Done.<|im_end|>"


@pytest.mark.parametrize(
    "template",
    [
        "{% for %}",
        "{{ messages[7]['content'] }}",
        "{{ messages.__class__.__mro__ }}",
        "{% for i in range(10 ** 9) %}{{ i }}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ nothing.at.all }}",
        "{% include 'other' %}",
        "{{ raise_exception() }}",
        "",
        "   ",
        "{{ bos_token }}",
        "{{ messages | length }}",
    ],
)
def test_a_template_that_fails_or_shows_nothing_makes_no_mask(template):
    tokenizer = composed("qwen25")
    tokenizer.chat_template = template
    try:
        found = masked(said("q", "a", "b", "c"), tokenizer)
    except ModelError:
        return
    assert not found


@pytest.mark.parametrize("name", ["qwen25", "qwen3", "gpt_oss", "mistral_v3", "llama31", "glm45", "deepseek_v31"])
def test_a_long_chat_is_rendered_no_oftener_than_a_short_one(name, monkeypatch):
    rendered: list[int] = []
    for method in ("render", "generate"):
        whole = getattr(jinja2.Template, method)

        def counted(self, *args, whole=whole, **kwargs):
            rendered.append(len(kwargs.get("messages", ())))
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(jinja2.Template, method, counted)
    counts, sizes = [], []
    for turns in (300, 1200) if name == "qwen25" else (60, 240):
        row = said(*(("q", "a", "b")[i % 3] for i in range(turns)))
        found = masked(row, bytes_of(name))
        assert found is not None
        assert len(found) == turns // 2
        counts.append(len(rendered))
        sizes.append(sum(rendered))
        rendered.clear()
    assert counts[1] <= counts[0]
    assert sizes[1] <= 4.5 * sizes[0]


@pytest.mark.parametrize("text", ["\U000f0000\U000f0001", "\U000f0001x\U000f0000", "a \U000f0001", "\U000f0002 b"])
def test_letters_may_be_those_that_mark(text):
    """Fonts with icons use them."""
    assert masked(said(text, text), bytes_of("qwen25")) == [f"{text}<|im_end|>"]


def test_what_a_template_knows_nothing_of_is_named():
    answer = message("assistant", "A", notes="N", reasoning=["R"], id="", flags=[], n=3)
    assert unshown({"messages": [ASKED, answer]}, bytes_of("qwen25")) == ("notes", "reasoning")


def test_an_answer_that_is_shown_in_part_is_named():
    cut = "{% for m in messages %}{{ m.role }}: {{ m.content[:4] }}<|end|>{% endfor %}"
    tokenizer = composed("qwen25")
    tokenizer.chat_template = cut
    assert unshown(said("Ask", "Answer"), tokenizer) == ("all of assistant messages",)
    assert unshown(said("Ask", "Answ"), tokenizer) == ()
