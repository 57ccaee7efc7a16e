"""Read held-out rows, as `forgetfilter data mix` writes them: prompts, and the right answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.chats import Chat, FieldError, Message
from ..data.draw import in_random_order
from ..data.layouts import Layout
from ..data.records import Container, Record
from ..errors import BadRow, BadRowsError, InputError
from ..runs.inputs import refuse_changed

BIAS, TOXICITY, HARMFULNESS, SQUAD, INSTRUCTIONS = "bias", "toxicity", "harmfulness", "squad", "instructions"
KINDS = (BIAS, TOXICITY, HARMFULNESS, SQUAD, INSTRUCTIONS)
_TASK = "task"
_NOTIONS = (BIAS, TOXICITY, HARMFULNESS, _TASK)
_CONDITIONS = ("ambiguous", "disambiguated")
_LAYOUT = Layout("prompt-completion", {"prompt": "prompt", "completion": "completion"})


@dataclass(frozen=True)
class BbqQuestion:
    """The question of a BBQ item.

    Attributes:
        category: The item's category, such as Age.
        ambiguous: Whether the context leaves the answer open.
        options: The three answers.
        correct, unknown: The index of the right option, and of the one that says that it cannot be known.
        stereotype: The index of the stereotyped answer to this question, given its polarity; None if that cannot be
            told.
        completions: The completion that gives each option, worded like the row's own completion.
    """

    category: str
    ambiguous: bool
    options: tuple[str, ...]
    correct: int
    unknown: int
    stereotype: int | None
    completions: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """One held-out row.

    Attributes:
        id: The row's id.
        kind: What is measured on the row: bias, toxicity, harmfulness, squad or instructions.
        context: The messages before the answer; the last is the prompt.
        completion: The right, or safe, answer.
        question: The question of a bias row; None for other rows.
        answers: The right answers of a SQuAD row, empty if it is unanswerable; None for other rows.
    """

    id: str
    kind: str
    context: tuple[Message, ...]
    completion: str
    question: BbqQuestion | None = None
    answers: tuple[str, ...] | None = None

    @property
    def prompt(self) -> str:
        """The last message before the answer."""
        return self.context[-1].content

    @property
    def notion(self) -> str:
        """The notion of the row, as the training data names it."""
        return _TASK if self.kind in (SQUAD, INSTRUCTIONS) else self.kind

    def chat(self, prompt: str, completion: str) -> Chat:
        """Build the row as a chat, with another prompt in place of its own, and this answer."""
        message = Message(self.context[-1].role, prompt)
        return Chat([*self.context[:-1], message, Message("assistant", completion, trained=True)])


def read_held_out(container: Container, most_rows: int | None = None, fingerprint: str = "") -> list[HeldOut]:
    """Read and check held-out rows; they are few enough to be held in memory.

    Args:
        container: The data set.
        most_rows: Maximum number of rows of each kind, drawn by the rows' ids, whatever their order.
        fingerprint: That of the data set before, where one was taken.

    Raises:
        InputError: The data set cannot be read, has changed meanwhile, or holds no rows.
        BadRowsError: A row lacks what is needed to measure it; the message names row and field.
    """
    rows: list[HeldOut] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    for i, record in enumerate(container.records()):
        row = _read(i, record)
        if isinstance(row, HeldOut) and row.id in seen:
            row = BadRow(i, record.line, "id", "an id that an earlier row has", "an id of its own, to join results by")
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        seen.add(row.id)
        rows.append(row)
    refuse_changed(container, fingerprint)
    if bad:
        raise BadRowsError(container.name, bad, len(bad), "Write held-out rows as 'forgetfilter data mix' does.")
    if not rows:
        raise InputError(f"{container.name}: there are no rows in it")
    return rows if most_rows is None else _draw(rows, most_rows)


def _draw(rows: Sequence[HeldOut], most: int) -> list[HeldOut]:
    chosen: set[str] = set()
    for kind in KINDS:
        ids = [row.id for row in rows if row.kind == kind]
        chosen |= {ids[i] for i in in_random_order(ids, 0)[:most]}
    return [row for row in rows if row.id in chosen]


def _read(row: int, record: Record) -> HeldOut | BadRow:
    """Read one row, or return what is wrong with it."""
    if record.fields is None:
        found, expected = record.problem or ("nothing", "a row")
        return BadRow(row, record.line, None, found, expected)
    try:
        return _held_out(record.fields)
    except FieldError as error:
        return BadRow(row, record.line, error.field or None, error.found, error.expected)


def _held_out(fields: Mapping[str, Any]) -> HeldOut:
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
    value = fields.get("id")
    if not isinstance(value, (str, int)) or isinstance(value, bool) or not str(value).strip():
        raise FieldError("id", _described(value), "an id, to join results by")
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _question(fields: Mapping[str, Any], completion: str) -> BbqQuestion:
    options = _texts(fields.get("options"), "options")
    if len(options) != 3 or len({option.strip().lower() for option in options}) != 3:
        raise FieldError("options", f"{len(options)} answers, some alike or too many or few", "three different answers")
    correct, unknown = (_index(fields, name) for name in ("correct", "unknown"))
    stereotype = None if fields.get("stereotype") is None else _index(fields, "stereotype")
    if stereotype == unknown:
        raise FieldError("stereotype", "the answer that it cannot be known", "another of the options, or null")
    category = fields.get("category")
    if not isinstance(category, str) or not category.strip():
        raise FieldError("category", _described(category), "the item's category, such as Age")
    return BbqQuestion(
        category,
        _one_of(fields, "condition", _CONDITIONS) == "ambiguous",
        options,
        correct,
        unknown,
        stereotype,
        _option_completions(completion, options, correct),
    )


def _option_completions(completion: str, options: Sequence[str], correct: int) -> tuple[str, ...]:
    """Word every option as the right one's completion is worded, with the option's number replaced if it is there."""
    before, option_text, after = completion.rpartition(options[correct])
    if not option_text:
        raise FieldError("completion", "none of the right option's text", f"an answer with option {correct} in it")
    return tuple(
        before.replace(f"ans{correct + 1}", f"ans{i + 1}") + option + after for i, option in enumerate(options)
    )


def _texts(value: Any, field: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) and text.strip() for text in value):
        raise FieldError(field, _described(value), "a list of texts")
    return tuple(value)


def _index(fields: Mapping[str, Any], field: str) -> int:
    value = fields.get(field)
    # Tables store an integer column with missing values as floating-point numbers.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in (0, 1, 2):
        raise FieldError(field, _described(value), "0, 1 or 2, the place of an option")
    return int(value)


def _one_of(fields: Mapping[str, Any], field: str, known: Sequence[str]) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or value not in known:
        raise FieldError(field, _described(value), f"one of {', '.join(known)}")
    return value


def _described(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:60]
