"""Reads SQuAD v1.1 and v2 (Rajpurkar et al., 2016 and 2018): the published json, or flat rows as on the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ...data.chats import FieldError, describe, text_of
from ...data.containers import open_container
from ...data.layouts import Row
from ...data.records import Container, Record, open_bytes
from ...data.text_files import TextContainer
from ...errors import InputError
from .examples import TASK, Example, Loaded, content_id, same_words
from .reading import list_field, object_field, open_files, read_each, text_field

HUB = "rajpurkar/squad_v2"
# The completion to learn and to expect if the passage does not contain the answer.
UNANSWERABLE = "unanswerable"


class SquadJson(TextContainer):
    """Reads the published file, in which articles hold paragraphs and these hold questions; each question is a row."""

    kind = ".json"

    def _parse(self, file: IO[bytes]) -> Iterator[Record]:
        try:
            articles = json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.name}: not valid JSON: {error}") from error
        try:
            for row in _questions(articles):
                yield Record(row)
        except FieldError as error:
            raise InputError(f"{self.name}: {error}. This file is not SQuAD as published") from error


def open_squad(place: str, split: str) -> list[Container]:
    """Open the files at a place, including json files in the published layout.

    Raises:
        InputError: There is nothing, or nothing readable.
    """
    return open_files(place, split, _open)


def load_squad(containers: Sequence[Container]) -> Loaded:
    """Read SQuAD; examples of one passage form a group.

    Raises:
        InputError: A question is not as published.
    """
    return Loaded(list(read_each(containers, "SQuAD", _example)))


def _open(place: str, split: str) -> Container:
    path = Path(place).expanduser()
    if path.is_file() and path.name.lower().removesuffix(".gz").endswith(".json"):
        with open_bytes(path, "rb") as file:
            # The published file is a single object; rows as on the hub come in an array, or one per line.
            if b'"paragraphs"' in file.read(1 << 16):
                return SquadJson(path)
    return open_container(place, split)


def _questions(articles: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(articles, dict):
        raise FieldError("the file", describe(articles), "an object with 'data'")
    for i, article in enumerate(_objects(articles, "data", "")):
        for j, paragraph in enumerate(_objects(article, "paragraphs", f"data[{i}].")):
            place = f"data[{i}].paragraphs[{j}]."
            for question in _objects(paragraph, "qas", place):
                yield {**question, "context": paragraph.get("context"), "title": article.get("title")}


def _objects(holder: Row, name: str, place: str) -> list[dict[str, Any]]:
    objects = holder.get(name)
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise FieldError(place + name, describe(objects), "a list of objects")
    return objects


def _example(row: Row) -> Iterator[Example]:
    context = text_field(row, "context")
    answers = list(dict.fromkeys(_answers(row)))
    yield Example(
        id=f"squad-{text_field(row, 'id')}",
        prompt=f"Context: {context}\nQuestion: {text_field(row, 'question')}\nAnswer:",
        completion=answers[0] if answers else UNANSWERABLE,
        label=TASK,
        notion=TASK,
        source="SQuAD",
        group=content_id("SQuAD", same_words(context)),
        measure={"answers": answers},
    )


def _answers(row: Row) -> list[str]:
    """Read the texts of the answers, from a list of objects as published or an object of lists as in a table."""
    if isinstance(row.get("answers"), dict):
        texts = list_field(object_field(row, "answers"), "text")
    else:
        texts = [one.get("text") if isinstance(one, dict) else one for one in list_field(row, "answers")]
    return [text_of(text, f"answers[{i}].text").strip() for i, text in enumerate(texts)]
