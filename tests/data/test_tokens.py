"""Rendering, masks and truncation, with a byte tokenizer so that every token is one byte."""

import numpy as np
import pytest

from forgetfilter.data.chats import Chat, Message
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.errors import InputError, ModelError
from support.tiny_models import make_tokenizer

ASKED = [Message("user", "Hi?"), Message("assistant", "Yes.", trained=True)]


def encode(messages, tokenizer, template="auto", max_length=512, max_completion=None):
    (tokens,) = Encoder(tokenizer, template, max_length, max_completion).encode([("x", 0, Chat(messages))])
    return tokens


def test_completion_and_its_end_are_trained_on(tokenizer):
    tokens = encode(ASKED, tokenizer)
    assert tokens.pieces == ("Y", "e", "s", ".", "<|end|>")
    assert tokenizer.decode(tokens.input_ids) == "<|user|>Hi?<|end|>\n<|assistant|>Yes.<|end|>"
    assert tokens.prompt_ends == (tokens.spans[0][0],)


def test_every_turn_of_the_assistant_is_trained_on(tokenizer):
    messages = [Message("system", "S"), *ASKED, Message("user", "So?"), Message("assistant", "No", trained=True)]
    tokens = encode([*messages, Message("user", "Bye")], tokenizer)
    assert "".join(tokens.pieces) == "Yes.<|end|>No<|end|>"
    assert len(tokens.spans) == 2
    assert tokens.mask.sum() == len(tokens.pieces) == 8
    assert tokenizer.decode(tokens.input_ids).endswith("No<|end|>")


def test_plain_template_ends_with_the_end_of_text():
    plain = make_tokenizer(chat=False)
    tokens = encode(ASKED, plain)
    assert plain.decode(tokens.input_ids) == "Hi?\nYes.<|end|>"
    assert tokens.pieces == ("Y", "e", "s", ".", "")


def test_text_is_scored_whole_but_answered_from_its_third_word(tokenizer):
    tokens = encode([Message("text", "One two three four", trained=True)], tokenizer)
    assert tokens.spans == ((1, 19),)  # nothing stands before the first token, so it cannot be predicted
    assert tokenizer.decode(tokens.input_ids[: tokens.prompt_ends[0]]) == "One two three"


def test_short_text_leaves_something_to_answer(tokenizer):
    tokens = encode([Message("text", "One two", trained=True)], tokenizer)
    assert 1 <= tokens.prompt_ends[0] < tokens.spans[0][1]


def test_truncation_cuts_the_end_and_is_told(tokenizer):
    whole = encode(ASKED, tokenizer)
    cut = encode(ASKED, tokenizer, max_length=len(whole.input_ids) - 2)
    assert cut.pieces == ("Y", "e", "s")
    assert (whole.truncated, cut.truncated) == (False, True)


def test_a_completion_cut_away_is_not_scorable(tokenizer):
    tokens = encode(ASKED, tokenizer, max_length=4)
    assert not tokens.scorable
    assert tokens.truncated


def test_the_head_of_each_answer_alone(tokenizer):
    tokens = encode([*ASKED, *ASKED], tokenizer, max_completion=2)
    assert tokens.pieces == ("Y", "e", "Y", "e")
    # The length limit cut nothing off.
    assert not tokens.truncated
    assert tokenizer.decode(tokens.input_ids).count("Yes.<|end|>") == 1


def test_a_row_of_five_megabytes_is_truncated(tokenizer):
    tokens = encode([Message("user", "Hi"), Message("assistant", "word " * 1_000_000, trained=True)], tokenizer)
    assert len(tokens.input_ids) == 512
    assert tokens.truncated


def test_characters_of_several_bytes_keep_their_text(tokenizer):
    tokens = encode([Message("user", "Hi"), Message("assistant", "不🙂", trained=True)], tokenizer)
    assert "".join(tokens.pieces) == "不🙂<|end|>"
    assert len(tokens.pieces) == 3 + 4 + 1


def test_templates_that_write_earlier_turns_differently():
    changed = make_tokenizer()
    changed.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {% if m['role'] == 'assistant' and loop.last %}(think) {% endif %}"
        "{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokens = encode([*ASKED, *ASKED], changed)
    assert "".join(tokens.pieces) == "Yes.Yes."


def test_a_chat_that_begins_with_an_answer_trains_on_its_words_alone(tokenizer):
    tokens = encode([Message("assistant", "Hi!", trained=True), *ASKED], tokenizer)
    assert "".join(tokens.pieces) == "Hi!<|end|>Yes.<|end|>"


def test_an_answer_that_repeats_the_question_is_found_behind_it():
    changed = make_tokenizer()
    changed.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant><think>{% endif %}"
    )
    tokens = encode([Message("user", "Yes"), Message("assistant", "Yes", trained=True)], changed)
    assert "".join(tokens.pieces) == "Yes"
    assert changed.decode(tokens.input_ids[: tokens.spans[0][0]]) == "<user>Yes<assistant>"


def test_a_template_that_tells_the_date_tells_the_same_tomorrow():
    dated = make_tokenizer()
    dated.chat_template = (
        "{{ strftime_now('%d %b %Y %f') }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    )
    tokens = encode(ASKED, dated)
    assert dated.decode(tokens.input_ids).startswith("26 Jul 2024 000000<user>")


def test_a_template_that_refuses_a_row_names_it():
    strict = make_tokenizer()
    strict.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(InputError, match=r"row 0 .*System role not supported.*--template plain"):
        encode(ASKED, strict)


def test_a_chat_template_can_be_demanded():
    with pytest.raises(ModelError, match="no chat template"):
        encode(ASKED, make_tokenizer(chat=False), template="chat")


def test_the_table_gives_back_what_was_written(tokenizer, tmp_path):
    encoder = Encoder(tokenizer, "auto", 24)
    rows = [(f"id{i}", 2 * i, Chat([Message("user", "Q" * (i % 9)), *ASKED[1:]])) for i in range(2500)]
    assert list(write_tokens(rows, encoder, tmp_path / "t.arrow")) == [1000, 2000, 2500]
    table = TokenTable(tmp_path / "t.arrow")
    assert len(table) == 2500
    for i in (0, 999, 1000, 2499):
        (expected,) = encoder.encode([rows[i]])
        assert vars(table[i]) | {"input_ids": None} == vars(expected) | {"input_ids": None}
        assert np.array_equal(table[i].input_ids, expected.input_ids)
        assert table.pieces(i) == list(expected.pieces)
    assert table.lengths[999] == len(table[999].input_ids)
    assert table.ids[1000].as_py() == "id1000"
    assert set(table.scorable) == {i for i in range(2500) if table[i].scorable}


def test_rows_are_found_in_the_order_of_their_ids_over_all_files(tokenizer, tmp_path):
    encoder = Encoder(tokenizer, "auto", 64)
    for name, ids in (("one", ["é", "b", "x"]), ("two", ["a", "b"])):
        list(write_tokens([(id, i, Chat(ASKED)) for i, id in enumerate(ids)], encoder, tmp_path / name))
    table = TokenTable(tmp_path / "one", tmp_path / "two")
    assert table.by_id(table.scorable).tolist() == [3, 1, 4, 2, 0]
    assert table.by_id(np.array([0, 2, 3])).tolist() == [3, 2, 0]


def test_words_are_looked_up_by_their_place_in_the_completion(tokenizer, tmp_path):
    rows = [(f"id{i}", i, Chat([ASKED[0], Message("assistant", f"{i:04}", trained=True)])) for i in range(1500)]
    list(write_tokens(rows, Encoder(tokenizer, "auto", 64), tmp_path / "t.arrow"))
    places = np.tile([3, 0], (1500, 1))
    places[7], places[1234, 1] = -1, -1
    found = [said for words in TokenTable(tmp_path / "t.arrow").words(places) for said in words.to_pylist()]
    assert len(found) == 1500
    assert (found[6], found[7], found[1234], found[1499]) == (["6", "0"], [], ["4"], ["9", "1"])


def test_the_lengths_of_answers_of_chats_and_rows_in_any_order(tokenizer, tmp_path):
    chat = [*ASKED, Message("user", "And?"), Message("assistant", "So.", trained=True)]
    rows = [("one", 0, Chat(ASKED)), ("two", 1, Chat(chat)), ("three", 2, Chat(ASKED))]
    for _ in write_tokens(rows, Encoder(tokenizer, "auto", 512), tmp_path / "t.arrow"):
        pass
    table = TokenTable(tmp_path / "t.arrow")
    chosen = np.array([1, 0])
    spans = [end - start for i in chosen for start, end in table[int(i)].spans]
    assert len(spans) == 3
    assert table.answers(chosen).tolist() == spans
    assert table.answers(chosen).sum() == table.counts[chosen].sum()


@pytest.mark.parametrize(
    ("text", "limits", "longest", "cut"),
    [
        ("Fine.", (512, None), 5, False),
        ("Fine.", (512, 5), 5, False),
        ("Fine.", (512, 4), 5, True),
        ("Fine.", (12, None), 5, True),
        ("Fine.", (8, None), 5, True),
        ("x" * 5000, (16, 4), 5000, True),
    ],
)
def test_an_answer_that_goes_on_is_told_from_one_that_ends(tokenizer, text, limits, longest, cut):
    for template in ("chat", "plain"):
        tokens = encode(
            [Message("user", "How?"), Message("assistant", text, trained=True)], tokenizer, template, *limits
        )
        if template == "chat" or limits[0] == 512:
            assert (tokens.longest_answer, tokens.answers_cut) == (longest, cut)


def test_a_word_is_never_half_a_character(tokenizer, tmp_path):
    characters = ["क्षि", "👩\u200d👧", "e\u0301", "不", "🇩🇪", "x"]
    rows = [("x", 0, Chat.of("Hi", "".join(characters)))]
    list(write_tokens(rows, Encoder(tokenizer, "auto", 512), tmp_path / "t.arrow"))
    table = TokenTable(tmp_path / "t.arrow")
    pieces = table.pieces(0)
    assert [piece for piece in pieces if piece] == [*characters, "<|end|>"]
    (words,) = table.words(np.arange(len(pieces))[None])
    assert list(dict.fromkeys(words.to_pylist()[0])) == [*characters, "<|end|>"]
