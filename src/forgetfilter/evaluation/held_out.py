"""Held-out rows, as `forgetfilter data mix` writes them: what is asked, and what is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.chats import Chat, FieldError, Message
from ..data.draw import in_random_order
from ..data.layouts import Layout
from ..data.records import Container, Record
from ..errors import BadRow, BadRowsError, InputError

BIAS, TOXICITY, HARMFULNESS, SQUAD, INSTRUCTIONS = "bias", "toxicity", "harmfulness", "squad", "instructions"
KINDS = (BIAS, TOXICITY, HARMFULNESS, SQUAD, INSTRUCTIONS)
_TASK = "task"
_NOTIONS = (BIAS, TOXICITY, HARMFULNESS, _TASK)
_CONDITIONS = ("ambiguous", "disambiguated")
_LAYOUT = Layout("prompt-completion", {"prompt": "prompt", "completion": "completion"})


@dataclass(frozen=True)
class Question:
    """What a BBQ item asks.

    Attributes:
        category: Such as Age.
        ambiguous: Whether the context leaves the answer open.
        options: The three answers.
        correct, unknown: Which option is right, and which says that it cannot be known.
        stereotype: Which option is the stereotyped answer to this question, its polarity taken into account; None
            where that cannot be told.
        said: The completion that gives each option, worded as the row's own completion is.
    """

    category: str
    ambiguous: bool
    options: tuple[str, ...]
    correct: int
    unknown: int
    stereotype: int | None
    said: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """One held-out row.

    Attributes:
        id: Its id.
        kind: What is measured on it: bias, toxicity, harmfulness, squad or instructions.
        context: The messages before the answer; the last is the prompt.
        completion: The right, or safe, answer.
        question: What a bias row asks, else None.
        answers: The right answers of a SQuAD row, none where it is unanswerable; None for other rows.
    """

    id: str
    kind: str
    context: tuple[Message, ...]
    completion: str
    question: Question | None = None
    answers: tuple[str, ...] | None = None

    @property
    def prompt(self) -> str:
        """What is asked last."""
        return self.context[-1].content

    @property
    def notion(self) -> str:
        """The row's notion, as the training data names it."""
        return _TASK if self.kind in (SQUAD, INSTRUCTIONS) else self.kind

    def chat(self, prompt: str, completion: str) -> Chat:
        """The row as a chat, with this prompt in place of its own, and this answer."""
        asked = Message(self.context[-1].role, prompt)
        return Chat([*self.context[:-1], asked, Message("assistant", completion, trained=True)])


def read_held_out(container: Container, most_rows: int | None = None) -> list[HeldOut]:
    """Read and check held-out rows; they are few enough to lie in memory.

    Args:
        container: Where they are.
        most_rows: Most rows of each kind; which, is drawn by the rows' ids, whatever their order.

    Raises:
        InputError: The data set cannot be read, or holds no rows.
        BadRowsError: A row lacks what is needed to measure it; names row and field.
    """
    rows: list[HeldOut] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    for i, record in enumerate(container.records()):
        try:
            row = _read(_fields(record))
            if row.id in seen:
                raise FieldError("id", "an id that an earlier row has", "an id of its own, to join results by")
        except FieldError as error:
            bad.append(BadRow(i, record.line, error.field or None, error.found, error.expected))
            continue
        seen.add(row.id)
        rows.append(row)
    if bad:
        raise BadRowsError(container.name, bad, len(bad), "Write held-out rows as 'forgetfilter data mix' does.")
    if not rows:
        raise InputError(f"{container.name}: there are no rows in it")
    return rows if most_rows is None else _drawn(rows, most_rows)


def _drawn(rows: Sequence[HeldOut], most: int) -> list[HeldOut]:
    chosen: set[str] = set()
    for kind in KINDS:
        ids = [row.id for row in rows if row.kind == kind]
        chosen |= {ids[i] for i in in_random_order(ids, 0)[:most]}
    return [row for row in rows if row.id in chosen]


def _fields(record: Record) -> Mapping[str, Any]:
    if record.fields is None:
        raise FieldError("", *(record.problem or ("nothing", "a row")))
    return record.fields


def _read(fields: Mapping[str, Any]) -> HeldOut:
    messages = _LAYOUT.chat(fields).messages
    if len(messages) < 2 or [m.trained for m in messages].index(True) != len(messages) - 1:
        raise FieldError("completion", "more than one message", "one answer, and what is asked before it")
    notion = _one_of(fields, "notion", _NOTIONS)
    context, completion = tuple(messages[:-1]), messages[-1].content
    if notion == BIAS:
        return HeldOut(_id(fields), BIAS, context, completion, _question(fields, completion))
    answers = fields.get("answers")
    if notion != _TASK or answers is None:
        return HeldOut(_id(fields), INSTRUCTIONS if notion == _TASK else notion, context, completion)
    return HeldOut(_id(fields), SQUAD, context, completion, answers=_texts(answers, "answers"))


def _id(fields: Mapping[str, Any]) -> str:
    given = fields.get("id")
    if not isinstance(given, (str, int)) or isinstance(given, bool) or not str(given).strip():
        raise FieldError("id", _shown(given), "an id, to join results by")
    return str(given).encode("utf-8", "replace").decode("utf-8")


def _question(fields: Mapping[str, Any], completion: str) -> Question:
    options = _texts(fields.get("options"), "options")
    if len(options) != 3 or len({option.strip().lower() for option in options}) != 3:
        raise FieldError("options", f"{len(options)} answers, some alike or too many or few", "three different answers")
    correct, unknown = (_index(fields, name) for name in ("correct", "unknown"))
    stereotype = None if fields.get("stereotype") is None else _index(fields, "stereotype")
    if stereotype == unknown:
        raise FieldError("stereotype", "the answer that it cannot be known", "another of the options, or null")
    category = fields.get("category")
    if not isinstance(category, str) or not category.strip():
        raise FieldError("category", _shown(category), "the item's category, such as Age")
    return Question(
        category,
        _one_of(fields, "condition", _CONDITIONS) == "ambiguous",
        options,
        correct,
        unknown,
        stereotype,
        _worded(completion, options, correct),
    )


def _worded(completion: str, options: Sequence[str], correct: int) -> tuple[str, ...]:
    """Each option as a completion, worded as the right one is, its number replaced where it is named."""
    before, found, after = completion.rpartition(options[correct])
    if not found:
        raise FieldError("completion", "none of the right option's text", f"an answer with option {correct} in it")
    return tuple(
        before.replace(f"ans{correct + 1}", f"ans{i + 1}") + option + after for i, option in enumerate(options)
    )


def _texts(value: Any, field: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) and text.strip() for text in value):
        raise FieldError(field, _shown(value), "a list of texts")
    return tuple(value)


def _index(fields: Mapping[str, Any], field: str) -> int:
    value = fields.get(field)
    # A table stores a column with gaps as floating-point numbers.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in (0, 1, 2):
        raise FieldError(field, _shown(value), "0, 1 or 2, the place of an option")
    return int(value)


def _one_of(fields: Mapping[str, Any], field: str, known: Sequence[str]) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or value not in known:
        raise FieldError(field, _shown(value), f"one of {', '.join(known)}")
    return value


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
