"""Turn what the user names into checked rows and tokens, before any model is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..console import Console, count_of, printable
from ..data.chats import Chat
from ..data.columns import PREFERENCE
from ..data.containers import open_container
from ..data.draw import in_random_order
from ..data.frame_search import ANSWERS_SEEN
from ..data.frames import Frame
from ..data.own_words import NONE as WHOLE
from ..data.own_words import FrameCounts, is_expression
from ..data.records import Container, hash_chunks
from ..data.rows import ReadOptions, Rows, Said, read_chats, read_rows
from ..data.splits import DEFAULT
from ..data.text_files import TextOptions
from ..data.tokens import Encoder, TokenTable, write_tokens
from ..errors import InputError, SettingsError
from ..forgetting.cuts import FalseDiscoveryRate
from ..forgetting.signals import ALL, learned_blocks, learned_tokens
from ..forgetting.thresholds import parse_threshold
from ..models.checkpoint import Checkpoint, find_checkpoint
from ..models.sources import ModelSource, find_model, tokenizer_bytes
from ..settings.groups import SafeSettings, Settings
from ..settings.option import with_options
from .files import read_json, start_afresh, write_json
from .layout import (
    ANSWERED,
    ANSWERS,
    ASIDE,
    DATA,
    FRAMES,
    KNOWN_UNSAFE,
    REJECTED,
    ROWS,
    SAFE,
    TOKENS,
    TRUSTED,
    UNSHOWN,
    bad_rows_of,
    numbered,
    tokens_of,
)
from .run import Run, Stages

# Why one data set is not named for two parts.
NOT_BOTH = "rows known to be unsafe cannot be harmless, too"
NOT_DATA = "nothing is known of the rows of the data"
BUILTIN, SELF, NONE = "builtin", "self", "none"
_BUILTIN = {SAFE: "safe", TRUSTED: "ordinary"}
# A hostile file may have a different name in every row.
_NAMES_KEPT, _NAMES_SHOWN, _NAME_WIDTH = 1000, 10, 40


@dataclass(frozen=True)
class Inputs:
    """The data sets and the model of a run, found but not yet read.

    Attributes:
        parts: The data sets that are read, by part: the data, mostly safe examples, perhaps rows of known kind.
        model: The aligned model.
        learned: M1, where it was trained elsewhere.
    """

    parts: dict[str, Container]
    model: ModelSource
    learned: Checkpoint | None = None


class Material:
    """Gives access to the rows and tokens of a run, by part, once they are read."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def parts(self) -> list[str]:
        """Return the parts that are learned and scored: the data, and the rows of known kind that there are."""
        planted = planted_parts(self._run.settings.safe)
        return [DATA, *(part for part in planted if (self._run.folder(TOKENS) / tokens_of(part)).exists())]

    @property
    def safe_parts(self) -> list[str]:
        """Return the parts that are reviewed: each of the safe sets."""
        return numbered(SAFE, self._run.settings.safe.safe)

    @property
    def scored(self) -> list[str]:
        """Return the parts that are scored: those that are learned, and the rejected answers of preference data."""
        learned = [DATA] if self._run.settings.sessions.learned else self.parts
        return [*learned, *([REJECTED] if (self._run.folder(TOKENS) / tokens_of(REJECTED)).exists() else [])]

    def said(self, part: str) -> Iterator[Said]:
        """Yield id, position and chat of every usable row of a part."""
        return self.rows(DATA).rejected() if part == REJECTED else self.rows(part).usable()

    def rows(self, part: str) -> Rows:
        """Open a part's rows; rows set aside are among the safe ones."""
        set_aside = zip(numbered(ASIDE, self._run.settings.safe.safe), self.safe_parts, strict=True)
        return Rows.open(self._run.folder(ROWS) / dict(set_aside).get(part, part))

    def tokens(self, *parts: str) -> TokenTable:
        """Open the tokens of some parts, one after the other."""
        return TokenTable(*self.files(*parts).values())

    def files(self, *parts: str) -> dict[str, Path]:
        """Return the files of the parts' tokens; with `--safe self` the safe ones are the model's answers."""
        self_made = own_answers_part(self._run.settings.safe)
        return {part: self._run.folder(ANSWERED if part == self_made else TOKENS) / tokens_of(part) for part in parts}

    def texts(self, part: str) -> Iterator[tuple[str, str]]:
        """Yield prompt and completion of every row of a part's tokens, in order."""
        if part == own_answers_part(self._run.settings.safe):
            yield from self._own_answers()
            return
        wanted = set(self.tokens(part).rows.tolist())
        for _, row, chat in self.rows(part).usable():
            if row in wanted:
                yield chat.prompt, chat.completion

    def _own_answers(self) -> Iterator[tuple[str, str]]:
        """Yield the prompts that the model itself answered, and its answers."""
        answers = str(self._run.folder(ANSWERED) / ANSWERS)
        for _, _, chat in read_chats(open_container(answers, "train"), ReadOptions()):
            # An answer that cannot be read has tokens all the same.
            yield (chat.prompt, chat.completion) if isinstance(chat, Chat) else ("", "")


def planted_parts(safe: SafeSettings) -> list[str]:
    """Return the parts that may have rows of known kind."""
    return [TRUSTED, *numbered(ASIDE, safe.safe), KNOWN_UNSAFE]


def own_answers_part(safe: SafeSettings) -> str | None:
    """Return the safe part that consists of the model's own answers; None where the user did not choose them."""
    return dict(zip(safe.safe, numbered(SAFE, safe.safe), strict=False)).get(SELF)


def find_inputs(settings: Settings, in_memory: dict[str, Container] | None = None) -> Inputs:
    """Find the data sets and the model that the settings name, except parts that are in memory already.

    Raises:
        InputError: A data set is not there.
        ModelError: The model is not there.
        SettingsError: The threshold needs trusted rows, and there are none; or a safe set is named twice.
    """
    safe = settings.safe.safe
    places = [Path(name).expanduser().resolve() for name in safe]
    twice = [name for name, place in zip(safe, places, strict=True) if places.count(place) > 1]
    if twice:
        raise SettingsError(f"safe: '{twice[-1]}' is named twice; each set is reviewed once")
    threshold = parse_threshold(settings.decision.threshold)
    none_trusted = settings.planted.trusted in ("", NONE) and not _sets_aside(settings)
    if isinstance(threshold, FalseDiscoveryRate) and settings.sessions.learned:
        raise threshold.none_learned()
    if isinstance(threshold, FalseDiscoveryRate) and none_trusted:
        raise threshold.no_trusted_rows()
    text = TextOptions(settings.data.encoding, settings.data.delimiter)
    # The user's options describe the data; to the other parts only the encoding applies, where they are not UTF-8.
    others = TextOptions(settings.data.encoding, where_needed=True)
    named = {
        **{part: (name, settings.safe.safe_split) for part, name in _safe_files(settings.safe).items()},
        TRUSTED: (settings.planted.trusted, DEFAULT),
        KNOWN_UNSAFE: (settings.planted.known_unsafe, DEFAULT),
    }
    parts = dict(in_memory or {})
    if DATA not in parts and settings.data.data:
        parts[DATA] = open_container(settings.data.data, settings.data.split, text)
    for part, (source, split) in named.items():
        if part not in parts and source not in ("", NONE):
            if source == BUILTIN and part != KNOWN_UNSAFE:
                source = str(builtin(TRUSTED if part == TRUSTED else SAFE))
            parts[part] = open_container(source, split, others)
    return Inputs(parts, find_model(settings.model.model, settings.model.revision), find_learned(settings))


def find_learned(settings: Settings) -> Checkpoint | None:
    """Find M1 where the settings name one that was trained elsewhere.

    Raises:
        ModelError: It is not there, or nothing that the review can go on with.
        SettingsError: It is an adapter, and all weights are to be trained.
    """
    if not settings.sessions.learned:
        return None
    learned = find_checkpoint(settings.sessions.learned)
    if learned.lora is not None and settings.adapter.full_finetuning:
        raise SettingsError(
            f"full_finetuning: {learned.folder} is an adapter, with which the review goes on; leave it out"
        )
    return learned


def _safe_files(safe: SafeSettings) -> dict[str, str]:
    """Return the safe sets that are read, by part: all but the model's own answers."""
    named = zip(numbered(SAFE, safe.safe), safe.safe, strict=False)
    return {part: name for part, name in named if name != SELF}


def builtin(part: str) -> Path:
    """Return the file of the package's own rows for a part.

    For `safe`, demonstrations of safe behaviour: refusals that help, unbiased answers, courteous text. For
    `trusted`, ordinary instructions and answers.
    """
    return prototypes(_BUILTIN[part])


def prototypes(kind: str) -> Path:
    """Return the file of the package's rows for comparison: `harmful`, `toxic`, `biased`, `safe` or `ordinary` ones."""
    return Path(str(files("forgetfilter.builtin"))) / f"{kind}.jsonl"


def read_parts(run: Run, inputs: Inputs, encoder: Encoder, console: Console) -> None:
    """Read and check all data sets before anything is trained."""
    if run.has(ROWS):
        return
    data, safe = run.settings.data, run.settings.safe
    as_data = ReadOptions(data.layout, data.columns, data.skip_bad_rows)
    as_safe = ReadOptions(safe.safe_layout, safe.safe_columns, data.skip_bad_rows)
    options = dict.fromkeys((DATA, TRUSTED, KNOWN_UNSAFE), as_data) | dict.fromkeys(numbered(SAFE, safe.safe), as_safe)
    sources = {**_safe_files(safe), TRUSTED: run.settings.planted.trusted}
    options |= {part: ReadOptions() for part, source in sources.items() if source == BUILTIN}
    folder = run.partial(ROWS)
    start_afresh(folder)
    for part, container in inputs.parts.items():
        of_package = "the package's ordinary rows" if part == TRUSTED else "the package's safe examples"
        name = of_package if sources.get(part) == BUILTIN else container.name
        read_part(run, part, container, options[part], folder / part, encoder.check, console, name)
        refuse_changed(container, run.fingerprint(part))
    run.finish(ROWS)


def refuse_changed(container: Container, fingerprint: str) -> None:
    """Check that what was just read is still what it was before, where a fingerprint was taken.

    Raises:
        InputError: It has changed meanwhile, so that what was read may be neither.
    """
    if fingerprint and container.fingerprint() != fingerprint:
        raise InputError(f"{container.name}: changed while it was read; run the same command again once it is complete")


def refuse_same(name: str, fingerprint: str, others: Mapping[str, str], because: str) -> None:
    """Check that a data set is not named for another part as well.

    Args:
        name, fingerprint: The data set.
        others: The fingerprints of the other parts, by part.
        because: What is wrong with naming it for both.

    Raises:
        InputError: One of these is the same data set.
    """
    for part, other in others.items():
        if other == fingerprint:
            kind = {DATA: "data", TRUSTED: "trusted rows"}.get(part, "safe examples")
            raise InputError(f"{name}: holds the same as the {kind}; {because}: name another file for one of the two")


def read_part(
    stages: Stages,
    part: str,
    container: Container,
    options: ReadOptions,
    folder: Path,
    check: Callable[[Chat], None],
    console: Console,
    name: str = "",
) -> Rows:
    """Read and check one data set into a folder, and report what was not read or cannot be used."""
    start_afresh(folder)
    with console.progress(f"reading {name or container.name}", 0, "rows") as progress:
        rows = read_rows(container, options, folder, progress.advance, check)
        layout = f"layout {rows.layout}{rows.columns_told}"
        progress.note = ", ".join(part for part in (layout, rows.note, rows.unread_told) if part)
    for line in rows.not_read:
        console.say(line)
    if rows.bad:
        file = bad_rows_of(part, rows.suffix)
        stages.write_file(file, rows.write_bad)
        counted = count_of(len(rows.bad), "row")
        console.say(f"{counted} that cannot be used: set aside in {file}; the first: {rows.bad[0]}")
    return rows


def tokenize_parts(run: Run, encoder: Encoder, console: Console) -> None:
    """Turn all data sets into tokens, and report what did not fit."""
    if run.has(TOKENS):
        encoder.own_words.frames = read_frames(run)
        return
    with console.together("turning rows into tokens"):
        counts = _tokenize_parts(run, encoder, console)
    told = _planted_told(counts, errors_told=not run.settings.sessions.learned)
    if told:
        console.say(told)
    run.finish(TOKENS)


def _tokenize_parts(run: Run, encoder: Encoder, console: Console) -> dict[str, int]:
    """Write the tokens of all parts, and return how many rows the data has and each part of known kind."""
    planted, seed, own_words = run.settings.planted, run.settings.training.seed, run.settings.tokens.own_words
    safe, folder = run.settings.safe.safe, run.partial(TOKENS)
    sample = _count(Rows.open(run.folder(ROWS) / DATA), run.settings.sample.limit)
    _find_frames(run, encoder, folder, sample)
    # This many rows of known kind suffice, and do not make learning much longer.
    most = sample // 4
    aside_of = dict(zip(numbered(SAFE, safe), numbered(ASIDE, safe), strict=True))
    counts: dict[str, int] = {}
    for part in (DATA, *aside_of, TRUSTED, KNOWN_UNSAFE):
        if not (run.folder(ROWS) / part).is_dir():
            continue
        rows = Rows.open(run.folder(ROWS) / part)
        count, chosen = _count(rows), np.ones(rows.count, dtype=bool)
        unshown: Counter[str] = Counter()
        if part == DATA and sample < count:
            console.say(
                f"{rows.name}: a random sample of {sample:,} of {count:,} rows; the others are left as they are"
            )
            count, chosen = sample, _drawn(rows, sample, seed)
        if part == TRUSTED and planted.trusted == BUILTIN:
            count = min(most, count)
            chosen = _drawn(rows, count, seed)
        if part in aside_of and planted.set_aside > 0:
            apart = min(most // len(aside_of), int(planted.set_aside * count))
            aside = _drawn(rows, apart, seed)
            if apart:
                counts[aside_of[part]] = apart
                name = f"{apart:,} safe rows set aside"
                write_part(name, _only(rows, aside), apart, encoder, folder / tokens_of(aside_of[part]), console)
            count, chosen = count - apart, ~aside
        if count:
            counts[part] = count
            path = folder / tokens_of(part)
            framed = write_part(rows.name, _only(rows, chosen), count, encoder, path, console, unshown=unshown)
        if part == DATA:
            write_json(dict(sorted(unshown.most_common(_NAMES_KEPT))), folder / UNSHOWN)
            if unshown:
                console.say(f"{rows.name}: {unshown_told(unshown)}")
        if part == DATA and is_expression(own_words) and not framed:
            raise InputError(f"{rows.name}: own_words: no answer matches '{own_words}'; 'preview' shows rows")
        if part == DATA and rows.layout == PREFERENCE:
            name, path = f"{rows.name}, rejected answers", folder / tokens_of(REJECTED)
            rejected = (row for row in rows.rejected() if chosen[row[1]])
            write_part(name, rejected, count, encoder, path, console, needed=False)
    return {part: count for part, count in counts.items() if part in (DATA, *planted_parts(run.settings.safe))}


def _planted_told(counts: Mapping[str, int], *, errors_told: bool) -> str:
    """Describe the rows of known kind beside those of the data, and what they are for; empty where there are none.

    Args:
        counts: Rows of each part.
        errors_told: Whether they will show errors of a threshold.
    """
    of_known_kind = sum(count for part, count in counts.items() if part != DATA)
    aside = of_known_kind - counts.get(TRUSTED, 0) - counts.get(KNOWN_UNSAFE, 0)
    kinds = [
        (counts.get(TRUSTED, 0), "known to be harmless", "how many harmless rows a threshold would remove"),
        (aside, "of the safe examples", "how many harmless rows a threshold would remove"),
        (counts.get(KNOWN_UNSAFE, 0), "known to be unsafe", "how many unsafe rows it would find"),
    ]
    there = [(f"{count_of(count, 'row')} {kind}", purpose) for count, kind, purpose in kinds if count]
    if not there:
        return ""
    purposes = " and ".join(dict.fromkeys(purpose for _, purpose in there))
    show = f"show {purposes}, and " if errors_told else ""
    return (
        f"{count_of(counts[DATA], 'row')} of yours and {of_known_kind:,} of known kind, which are counted with them: "
        f"{', '.join(rows for rows, _ in there)}; these {show}are in none of the output files"
    )


def _find_frames(run: Run, encoder: Encoder, folder: Path, sample: int) -> None:
    """Search some answers of the data's sample for frames, which apply to all parts; keep those that are found."""
    if encoder.own_words.looks:
        rows = Rows.open(run.folder(ROWS) / DATA)
        drawn = np.flatnonzero(_drawn(rows, min(ANSWERS_SEEN, sample), run.settings.training.seed)).tolist()
        encoder.own_words.look_at(chat for _, chat in rows.at(drawn))
        write_json([frame.stored for frame in encoder.own_words.frames], folder / FRAMES)


def read_frames(run: Run) -> list[Frame]:
    """Read the frames of a run's answers; none where answers are whole, or an expression finds their own words."""
    return [Frame.of(stored) for stored in read_json(run.folder(TOKENS) / FRAMES, [])]


def unshown_told(unshown: Mapping[str, int]) -> str:
    """Describe what the chat template leaves out of the rows."""
    often = sorted(unshown.items(), key=lambda item: (-item[1], item[0]))
    names = ", ".join(f"{printable(name, _NAME_WIDTH)} ({count:,})" for name, count in often[:_NAMES_SHOWN])
    names += f" and {len(often) - _NAMES_SHOWN:,} more" if len(often) > _NAMES_SHOWN else ""
    return f"the model's chat template does not show {names}; what is not shown is neither learned nor scored"


def read_unshown(run: Run) -> dict[str, int]:
    """Read what the chat template leaves out of the data, by name, and how often."""
    unshown: dict[str, int] = read_json(run.folder(TOKENS) / UNSHOWN, {})
    return unshown


def _sets_aside(settings: Settings) -> bool:
    return settings.planted.set_aside > 0 and bool(_safe_files(settings.safe))


def _count(rows: Rows, limit: int | None = None) -> int:
    """Count the usable rows, or of so many the sample that is filtered."""
    usable = rows.count - len(rows.bad)
    return usable if limit is None else min(limit, usable)


def _drawn(rows: Rows, count: int, seed: int) -> NDArray[np.bool_]:
    """Draw `count` usable rows, by their ids, so that the order of the file does not matter."""
    chosen = np.zeros(rows.count, dtype=bool)
    chosen[in_random_order(rows.ids(), seed)[:count]] = True
    return chosen


def _only(rows: Rows, chosen: NDArray[np.bool_]) -> Iterator[Said]:
    return (row for row in rows.usable() if chosen[row[1]])


def write_part(
    name: str,
    rows: Iterable[Said],
    count: int,
    encoder: Encoder,
    path: Path,
    console: Console,
    *,
    needed: bool = True,
    unshown: Counter[str] | None = None,
) -> int:
    """Write the tokens of `count` rows, with progress; return how many answers were taken out of a frame.

    What the chat template leaves out of the rows is counted in `unshown`, by name.

    Raises:
        InputError: Nothing of the completions is within the length limit, and they are `needed`.
    """
    framed: FrameCounts = Counter()
    with console.progress(f"tokenising {name}", count, "rows") as progress:
        for done in write_tokens(rows, encoder, path, unshown, framed):
            progress.advance(done - progress.done)
        table = TokenTable(path)
        if needed and not len(table.scorable):
            raise InputError(f"{name}: no completion begins within --max-length {encoder.max_length} tokens; raise it")
    notes = _cut_rows(table, encoder.max_length, encoder.own_words.describe(framed))
    if notes:
        console.say(f"{name}: {notes}")
    return framed.total()


def _cut_rows(table: TokenTable, limit: int, unframed: str) -> str:
    unscorable = len(table) - len(table.scorable)
    notes = [unframed] if unframed else []
    notes += [f"{int(table.truncated.sum()):,} cut to {limit:,} tokens (--max-length)"] if table.truncated.any() else []
    notes += [f"{unscorable:,} without any completion left"] if unscorable else []
    return ", ".join(notes)


def make_encoder(
    source: ModelSource, settings: Settings, *, whole: bool = False, learned: Checkpoint | None = None
) -> Encoder:
    """Make the encoder of a model: of rows as the filter learns and scores them, or of `whole` rows.

    Args:
        source: The model.
        settings: The template, the lengths and what is scored of each answer.
        whole: Whether whole rows are wanted.
        learned: M1, where it was trained elsewhere; a tokenizer that was saved with it holds, with its template.

    Raises:
        ModelError: The model has none, or M1 has another.
    """
    from ..models.fitting import tokenizer_of
    from ..models.loading import load_tokenizer, quiet_libraries

    quiet_libraries()
    tokenizer = load_tokenizer(source)
    if learned is not None:
        tokenizer = tokenizer_of(learned, tokenizer)
    tokens = settings.tokens
    if whole:
        return Encoder(tokenizer, tokens.template, tokens.max_length)
    most = learned_tokens(tokens.max_completion, settings.decision.signal)
    return Encoder(tokenizer, tokens.template, tokens.max_length, most, tokens.own_words)


def resolve(settings: Settings, encoder: Encoder) -> Settings:
    """Return the settings with `auto` resolved, and with absolute paths."""
    from ..models.loading import choose_hardware

    hardware = choose_hardware(settings.model, trained_fully=settings.adapter.full_finetuning)
    planted, tokens, adapter = settings.planted, settings.tokens, settings.adapter
    return with_options(
        settings,
        data=tuple(_absolute(name) for name in settings.data.data),
        safe=tuple(name if name in (SELF, BUILTIN) else _absolute(name) for name in settings.safe.safe),
        trusted=planted.trusted if planted.trusted in (BUILTIN, NONE) else _absolute(planted.trusted),
        known_unsafe=_absolute(planted.known_unsafe),
        # Nothing learns these rows where M1 was trained elsewhere, and the review can do with them.
        set_aside=0.0 if settings.sessions.learned else planted.set_aside,
        learned=_absolute(settings.sessions.learned),
        model=_absolute(settings.model.model),
        device=str(hardware.device),
        dtype=str(hardware.dtype).removeprefix("torch."),
        template=encoder.template,
        own_words=tokens.own_words or WHOLE,
        max_completion=encoder.max_completion or ALL,
        top_blocks=None if adapter.full_finetuning else adapter.top_blocks or learned_blocks(settings.decision.signal),
    )


def _absolute(name: str) -> str:
    if not name:
        return name
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def fingerprints(model: ModelSource, encoder: Encoder, learned: Checkpoint | None = None) -> dict[str, str]:
    """Compute what distinguishes model, tokenizer and template from others, and M1 where it was trained elsewhere."""
    from ..models.loading import model_fingerprint

    template = encoder.tokenizer.chat_template if encoder.template == "chat" else "plain"
    return {
        "model": model_fingerprint(model),
        "tokenizer": hash_chunks([tokenizer_bytes(encoder.tokenizer)]),
        "template": hash_chunks([str(template).encode("utf-8", "replace")]),
        **({"learned": learned.fingerprint} if learned else {}),
    }
