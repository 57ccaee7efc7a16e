"""The names of all parts, stages and files of a run folder, and of the folders that are made like one.

Who reads or writes one of them takes its name from here. How rows, tokens and tables of words are stored inside of a
folder of their own is their classes' business (`data.rows`, `data.tokens`, `suspicion.word_table`).
"""

from __future__ import annotations

from collections.abc import Sequence

# The parts of a run: what is filtered, what is reviewed, and rows of known kind. Of several safe sets each is a part,
# and so is what of each is set aside (`numbered`).
DATA, SAFE, TRUSTED, ASIDE, KNOWN_UNSAFE = "data", "safe", "trusted", "set-aside", "known-unsafe"
# The answers of preference data that were not chosen: scored beside the data, and nothing else.
REJECTED = "rejected"
# The package's own rows, to compare with: unsafe ones, safe answers to prompts of the same kinds, ordinary ones.
UNSAFE_PROTOTYPES = ("builtin-harmful", "builtin-toxic", "builtin-biased")
SAFE_PROTOTYPES, ORDINARY_PROTOTYPES = "builtin-safe", "builtin-ordinary"
# All unsafe prototypes, in runs of earlier versions.
EARLIER_PROTOTYPES = "builtin-unsafe"

# Files of a run folder that are there from its start on.
MANIFEST, CONFIG, LOG = "manifest.json", "config.yaml", "log.txt"
# Sizes and hashes of the files of a folder: of a run, and of each of its stages.
CHECKSUMS = "checksums.json"
# What a decision writes, beside the kept, the removed and the bad rows, whose names depend on the input's.
SUMMARY, SCORES, REASONS, OVERRIDES = "summary.json", "scores.parquet", "reasons.jsonl", "overrides.json"
# Suspicion of the rows of known kind, as the last decision had it.
PLANTED_SCORES = "planted.parquet"
REPORT, EXAMPLES_FILE = "report.html", "examples.jsonl"
# Files of experiment trackers.
TRACKED = "tracking"

# The folder of the stages, the lock, a run that is set aside for its successor, and what is not whole yet.
STAGES, LOCK, PREVIOUS, PARTIAL = "stages", ".lock", ".previous", ".partial."
# What a decision replaces, until it is whole; and what was there.
BEFORE, BEFORE_NAMES = ".before", "names.json"
# What the folder of an unfinished stage has after its name. So had files in it with earlier versions, and where one was
# killed some are left.
UNFINISHED = ".partial"

# Stages in which the parts are read, turned into tokens, and answered by the model itself.
ROWS, TOKENS, ANSWERED = "rows", "tokens", "answers"
# Stages that save M1 and M2, the states of the model that the method names so; and M_ret, beside the other results.
LEARNED, REVIEWED, MODEL = "learned", "reviewed", "model"
# Stages that measure: forgetting, what else tells of a row, the same of rows that became known later; and examples.
FORGETTING, WITNESSES, KNOWN_LATER, EXAMPLES = "forgetting", "witnesses", "known-later", "examples"

# What speaks against M1 where it was trained elsewhere, in the stage that saves it.
DOUBTS = "doubts.json"
# Files of the tokens' stage, and of that of the model's own answers.
UNSHOWN, FRAMES, ANSWERS = "unshown.json", "frames.json", "answers.jsonl"
# Files of a session: its steps, what was seen along it, and what it goes on from after a kill.
HISTORY, POINTS, CHECKPOINT = "history.json", "points.json", "checkpoint.safetensors"
# Folders of a session, by step: scores, and answers to held-out rows.
WATCHED, ASKED = "watched-", "asked-"
# Files of cached activations, and how many rows they have.
ACTIVATIONS, ROWS_DONE = "states.bin", "done.txt"
# Files of what is known of rows besides forgetting, and what further rows are looked at with.
WITNESS_ROWS, WITNESS_STATES, WITNESS_WORDS = "rows.parquet", "states.npy", "words"
WITNESS_BASIS, WITNESS_VOCABULARY = "basis.npz", "vocabulary.parquet"
# Files of a rule that was fitted to a decision, for further rows; and the scores of such rows in a folder of theirs.
DISTILLED_RULE, HELD_OUT, DISTILLED_FOR, FURTHER_SCORES = "rule.npz", "held-out.npz", "decision.txt", "scores"
# What rows that became known later were read from.
KNOWN_LATER_INFO = "info.json"
# What `KeepLearned` notes beside a model that it saves.
TRAINED_ELSEWHERE = "forgetfilter.json"
# The files of a folder with scores, in order.
SHARDS = "part-*.parquet"
# Which model or list a rival went by, and which decision the final model is made from.
TOLD_BY, DECISION = "told-by.txt", "decision.json"
# The tokens of a stage that has those of one set of rows alone.
ONLY_TOKENS = "tokens.arrow"

# Of further rows that a run was applied to: what became of them, and what was applied to what.
APPLIED, APPLIED_MANIFEST = "applied.json", "applied-manifest.json"
# Of a data set of an experiment: what it was read from.
MADE_OF = "made-of.txt"
# Files of an evaluation, whose answers are called as above; of a mix, a comparison and a study.
EVALUATION, EVALUATION_MANIFEST = "evaluation.json", "evaluation-manifest.json"
MIX, MIX_FILES = "mix.json", ("noisy.jsonl", "safe.jsonl", "held-out.jsonl")
RECORDS, TABLES = "records.jsonl", "tables.md"
FINDING, FINDING_TABLE, FINDING_JSON, FIGURE = "finding.md", "data.parquet", "data.json", "figure"
# Folders of a comparison and of studies: runs of the filter, experiments, and rows that a study made.
FILTER_RUN, ALIGNING, EXPERIMENTS, FILTERS, STUDY_ROWS = "filter", "aligning", "labs", "filters", "rows"


def numbered(name: str, safe: Sequence[object]) -> list[str]:
    """A name for each of some safe sets: `safe`, `safe-2`, `safe-3`; that of a single one is the name itself."""
    return [name, *(f"{name}-{number}" for number in range(2, len(safe) + 1))]


def tokens_of(part: str) -> str:
    """The file with the tokens of a part, in the stages that have tokens."""
    return f"{part}.arrow"


def table_of(part: str) -> str:
    """The file with a table of a part's rows, in the stages that measure."""
    return f"{part}.parquet"


def bad_rows_of(part: str, suffix: str) -> str:
    """The file of a run folder in which the rows of a part that cannot be used are set aside."""
    return ("bad" if part == DATA else f"bad-{part}") + suffix


def scores_of(state: str) -> str:
    """The stage that keeps the scores of a state of the model, a folder for each part."""
    return f"{state}-scores"


def logprobs_of(state: str) -> str:
    """The stage that keeps the log-probabilities of a state of the model, which some rivals share."""
    return f"{state}-logprobs"


def activations_of(name: str) -> str:
    """The stage that caches what the frozen blocks make of a file's rows."""
    return f"{name}-states"


def rival_stage(name: str) -> str:
    """The stage that keeps a rival's tables, one for each part."""
    return f"rival-{name}"


def distilled_stage(evidence: str) -> str:
    """The stage that keeps the rule for further rows which goes by some of the evidence."""
    return f"distilled-{evidence}"


def data_of(name: str) -> str:
    """The stage of an experiment that keeps a data set's rows and tokens."""
    return f"data-{name}"


def shard_name(number: int) -> str:
    """One of the files with scores in a folder of them."""
    return SHARDS.replace("*", f"{number:06d}")
