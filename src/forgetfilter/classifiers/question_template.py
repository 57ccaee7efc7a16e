"""Lay out a row as the question to a judging model, so that nothing in the row can pass for a part of the question.

The chat template sees marks in place of the row's texts, which are put there afterwards: a text cannot act on the
template, and special tokens that it contains are encoded as the text that they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from ..console import printable
from ..data.templates import without_clock
from ..errors import ModelError, first_line
from ..limits import ExceededError, bounded
from .families import Family, Question

# A prompt and the answer to it.
Pair = tuple[str, str]

_MARKS = {"prompt": "FORGETFILTER1PROMPT", "answer": "FORGETFILTER2ANSWER"}
_LONGEST_PART = 256
# No known vocabulary has a longer token.
_LONGEST_TOKEN = 512
# What rendering a question may take, and how much of a problem is shown.
_MEMORY, _SECONDS = 1 << 30, 5.0
_SHOWN = 200
_HARMLESS = ("Hello", "Hello")


class QuestionTemplate:
    """A question about rows, with places for their prompts and answers.

    Each of both is read up to 256 tokens.
    """

    def __init__(self, tokenizer: Any, family: Family, question: Question, policy: str = "") -> None:
        """Fill in everything but the rows.

        Args:
            tokenizer: The model's tokenizer.
            family: How the model is asked.
            question: What it is asked.
            policy: What takes the place of the family's own policy; empty for that.

        Raises:
            ModelError: The model's chat template does not take the question.
        """
        self._tokenizer = tokenizer
        variables = {**family.variables, **question.variables}
        fields = {"policy": policy or family.policy, **variables, **_MARKS}
        self._with_ends = not family.text and not tokenizer.chat_template
        if family.text:
            rendered = _fill(family.text, fields)
        else:
            turns = [{**turn, "content": _fill(turn["content"], fields)} for turn in family.turns]
            rendered = _render(tokenizer, family, turns, variables)
        self._pieces = regex.split(f"({'|'.join(_MARKS.values())})", rendered)
        specials = _special_tokens(tokenizer)
        self._special_ids = set(tokenizer.convert_tokens_to_ids(specials))
        self._special = regex.compile("|".join(map(regex.escape, specials)) or "(?!)")
        self._expected = cache(self._special_of_harmless)

    def text(self, pair: Pair) -> str:
        """Return the question about a pair."""
        return "".join(piece for piece, _ in self._filled(pair))

    def encode(self, pair: Pair, begun: str = "", word: str = "") -> tuple[NDArray[np.int32], int]:
        """Encode the question about a pair, followed by the beginning of the model's answer.

        Args:
            pair: The prompt and the answer to it.
            begun: How the model's answer begins.
            word: How it goes on.

        Returns:
            The tokens, and where among them the first stands that has a part of `word`; their number if none does.
        """
        pieces = self._filled(pair)
        ids, ends = self._encode("".join(piece for piece, _ in pieces) + begun + word, special=self._with_ends)
        before = sum(len(piece) for piece, _ in pieces)
        if self._special_in(ids) != self._expected(begun + word):
            ids, ends, before = self._apart(pieces, begun + word)
        # What `begun` ends in may be part of the word's first token.
        start = next((i for i, end in enumerate(ends) if end > before + len(begun)), len(ids))
        return np.array(ids, dtype=np.int32), max(1, start)

    def _filled(self, pair: Pair) -> list[tuple[str, bool]]:
        """Return the pieces of the question in order, and whether each is of the row."""
        texts = dict(zip(_MARKS.values(), map(self._cut, pair), strict=True))
        return [(texts.get(piece, piece), piece in texts) for piece in self._pieces]

    def _cut(self, text: str) -> str:
        text = text.strip()[: _LONGEST_PART * _LONGEST_TOKEN]
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoding["offset_mapping"]
        return text if len(offsets) <= _LONGEST_PART else text[: offsets[_LONGEST_PART - 1][1]]

    def _encode(self, text: str, *, special: bool = False) -> tuple[list[int], list[int]]:
        """Return tokens and where in the text each ends; without what a tokenizer puts at the very end."""
        encoding = self._tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in encoding["offset_mapping"]]
        last = max((i for i, end in enumerate(ends) if end > 0), default=-1) + 1
        return list(encoding["input_ids"][:last]), ends[:last]

    def _apart(self, pieces: list[tuple[str, bool]], tail: str) -> tuple[list[int], list[int], int]:
        """Encode each piece by itself, and a row's special tokens as text."""
        ids: list[int] = []
        for place, (piece, of_row) in enumerate(pieces[:-1]):
            for part in self._broken(piece) if of_row else [piece]:
                ids += self._encode(part, special=self._with_ends and not place)[0]
        last = pieces[-1][0]
        of_last, ends = self._encode(last + tail)
        return ids + of_last, [0] * len(ids) + ends, len(last)

    def _broken(self, text: str) -> list[str]:
        """Split a text within each special token that it contains, after its first character."""
        parts, start = [], 0
        while found := self._special.search(text, start):
            parts.append(text[start : found.start() + 1])
            start = found.start() + 1
        return [*parts, text[start:]]

    def _special_in(self, ids: list[int]) -> list[int]:
        return [token for token in ids if token in self._special_ids]

    def _special_of_harmless(self, tail: str) -> list[int]:
        text = "".join(piece for piece, _ in self._filled(_HARMLESS)) + tail
        return self._special_in(self._encode(text, special=self._with_ends)[0])


def _special_tokens(tokenizer: Any) -> list[str]:
    """Return the special tokens, the longest first, without one that stands for unknown characters alone."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    unknown = {tokenizer.unk_token} - {tokenizer.bos_token, tokenizer.eos_token}
    return sorted({*added, *tokenizer.all_special_tokens} - unknown, key=len, reverse=True)


def _fill(text: str, fields: Mapping[str, Any]) -> str:
    """Replace each `{name}` once, whatever stands in what takes its place."""
    return regex.sub(r"\{(\w+)\}", lambda found: str(fields.get(found[1], found[0])), text)


def _render(tokenizer: Any, family: Family, turns: list[dict[str, str]], variables: Mapping[str, Any]) -> str:
    """Render turns by the chat template; without one, their contents."""
    if not tokenizer.chat_template:
        if not family.without_template:
            raise ModelError(f"{family.title} is asked by its chat template, which this model's tokenizer lacks")
        return "\n\n".join(turn["content"] for turn in turns) + family.without_template
    problem: object = "it shows no answer"
    # Most versions take text, those that also take images take lists of parts.
    for content in (lambda text: text, lambda text: [{"type": "text", "text": text}]):
        messages = [{"role": turn["role"], "content": content(turn["content"])} for turn in turns]
        try:
            with bounded(_MEMORY, _SECONDS):
                rendered = str(
                    tokenizer.apply_chat_template(
                        messages,
                        chat_template=without_clock(tokenizer.get_chat_template()),
                        tokenize=False,
                        add_generation_prompt=family.opens_answer,
                        **variables,
                    )
                )
        except ExceededError as error:
            raise ModelError(f"judge: this model's chat template takes {error} for one question") from error
        except Exception as error:
            # A template is a program of the model's author and may raise anything.
            problem = printable(first_line(error), _SHOWN)
            continue
        if _MARKS["answer"] in rendered and "'type':" not in rendered:
            return rendered
    raise ModelError(f"judge: this model's chat template does not take a conversation: {problem}")
