"""Show how rows become tokens: which are trained on and scored, and which are only context."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

from ..console import count_of, escaped, printable
from ..data.chats import Chat
from ..data.containers import open_container
from ..data.frame_search import ANSWERS_SEEN
from ..data.layouts import Layout
from ..data.own_words import framed_as
from ..data.records import Record
from ..data.rows import ReadOptions, read_chats
from ..data.text_files import TextOptions
from ..data.tokens import Encoder, Tokens
from ..errors import BadRow, InputError
from ..forgetting.signals import DEFAULT_SIGNAL, judged_tokens, learned_tokens
from ..models.sources import find_model
from ..settings.groups import PreviewSettings

_TOKENS_SHOWN = 400
# What tokenizers make of a part of a character, which has at most so many.
_PART, _MOST_PARTS = "\ufffd", 4

# A row as it is read: its record, its layout, and its chat or what is wrong with it.
Read = tuple[Record, Layout | None, Chat | BadRow]


def preview(settings: PreviewSettings, count: int) -> None:
    """Print the first rows as tokens, with ⟦completion│tokens⟧ marked; for bad rows, print what is wrong with them.

    Raises:
        InputError: The data cannot be read, its layout is unknown, or none of the rows shown can be used.
        ModelError: The model's tokenizer cannot be loaded.
    """
    from ..models.loading import load_tokenizer, quiet_libraries

    quiet_libraries()
    data, model, options = settings.data, settings.model, settings.tokens
    container = open_container(data.data, data.split, TextOptions(data.encoding, data.delimiter))
    tokenizer = load_tokenizer(find_model(model.model, model.revision))
    most = judged_tokens(learned_tokens(options.max_completion, DEFAULT_SIGNAL), DEFAULT_SIGNAL)
    encoder = Encoder(tokenizer, options.template, options.max_length, most, options.own_words)
    console = Console(highlight=False, soft_wrap=True)
    part = "all" if most is None else f"the first {count_of(most, 'token')}"
    console.print(
        Text(f"{encoder.template} template; ⟦completion│tokens⟧ are judged, {part} of each answer; the rest is context")
    )
    for line in [container.note, *container.not_read]:
        if line:
            console.print(Text(printable(line)))
    read = read_chats(container, ReadOptions(data.layout, data.columns), encoder.check)
    if encoder.own_words.looks:
        rows = _first(read, count, encoder)
        if encoder.own_words.frames:
            framing = framed_as(encoder.own_words.frames)
            console.print(Text(f"own words alone of answers {framing}, going by the first {ANSWERS_SEEN:,} rows"))
    else:
        rows = list(islice(read, count))
    if not rows:
        raise InputError(f"{container.name}: there are no rows in it")
    bad = 0
    for row, (record, layout, chat) in enumerate(rows):
        console.print()
        if isinstance(chat, BadRow):
            bad += 1
            told = str(chat) if chat.file else f"{container.name}: {chat}"
            console.print(Text(printable(told), style="red"))
            continue
        (tokens,) = encoder.encode([(str(row), row, chat)])
        console.print(Text(_header(tokens, layout.name if layout else ""), style="bold"))
        if layout and record.fields is not None and (unread := layout.unread(record.fields)):
            console.print(Text(printable(f"columns not read: {', '.join(unread)}"), style="yellow"))
        if tokens.unshown:
            names = ", ".join(dict.fromkeys(tokens.unshown))
            console.print(Text(printable(f"not shown by the chat template: {names}"), style="yellow"))
        console.print(_shown(tokens, tokenizer))
    if bad and bad == len(rows):
        raise InputError(
            f"{container.name}: {'the row shown cannot' if bad == 1 else f'none of the {bad:,} rows shown can'} be used"
        )


def _first(read: Iterator[Read], count: int, encoder: Encoder) -> list[Read]:
    """Return the rows to show, and let the encoder search as many rows for frames as the filter would."""
    rows: list[Read] = []

    def chats() -> Iterator[Chat]:
        for i, row in enumerate(islice(read, max(count, ANSWERS_SEEN))):
            if i < count:
                rows.append(row)
            if isinstance(row[2], Chat):
                yield row[2]

    encoder.own_words.look_at(chats())
    return rows


def _header(tokens: Tokens, layout: str) -> str:
    cut = ", cut to the length limit" if tokens.truncated else ""
    trained = int(tokens.mask.sum())
    return f"row {tokens.row} ({layout}): {len(tokens.input_ids)} tokens, {trained} of them completion{cut}"


def _shown(tokens: Tokens, tokenizer: Any) -> Text:
    shown, mask, trained, begun = Text(), tokens.mask, iter(tokens.pieces), list[int]()
    ids = tokens.input_ids[:_TOKENS_SHOWN].tolist()
    for i, token in enumerate(ids):
        begins, ends = mask[i] and not mask[i - 1], mask[i] and (i + 1 == len(mask) or not mask[i + 1])
        if mask[i]:
            # A character of several tokens is the piece of one of them.
            text = _visible(next(trained) or tokenizer.decode([token]).replace(_PART, ""))
            shown.append(("⟦" if begins else "│") + text + ("⟧" if ends else ""), style="green")
            continue
        begun.append(token)
        text = tokenizer.decode(begun)
        goes_on = i + 1 < len(ids) and not mask[i + 1] and len(begun) < _MOST_PARTS
        if not (goes_on and text.endswith(_PART)):
            shown.append(_visible(text), style="dim")
            begun = []
    if len(mask) > _TOKENS_SHOWN:
        shown.append(f" … {len(mask) - _TOKENS_SHOWN} more tokens", style="dim italic")
    return shown


def _visible(token: str) -> str:
    """Show a token's text safely on a terminal, with its line ends visible."""
    return escaped(token.replace("\n", "↵"))
