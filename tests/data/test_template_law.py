"""The law of the mask (template_law.py) over all templates, chats and kinds of tokenizers."""

from __future__ import annotations

from typing import Any

import pytest

from support.template_chats import AWKWARD, CHATS, awkward
from support.template_kinds import FOLDER, KINDS, bytes_of, ended, pieces, source, trained
from support.template_law import faults, misplaced, places, strings
from support.template_masks import shown


def broken(name: str, tokenizer: Any, *, part: int = 0, of: int = 1, loose: bool = False) -> str:
    """Where the law does not hold for a template: a line for each chat and fault. Every `of`th chat is asked."""
    first = (part - list(KINDS).index(name)) % of
    kinds = list(CHATS)[first::of]
    return "\n".join(f"{kind}: {what}" for kind in kinds for what in faults(name, tokenizer, CHATS[kind], loose=loose))


@pytest.fixture(scope="module")
def learned_from():
    """What the tokenizers are trained on: the chats, so that their tokens are long, and some templates."""
    chats = [chat for chat in CHATS.values() if len(chat.messages) < 12]
    return [text for chat in chats for text in strings(chat.messages)] + [source(name) for name in list(KINDS)[:8]]


@pytest.fixture(scope="module")
def long_tokens(learned_from):
    return trained(learned_from)


@pytest.fixture(scope="module")
def sentence_pieces(learned_from):
    return pieces(learned_from)


def test_every_template_is_listed():
    assert {path.stem for path in FOLDER.glob("*.jinja")} == set(KINDS)
    assert sum(bool(kind.unfollowable) for kind in KINDS.values()) <= 10


@pytest.mark.parametrize("name", KINDS)
def test_the_templates_are_sound(name):
    """Each shows at least one turn with its end, and its tokenizers give back what it shows."""
    text = shown(bytes_of(name), CHATS["one_turn"].messages)
    assert text is not None
    assert bytes_of(name).decode(bytes_of(name)(text, add_special_tokens=False)["input_ids"]) == text
    ends = KINDS[name].ends
    assert not ends or any(end in text for end in ends) or name == "end_not_last"


def test_long_tokens_reach_over_words(long_tokens, sentence_pieces):
    text = CHATS["lines"].messages[1]["content"]
    for tokenizer in (long_tokens("qwen15"), sentence_pieces("qwen15")):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) < len(text) / 2
    ids = long_tokens("qwen15")("A tells, as B does, of C.", add_special_tokens=False)["input_ids"]
    assert any(" " in long_tokens("qwen15").decode([id]).strip() for id in ids)


@pytest.mark.parametrize("name", KINDS)
def test_the_mask_is_the_answers_own_words(name):
    wrong = broken(name, bytes_of(name))
    assert not wrong, wrong


@pytest.mark.parametrize("name", KINDS)
def test_so_it_is_where_tokens_reach_over_words(name, long_tokens):
    wrong = broken(name, long_tokens(name), part=0, of=3, loose=True)
    assert not wrong, wrong


@pytest.mark.parametrize("name", KINDS)
def test_so_it_is_where_a_tokenizer_puts_a_space_first(name, sentence_pieces):
    wrong = broken(name, sentence_pieces(name), part=1, of=3, loose=True)
    assert not wrong, wrong


@pytest.mark.parametrize("name", KINDS)
def test_so_it_is_where_a_tokenizer_adds_the_ends(name):
    wrong = broken(name, ended(name), part=2, of=3)
    assert not wrong, wrong


@pytest.mark.parametrize("name", KINDS)
def test_an_answer_is_found_where_it_stands_whatever_it_says(name):
    wrong = []
    for kind in list(AWKWARD)[list(KINDS).index(name) % 2 :: 2]:
        messages = awkward(kind, with_system=True)
        if shown(bytes_of(name), messages) is None:
            messages = awkward(kind, with_system=False)
        wrong += [f"{kind}: {what}" for what in misplaced(name, messages)]
    assert not wrong, "\n".join(wrong)


def test_the_awkward_answers_are_followed_nearly_everywhere():
    """The check above can tell: for most templates and answers the other chat shows where they stand."""
    chats = [(name, awkward(kind, with_system=False)) for name in KINDS for kind in list(AWKWARD)[::9]]
    known = [places(bytes_of(name), messages) is not None for name, messages in chats]
    assert sum(known) > 0.75 * len(known)
