"""Score further rows by what a run has learned: a callable for `datasets.map`, and for other programs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..console import Console, printable
from ..data.chats import TEXT_ROLE, Chat, FieldError, Message
from ..data.columns import find_layout
from ..data.tokens import TokenTable, write_tokens
from ..errors import InputError, SettingsError
from ..forgetting.cuts import Cut
from ..runs.inputs import read_frames
from ..runs.layout import DATA, ONLY_TOKENS, WITNESS_VOCABULARY, WITNESSES
from ..runs.run import Run
from ..settings.groups import EVIDENCE, LAYOUTS
from ..settings.option import with_options
from ..stages.witnesses import measure_further, read_witnesses_of, words_and_pairs
from ..suspicion.fusing import STATES
from ..suspicion.rules import Features
from ..suspicion.word_table import Vocabulary, WordTable
from .fitting import FittedRule, fitted_rule

if TYPE_CHECKING:
    from ..models.stage_runner import StageRunner

FloatArray = NDArray[np.floating]
# The column that a scorer adds to a table.
COLUMN = "forgetfilter_suspicion"
_WORDS_SHOWN, _WORD_WIDTH = 3, 24


@dataclass(frozen=True)
class Scored:
    """What is said of n further rows.

    Attributes:
        suspicion: Suspicion, shape (n,); NaN where a row has no words, or no completion that the model can read.
        by_words, by_states: What words and states contribute to it, shape (n,).
        words: The words of each row that contribute most, at most three.
    """

    suspicion: FloatArray
    by_words: FloatArray
    by_states: FloatArray
    words: list[list[str]]


class RowScorer:
    """Scores rows that a run never saw by the rule that was distilled from its decision; nothing is trained.

    A scorer goes with `datasets.map`, into whose rows it puts the column `forgetfilter_suspicion`, and into the
    processes of other programs: it is pickled without the model, which each process loads when it first needs it.

    Example:
        >>> scorer = RowScorer.load("run")
        >>> rows.map(scorer, batched=True).filter(lambda row: scorer.keeps(row["forgetfilter_suspicion"]))

    Attributes:
        cut: Rows above it would be removed; none where its value is None.
        agreement: How well the rule agrees with the run about the run's own rows, each predicted without it.
        unit: The unit of suspicion.
        key: Identifies the decision that the rule was distilled from.
    """

    def __init__(
        self,
        run: Run,
        fitted: FittedRule,
        evidence: str,
        cut: Cut,
        layout: str = "auto",
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.cut, self.agreement, self.unit, self.key = cut, fitted.agreement(cut), fitted.unit, fitted.key
        self._run, self._rule, self._evidence = run, fitted.rule, evidence
        self._layout, self._columns = layout, dict(columns or {})
        self._vocabulary = Vocabulary.load(run.folder(WITNESSES) / WITNESS_VOCABULARY)
        self._names = self._vocabulary.names()
        # Pairs are hashed, so that nobody could read them.
        self._shown = pc.invert(pc.ends_with(self._names, ".")).fill_null(False).to_numpy(zero_copy_only=False)
        self._runner: StageRunner | None = None

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        evidence: str = EVIDENCE[0],
        *,
        threshold: str | float = "auto",
        layout: str = "auto",
        columns: Mapping[str, str] | None = None,
        device: str | None = None,
    ) -> RowScorer:
        """Make a scorer from a run that was decided; the rule is fitted at the first call, which takes seconds.

        Args:
            run: The run folder.
            evidence: `words`, or `states`, which adds hidden states of the run's model.
            threshold: A number in the run's unit; `top:10%` or `fdr:5%` of the run's own rows; `auto` is as strict as
                the run was decided.
            layout: The layout of the rows; `auto` looks at the first row of each batch.
            columns: Where the fields of the layout are: field to column.
            device: Where the model runs; None is where the run was made.

        Raises:
            RunError: There is no run, nothing was decided in it, or it was not decided by suspicion.
            SettingsError: A setting is not what it can be.
        """
        for name, value, values in (("evidence", evidence, EVIDENCE), ("layout", layout, LAYOUTS)):
            if value not in values:
                raise SettingsError(f"{name} must be one of {', '.join(values)}; found {value!r}")
        if not isinstance(run, (str, os.PathLike)):
            raise InputError(f"run: expected a path, found {repr(run)[:60]}")
        opened = Run.open(Path(run).absolute())
        fitted = fitted_rule(opened, evidence)
        if device is not None:
            opened.settings = with_options(opened.settings, device=device)
        return cls(opened, fitted, evidence, fitted.cut(str(threshold)), layout, columns)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_runner": None}

    def __call__(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[float | None]]:
        """Score a batch of rows, column by column as `datasets.map(batched=True)` hands it over.

        Returns:
            The column `forgetfilter_suspicion`; None where a row cannot be scored.

        Raises:
            InputError: The layout of the rows is not known.
            SettingsError: This is a row, not a batch.
        """
        if not isinstance(rows, Mapping) or not all(map(_is_of_a_batch, rows.values())):
            raise SettingsError("a scorer takes a batch of rows, by column; use rows.map(scorer, batched=True)")
        names = list(rows)
        records = [dict(zip(names, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        if not records:
            return {COLUMN: []}
        layout = find_layout(records[0], self._layout, self._columns, "rows")
        chats: list[Chat | None] = []
        for record in records:
            try:
                chats.append(layout.chat(record))
            except FieldError:
                chats.append(None)
        suspicion = self.score(chats).suspicion.tolist()
        return {COLUMN: [None if value != value else value for value in suspicion]}

    def keeps(self, suspicion: float | None) -> bool:
        """Tell whether a row of this suspicion is kept; one without a score is."""
        return suspicion is None or self.cut.value is None or not suspicion > self.cut.value

    def reason(self, suspicion: float, words: Iterable[str]) -> str:
        """Explain in a sentence why a row of this suspicion is removed."""
        shown = ", ".join(f"“{printable(word, _WORD_WIDTH)}”" for word in words)
        cut = "" if self.cut.value is None else f" (the threshold is {self.cut.value:.3g} {self.unit})"
        by = f", most of all by its words {shown}" if shown else ""
        return f"like rows that the run removed: suspicious by {suspicion:.3g} {self.unit}{cut}{by}"

    def score_texts(self, texts: Iterable[str]) -> Scored:
        """Score plain texts."""
        return self.score([Chat([Message(TEXT_ROLE, text, trained=True)]) for text in texts])

    def score(self, chats: Sequence[Chat | None]) -> Scored:
        """Score rows, n of them; None stands for a row that cannot be read.

        Raises:
            ModelError: The model, which states need, is not there, or is not the run's.
        """
        texts = [chat.completion if chat is not None else "" for chat in chats]
        documents = [words_and_pairs(text) for text in texts]
        table = self._vocabulary.weigh(documents)
        if self._evidence == STATES:
            scorable, states = self._states(chats, len(self._rule.coefficients) - table.width)
        else:
            scorable, states = np.array([bool(words) for words in documents]), np.empty((len(chats), 0))
        by_words, by_states = self._rule.parts(Features(table, states))
        suspicion = np.where(scorable, by_words + by_states, np.nan)
        return Scored(suspicion, by_words, by_states, self._most_suspicious(table))

    def _states(self, chats: Sequence[Chat | None], width: int) -> tuple[NDArray[np.bool_], FloatArray]:
        """Compute the states of rows with the model, and tell which rows have any; the others get zeros."""
        scorable, states = np.zeros(len(chats), dtype=bool), np.zeros((len(chats), width), dtype=np.float32)
        said = [(str(i), i, chat) for i, chat in enumerate(chats) if chat is not None and self._is_taken(chat)]
        if not said:
            return scorable, states
        runner = self.runner
        with tempfile.TemporaryDirectory(prefix="forgetfilter-") as name:
            folder, tokens = Path(name), Path(name) / ONLY_TOKENS
            for _ in write_tokens(said, runner.encoder, tokens):
                pass
            found = TokenTable(tokens)
            having = found.rows[found.scorable]
            if len(having):
                runner.check_tokens([tokens])
                measure_further(runner, DATA, found, (chat.completion for *_, chat in said), folder)
                scorable[having], states[having] = True, read_witnesses_of(folder).features.states
        return scorable, states

    @property
    def runner(self) -> StageRunner:
        """Open the run's model, once.

        Raises:
            ModelError: The model is not there.
            RunError: It is not the one that the run was made with.
        """
        if self._runner is None:
            from ..stages.filter_run import FilterRun

            self._runner = FilterRun.reopen(self._run, Console(quiet=True)).runner
            self._runner.encoder.own_words.frames = read_frames(self._run)
        return self._runner

    def _is_taken(self, chat: Chat) -> bool:
        try:
            self.runner.encoder.check(chat)
        except FieldError:
            return False
        return True

    def _most_suspicious(self, table: WordTable) -> list[list[str]]:
        """Name the words of each row that contribute most to its suspicion, the first the most."""
        contributions = table.weights * self._rule.coefficients[table.words]
        speaking = np.flatnonzero((contributions > 0) & self._shown[table.words])
        order = speaking[np.lexsort((-contributions[speaking], table.rows[speaking]))]
        rows = table.rows[order]
        nth = np.arange(len(rows)) - np.searchsorted(rows, rows)
        order = order[nth < _WORDS_SHOWN]
        names = self._names.take(pa.array(table.words[order])).to_pylist()
        words: list[list[str]] = [[] for _ in range(table.count)]
        for row, name in zip(table.rows[order].tolist(), names, strict=True):
            words[row].append(name)
        return words


def _is_of_a_batch(values: Any) -> bool:
    """Tell a column of a batch from a field of a single row: a text, a number, a structure, or a chat's messages."""
    if isinstance(values, (str, Mapping)) or not hasattr(values, "__len__"):
        return False
    first = values[0] if len(values) else None
    return not (isinstance(first, Mapping) and any(key in first for key in ("role", "from")))
