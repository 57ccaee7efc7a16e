"""Turn messages into tokens: chat template, completion mask, truncation.

A row is rendered to text once and tokenised once; the mask follows from where the completion stands in
that text. So a token is the same whether it is trained on, scored or shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
from numpy.typing import NDArray

from ..errors import InputError, ModelError
from .answer_lengths import answer_lengths
from .chats import Chat, FieldError
from .draw import by_id, in_random_order
from .own_words import NONE, FrameCounts, OwnWords
from .records import in_batches
from .rows import Said, read_batches
from .spans import Answer
from .templates import ChatTemplate, Rendered

# No known vocabulary has a longer token, so text beyond this cannot affect the first tokens.
_LONGEST_TOKEN = 512
_CHARACTER = regex.compile(r"\X")
_PROMPT_OF_TEXT = regex.compile(r"\s*(?:\S+\s+){3}")

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("input_ids", pa.list_(pa.int32())),
        ("spans", pa.list_(pa.int32())),
        ("prompt_ends", pa.list_(pa.int32())),
        ("pieces", pa.list_(pa.string())),
        ("truncated", pa.bool_()),
        ("longest_answer", pa.int32()),
        ("answers_cut", pa.bool_()),
    ]
)
# Runs of earlier versions lack these.
_LENGTHS = ("longest_answer", "answers_cut")


@dataclass(frozen=True)
class Tokens:
    """One row as tokens.

    Attributes:
        id: The row's id.
        row: Its position in the input.
        input_ids: All tokens, prompt and completion.
        spans: Where the completion stands, one (start, end) for each turn that is trained on, or for each part of it
            where only its beginning is kept; end excluded.
        prompt_ends: For each span, how many tokens the model is given before it answers by itself. It equals
            the span's start, except in plain text, where the first three words are the prompt (paper, toxicity).
        pieces: The text of each completion token, spans one after the other.
        truncated: Whether the row is longer than its greatest length, so that its end was cut off.
        longest_answer: Tokens of its longest answer, those that were cut off included, the end of the turn not.
        answers_cut: Whether an answer goes on beyond those of its tokens that are kept.
        unshown: What the chat template left out of the row, by name; files of tokens do not keep it.
    """

    id: str
    row: int
    input_ids: NDArray[np.int32]
    spans: tuple[tuple[int, int], ...]
    prompt_ends: tuple[int, ...]
    pieces: tuple[str, ...]
    truncated: bool
    longest_answer: int = field(default=0, kw_only=True)
    answers_cut: bool = field(default=False, kw_only=True)
    unshown: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def scorable(self) -> bool:
        """Tell whether any token of the completion is left after truncation."""
        return bool(self.spans)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mark the completion tokens, shape (len(input_ids),)."""
        mask = np.zeros(len(self.input_ids), dtype=bool)
        for start, end in self.spans:
            mask[start:end] = True
        return mask


class Encoder:
    """Turns messages into tokens with one tokenizer, one template and one length.

    Args:
        tokenizer: A fast Hugging Face tokenizer (it must know where in the text each token stands).
        template: `chat`, `plain` (prompt, newline, completion, end of text) or `auto`.
        max_length: Longest row, in tokens.
        max_completion: Most tokens of each answer that are kept, or of each part of it where it has reasoning or tool
            calls; None keeps all.
        own_words: What is left of answers that share a frame, as `OwnWords` takes it.

    Attributes:
        own_words: Takes answers out of their frame; with `auto` it needs to be given the frames, or to look for them.

    Raises:
        ModelError: The tokenizer is not a fast one, or has no chat template though one is asked for.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        max_length: int,
        max_completion: int | None = None,
        own_words: str = NONE,
    ) -> None:
        if not tokenizer.is_fast:
            raise ModelError("this model has no fast tokenizer (tokenizer.json), which tells where each token stands")
        has_chat = bool(tokenizer.chat_template)
        if template == "chat" and not has_chat:
            raise ModelError("this model's tokenizer has no chat template; use --template plain")
        self.tokenizer, self.max_length, self.max_completion = tokenizer, max_length, max_completion
        self.own_words, self._special = OwnWords(own_words), list(tokenizer.all_special_ids)
        self.template = ("chat" if has_chat else "plain") if template == "auto" else template
        self._templated = ChatTemplate(tokenizer) if self.template == "chat" else None

    def check(self, chat: Chat) -> None:
        """Check that a row can be encoded.

        Raises:
            FieldError: The chat template refuses it, or changes an answer in a way that cannot be followed; on either
                side, where it is a preference.
        """
        self._render(chat)
        if (other := chat.other_side) is not None:
            try:
                self._render(other)
            except FieldError as error:
                raise FieldError(
                    f"rejected{error.field and f' ({error.field})'}", error.found, error.expected
                ) from None

    def encode(self, rows: Sequence[Said], framed: FrameCounts | None = None) -> list[Tokens]:
        """Encode rows.

        Args:
            rows: The rows.
            framed: Counts the answers that are taken out of a frame.

        Raises:
            InputError: The chat template does not take a row (`check`); or an expression for own words takes too long.
        """
        rendered = [self._rendered(*row, framed) for row in rows]
        texts = [each.text[: (self.max_length + 1) * _LONGEST_TOKEN] for each in rendered]
        # A chat template writes its own special tokens; plain text gets those that the tokenizer adds. Chat
        # templates do not apply to rows of plain text, so the two kinds are told apart row by row.
        plain = [self._templated is None or chat.is_text for _, _, chat in rows]
        encoded: list[tuple[list[int], list[tuple[int, int]]]] = [([], [])] * len(rows)
        for special in (True, False):
            chosen = [i for i in range(len(rows)) if plain[i] is special]
            if chosen:
                out = self.tokenizer(
                    [texts[i] for i in chosen], add_special_tokens=special, return_offsets_mapping=True, verbose=False
                )
                for i, ids, offsets in zip(chosen, out["input_ids"], out["offset_mapping"], strict=True):
                    encoded[i] = (ids, offsets)
        return [
            self._tokens(id, row, text, *encoded[i], plain=plain[i], text_row=chat.is_text)
            for i, ((id, row, chat), text) in enumerate(zip(rows, rendered, strict=True))
        ]

    def _rendered(self, id: str, row: int, chat: Chat, framed: FrameCounts | None) -> Rendered:
        try:
            return self._render(self.own_words.of(chat, framed))
        except (InputError, FieldError) as error:
            raise InputError(f"row {row} (id {id}): {error}") from error

    def _render(self, chat: Chat) -> Rendered:
        """Render the row's text and find each trained turn in it."""
        return _render_plain(chat) if self._templated is None or chat.is_text else self._templated.render(chat)

    def _ended(
        self, ids: list[int], offsets: list[tuple[int, int]], length: int
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Append the end-of-text token to a text's tokens, unless the tokenizer has added it itself."""
        end_of_text = self.tokenizer.eos_token_id
        if end_of_text is None:
            return ids, offsets
        if ids and ids[-1] == end_of_text and offsets[-1][0] >= offsets[-1][1]:
            ids, offsets = ids[:-1], offsets[:-1]
        return [*ids, end_of_text], [*offsets, (length, length + 1)]

    def _tokens(
        self,
        id: str,
        row: int,
        rendered: Rendered,
        ids: list[int],
        offsets: list[tuple[int, int]],
        *,
        plain: bool,
        text_row: bool,
    ) -> Tokens:
        text = rendered.text
        # Where only the beginning of an answer is kept, that means the beginning of each of its parts.
        whole = self.max_completion is None
        spans = [span for answer in rendered.answers for span in (answer.spans if whole else answer.parts)]
        if plain:
            ids, offsets = self._ended(ids, offsets, len(text))
            # The model learns to stop after the completion, if that is what the row ends with.
            spans = [(start, end + (end == len(text))) for start, end in spans]
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        # Tokenizers add some tokens without width; such a token stands after what came before it.
        wide, reached = ends > starts, np.maximum.accumulate(ends)
        starts = np.maximum.accumulate(np.where(wide, starts, reached))
        holds_text = wide & ~np.isin(np.array(ids), self._special)
        longest, cut = answer_lengths(starts, reached, holds_text, spans, self.max_length, self.max_completion)
        truncated = len(ids) > self.max_length
        ids = ids[: self.max_length]
        starts, reached, wide = starts[: self.max_length], reached[: self.max_length], wide[: self.max_length]
        token_spans, prompt_ends, pieces = [], [], []
        for start, end in sorted(spans):
            # Nothing stands before a row's first token, so no model can be asked for it.
            nearest = max(1, int(np.searchsorted(reached, start, side="right")))
            inside = nearest + np.flatnonzero(wide[nearest : np.searchsorted(starts, end)])
            if not len(inside):
                continue
            inside = inside[: self.max_completion]
            first, last = int(inside[0]), int(inside[-1]) + 1
            token_spans.append((first, last))
            prompt_ends.append(_after_words(text, starts, first, last) if text_row else first)
            cuts = np.array([max(start, starts[first]), *starts[first + 1 : last], reached[last - 1]]).clip(
                max=len(text)
            )
            pieces += [text[a:b] for a, b in pairwise(_at_characters(text, cuts).tolist())]
        # What follows the last token that is trained on affects nothing.
        ids = ids[: token_spans[-1][1]] if token_spans else ids
        return Tokens(
            id,
            row,
            np.array(ids, np.int32),
            tuple(token_spans),
            tuple(prompt_ends),
            tuple(pieces),
            truncated,
            longest_answer=longest,
            answers_cut=cut,
            unshown=rendered.unshown,
        )


def _render_plain(chat: Chat) -> Rendered:
    """Render the turns one below the other, with the tools before them."""
    text = "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in chat.tools)
    answers = []
    for i, message in enumerate(chat.messages):
        text += "\n" if i else ""
        parts = []
        for j, part in enumerate(message.parts or [message.content]):
            text += "\n" if j else ""
            parts.append((len(text), len(text) + len(part)))
            text += part
        if message.trained:
            answers.append(Answer(((parts[0][0], parts[-1][1]),), tuple(parts)))
    return Rendered(text, tuple(answers))


def _at_characters(text: str, cuts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move cuts on to where a character ends, as people see it: several codes may make one letter, or one emoji."""
    within = text[cuts[0] : cuts[-1]]
    if within.isascii():
        return cuts
    ends = np.fromiter((match.end() for match in _CHARACTER.finditer(within)), np.int64) + cuts[0]
    return np.concatenate([cuts[:1], ends[np.searchsorted(ends, cuts[1:])]])


def _after_words(text: str, starts: NDArray[np.int64], first: int, last: int) -> int:
    """Find the first token after the third word, at the latest the last of the text."""
    words = _PROMPT_OF_TEXT.match(text)
    beyond = int(np.searchsorted(starts[first:last], words.end() - 1)) if words else 0
    return first + max(0, min(beyond, last - first - 1))


class TokenTable:
    """Reads the tokens of one or more data sets from files mapped into memory; rows are made on demand.

    Attributes:
        lengths: Tokens of each row, shape (n,).
        counts: Completion tokens of each row, shape (n,).
        rows: Position of each row in the input, shape (n,).
        truncated: Which rows were cut, shape (n,).
    """

    def __init__(self, *paths: Path) -> None:
        self._batches = [batch for path in paths for batch in read_batches(path)]
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)])
        self.rows = self._column(lambda batch: batch.column("row").to_numpy())
        self.lengths = self._column(lambda batch: _list_lengths(batch.column("input_ids")))
        self.counts = self._column(lambda batch: _list_lengths(batch.column("pieces")))
        self.truncated = self._column(lambda batch: batch.column("truncated").to_numpy(zero_copy_only=False))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as they are stored, in order."""
        yield from self._batches

    def _column(self, get: Any) -> NDArray[Any]:
        return np.concatenate([get(batch) for batch in self._batches])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _row(self, i: int) -> pa.RecordBatch:
        batch = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._batches[batch].slice(i - int(self._starts[batch]), 1)

    def pieces(self, i: int) -> list[str]:
        """Return the text of each completion token of one row."""
        texts: list[str] = self._row(i).column("pieces")[0].as_py()
        return texts

    def __getitem__(self, i: int) -> Tokens:
        row = self._row(i)
        spans = row.column("spans")[0].as_py()
        return Tokens(
            row.column("id")[0].as_py(),
            row.column("row")[0].as_py(),
            row.column("input_ids")[0].values.to_numpy(),
            tuple(zip(spans[::2], spans[1::2], strict=True)),
            tuple(row.column("prompt_ends")[0].as_py()),
            tuple(row.column("pieces")[0].as_py()),
            row.column("truncated")[0].as_py(),
            **{name: row.column(name)[0].as_py() for name in _LENGTHS if name in row.schema.names},
        )

    def judged_in_part(self, judged: int | None) -> NDArray[np.bool_]:
        """Mark the rows with an answer beyond its first `judged` tokens, or beyond those that are kept, shape (n,)."""
        if not set(_LENGTHS) <= set(self._batches[0].schema.names):
            return np.zeros(len(self), dtype=bool)
        longest, cut = (self._column(lambda b, n=name: b.column(n).to_numpy(zero_copy_only=False)) for name in _LENGTHS)
        beyond: NDArray[np.bool_] = cut | (longest > judged if judged is not None else False)
        return beyond

    @property
    def ids(self) -> pa.ChunkedArray:
        """Return the ids of all rows, in order, without copying them."""
        return pa.chunked_array([batch.column("id") for batch in self._batches], pa.string())

    def by_id(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Sort some rows by their ids, for what must not depend on the order of the file."""
        return rows[by_id(self.ids.take(pa.array(rows)))]

    def shuffled(self, rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
        """Shuffle some rows by their ids and a seed; the first k are a sample."""
        return rows[in_random_order(self.ids.take(pa.array(rows)), seed)]

    def answers(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Count the completion tokens of each answer of some rows, one row after the other."""
        spans = pa.chunked_array([batch.column("spans") for batch in self._batches]).take(pa.array(rows))
        edges: NDArray[np.int64] = pc.list_flatten(spans).to_numpy().astype(np.int64)
        lengths: NDArray[np.int64] = edges[1::2] - edges[::2]
        return lengths

    def words(self, places: NDArray[np.integer]) -> Iterator[pa.ListArray]:
        """Yield the texts of some completion tokens of each row, one batch of rows at a time.

        A token that is only a part of a character has no text; the one with the character is taken in its place.

        Args:
            places: Which tokens, shape (n, k); -1 for none, after all others.
        """
        for start, batch in zip(self._starts.tolist(), self._batches, strict=False):
            pieces, wanted = batch.column("pieces"), places[start : start + len(batch)]
            there = wanted >= 0
            begins = np.broadcast_to(pieces.offsets.to_numpy()[:-1, None], wanted.shape)[there]
            # For each token: itself, or the last one before it that has a text.
            filled = pc.binary_length(pieces.values).to_numpy() > 0
            last = np.maximum.accumulate(np.where(filled, np.arange(len(filled)), -1))
            texts = pieces.values.take(pa.array(np.maximum(last[begins + wanted[there]], begins)))
            yield pa.ListArray.from_arrays(np.cumsum([0, *there.sum(axis=1)], dtype=np.int32), texts)

    @property
    def scorable(self) -> NDArray[np.intp]:
        """Return the indices of the rows that have a completion token left."""
        return np.flatnonzero(self.counts > 0)


def _list_lengths(column: pa.ListArray) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = np.diff(column.offsets.to_numpy()).astype(np.int64)
    return lengths


def write_tokens(
    rows: Iterable[Said],
    encoder: Encoder,
    path: Path,
    unshown: Counter[str] | None = None,
    framed: FrameCounts | None = None,
) -> Iterator[int]:
    """Encode rows and write them to `path`; yield how many rows are done after each batch.

    Args:
        rows: The rows.
        encoder: Encodes them.
        path: Where to write.
        unshown: Counts what the chat template leaves out of them, by name.
        framed: Counts the answers that are taken out of a frame.

    Raises:
        InputError: As `Encoder.encode`.
    """
    done = 0
    batches = in_batches(rows, lambda row: row[2].size)

    def encoded() -> Iterator[list[Tokens]]:
        for batch in batches:
            tokens = encoder.encode(batch, framed)
            if unshown is not None:
                unshown.update(name for row in tokens for name in row.unshown)
            yield tokens

    for count in write_encoded(encoded(), path):
        done += count
        yield done


def write_encoded(batches: Iterable[list[Tokens]], path: Path) -> Iterator[int]:
    """Write rows that are tokens already to `path`; yield the size of each batch once it is written."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(_to_arrow(batch))
            yield len(batch)


def _to_arrow(tokens: list[Tokens]) -> pa.RecordBatch:
    columns: list[list[Any]] = [
        [t.id for t in tokens],
        [t.row for t in tokens],
        [t.input_ids for t in tokens],
        [[edge for span in t.spans for edge in span] for t in tokens],
        [t.prompt_ends for t in tokens],
        [t.pieces for t in tokens],
        [t.truncated for t in tokens],
        [t.longest_answer for t in tokens],
        [t.answers_cut for t in tokens],
    ]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, _SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
