"""Every setting of the filter, written once: its name, type, default and help; `experiments` has those of studies.

The command line, configuration files, the run folder and the Python interface all read the classes
below. Each group belongs to the part of the package that consumes it, and a command's settings hold the
groups that it needs; an option is in one of them alone, so that a configuration file is one flat mapping.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import regex

from ..console import printable
from ..errors import SettingsError
from ..forgetting.signals import DEFAULT_SIGNAL, RIVALS, SIGNALS, MostTokens
from ..forgetting.thresholds import parse_threshold
from ..limits import ExceededError, bounded
from .option import Names, option, split_names

# What compiling an expression may take, and how much of a name is shown.
_PATTERN_MEMORY, _PATTERN_SECONDS = 1 << 30, 10.0
_SHOWN = 60


def _check_own_words(pattern: str) -> None:
    # Nothing is none, in runs of before there was a word for it; `auto` and `none` are expressions, too.
    try:
        with bounded(_PATTERN_MEMORY, _PATTERN_SECONDS):
            regex.compile(pattern, regex.DOTALL)
    except (regex.error, RecursionError) as error:
        problem = "too deep" if isinstance(error, RecursionError) else error
        raise SettingsError(f"own_words: '{printable(pattern, _SHOWN)}' is no regular expression: {problem}") from error
    except ExceededError as error:
        raise SettingsError(f"own_words: '{printable(pattern, _SHOWN)}' takes {error}; make it simpler") from error


def names_among(setting: str, kind: str, known: Collection[str]) -> Callable[[str], None]:
    """Make a check of names with commas between: each has to be among the known ones."""

    def check(value: str) -> None:
        unknown = [name for name in split_names(value) if name not in known]
        if unknown:
            found = printable(unknown[0], _SHOWN)
            raise SettingsError(f"{setting}: there is no {kind} '{found}'; there are {', '.join(known)}")

    return check


LAYOUTS = ("auto", "prompt-completion", "messages", "sharegpt", "alpaca", "preference", "kto", "text")


@dataclass(frozen=True)
class DataSettings:
    """How the untrusted data set is read."""

    data: Names = option(
        (), "untrusted data of one layout: files, folders, globs, saved datasets, hub data sets", shown="DATA"
    )
    layout: str = option("auto", "layout of the rows; auto looks at them", choices=LAYOUTS)
    columns: dict[str, str] = option(
        {},
        "where the fields are, e.g. prompt=question,completion=answer; none: as the layout names them",
        shown="FIELD=COLUMN",
        usual=True,
    )
    split: str = option(
        "train",
        "what to read of data that has splits: train, train+test, train[:10%], all, …",
        shown="SPLIT",
        usual=True,
    )
    encoding: str = option(
        "", "encoding of text files, such as cp1252; empty: UTF-8, or what a file's own mark says", shown="NAME"
    )
    delimiter: str = option(
        "", "what stands between the values of csv files, or tab; empty: found by looking", shown="CHARACTER"
    )
    skip_bad_rows: bool = option(
        False, "set unusable rows aside into a file of their own instead of stopping", usual=True
    )


@dataclass(frozen=True)
class SampleSettings:
    """How much of the data is filtered."""

    limit: int | None = option(
        None, "filter a random sample of N rows of the data, drawn by id; none is all rows", least=1, usual=True
    )


@dataclass(frozen=True)
class SafeSettings:
    """How the safe examples are read."""

    safe: Names = option(
        (),
        "safe examples for the review, in any of the layouts that the data may have; builtin: those of the package; "
        "self: the aligned model's own answers to the data's prompts; may be given several times, each set with a "
        "review of its own",
        shown="FILE",
        usual=True,
    )
    safe_layout: str = option("auto", "layout of the safe rows", choices=LAYOUTS)
    safe_columns: dict[str, str] = option(
        {}, "where the fields of the safe rows are; none: as the layout names them", shown="FIELD=COLUMN"
    )
    safe_split: str = option(
        "train", "what to read of safe examples that have splits, as --split is written", shown="SPLIT"
    )
    self_answers: int = option(200, "how many prompts of the data the model answers with --safe self", least=1)


@dataclass(frozen=True)
class PlantedSettings:
    """Rows of known kind, learned along with the data and left out of the output: they tell a threshold's errors."""

    trusted: str = option(
        "builtin",
        "rows known to be harmless, like the harmless rows of the data; read as the data is; builtin: ordinary "
        "instructions of the package, at most a quarter as many as the data has rows; none: no such rows",
        shown="FILE",
    )
    set_aside: float = option(
        0.25,
        "share of the safe examples that is learned with the data, as further trusted rows, instead of reviewed, 0 to "
        "0.9; at most a quarter as many as the data has rows",
        least=0,
        most=0.9,
        shown="SHARE",
    )
    known_unsafe: str = option("", "rows known to be unsafe; read as the data is", shown="FILE", usual=True)


@dataclass(frozen=True)
class ModelSettings:
    """Which aligned model, and where it runs."""

    model: str = option(
        "", "aligned model: a hub id, a local folder, a GGUF file, or smollm2-135m", shown="MODEL", usual=True
    )
    revision: str | None = option(None, "branch, tag or commit of a hub model; none is its main branch", shown="NAME")
    device: str = option("auto", "where to run: auto, cpu, cuda, cuda:1, mps, …", shown="DEVICE")
    dtype: str = option(
        "auto",
        "number format of the weights; auto is bfloat16 on a GPU and on a CPU with units for it (AMX, AVX512_BF16), "
        "float32 on other CPUs and with --full-finetuning",
        choices=("auto", "float32", "bfloat16"),
    )


@dataclass(frozen=True)
class AdapterSettings:
    """What is trained: a LoRA adapter, or every weight."""

    full_finetuning: bool = option(False, "train every weight instead of a LoRA adapter")
    lora_rank: int = option(8, "rank of the LoRA adapter", least=1, most=4096)
    lora_alpha: float = option(
        16.0, "scale of the LoRA adapter; its update is multiplied by alpha/rank", above=0, most=1e6
    )
    lora_dropout: float = option(0.0, "dropout inside the LoRA adapter, 0 to 0.99", least=0, most=0.99, shown="SHARE")
    lora_targets: str = option(
        "all-linear",
        "layers that get an adapter: all-linear, last-block, query-value (the paper's), or names such as q_proj,v_proj",
        listed=True,
        shown="LAYERS",
    )
    top_blocks: float | None = option(
        None,
        "share of the model's blocks, from the top, that get one; the filter goes through the others once; none is "
        "0.5 for the filter's own sessions, 1 with the signal rouge, in the final fine-tuning and elsewhere",
        least=0.01,
        most=1,
        shown="SHARE",
    )


@dataclass(frozen=True)
class TokenSettings:
    """How rows become tokens."""

    template: str = option(
        "auto",
        "chat: the model's chat template; plain: prompt, newline, completion; auto: chat where the model has one",
        choices=("auto", "chat", "plain"),
    )
    max_length: int = option(512, "longest row, in tokens; what lies beyond is cut off and counted", least=2)
    max_completion: MostTokens = option(
        None,
        "most tokens of each answer to learn and score; the rest is not judged. all: whole answers; none is 32, of "
        "which the default signal and likelihood judge the first 24 and others all, or whole answers for rouge",
        least=1,
        usual=True,
    )
    own_words: str = option(
        "auto",
        'what the filter learns and scores of answers that share a frame, such as "The answer is ans2: yes"; auto: '
        "what differs between them, frames being found by looking at the data; none: whole answers; else a regular "
        "expression whose first group it is, such as 'ans\\d: (.*)'; the final fine-tuning has all",
        check=_check_own_words,
        shown="EXPRESSION",
    )


@dataclass(frozen=True)
class PassSettings:
    """How much goes through the model at once. Changes speed and memory, and results by rounding alone."""

    tokens_per_batch: int | None = option(
        None, "most tokens in one forward pass; none is 1024 on a CPU (1536 in bfloat16), 16384 elsewhere", least=1
    )


@dataclass(frozen=True)
class TrainingSettings:
    """One training session. Learning, review and the final fine-tuning all use these."""

    learning_rate: float | None = option(
        None,
        "peak learning rate; none is 0.576 over the model's width with LoRA (1e-3 for SmolLM2-135M, 1.4e-4 for a "
        "7B model; the paper uses 2e-4), and a tenth of that for full fine-tuning",
        above=0,
        most=100,
        shown="RATE",
    )
    batch_size: int = option(16, "rows in one optimizer step, over all processes", least=1)
    warmup: float = option(
        0.1, "share of the steps in which the learning rate rises, 0 to 1", least=0, most=1, shown="SHARE"
    )
    weight_decay: float = option(0.0, "AdamW's weight decay", least=0, most=100)
    max_grad_norm: float = option(1.0, "gradients are scaled down to this norm; 0 leaves them as they are", least=0)
    seed: int = option(0, "seed of everything that is random", least=0, most=2**32 - 1)


# Of a review that does not end by itself before; of one that a study or a strategy does not let end by itself.
MOST_REVIEW_STEPS, REVIEW_STEPS = 60, 30
# Sessions that end by themselves do not do so before.
FEWEST_EPOCHS, FEWEST_REVIEW_STEPS = 3, 20


@dataclass(frozen=True)
class SessionSettings:
    """How long the sessions of the method are."""

    epochs: float | None = option(
        None,
        "passes over the untrusted data in the learning session; none is until its loss has levelled off, at least 3 "
        "passes, and at most 3 or 75 steps, whichever is more",
        above=0,
    )
    learned: str = option(
        "",
        "folder of a LoRA adapter or a whole model that was fine-tuned on the data elsewhere, from --model: it is "
        "the learned model, and the learning session is left out; rows of known kind then tell no threshold's errors",
    )
    training: bool = option(
        True,
        "train and review the model; --no-training ends after a first look, from which the same command goes on",
        usual=True,
    )
    review_steps: int | None = option(
        None,
        "optimizer steps of the safety review; none is until the rows' order by forgetting has settled, at most "
        f"{MOST_REVIEW_STEPS}",
        least=1,
    )


@dataclass(frozen=True)
class DecisionSettings:
    """How scores become decisions."""

    signal: str = option(
        DEFAULT_SIGNAL,
        "what decides: suspicion, which is all evidence together; one measure of forgetting; or a rival of it",
        choices=tuple(SIGNALS),
    )
    threshold: str = option(
        "auto",
        "remove rows above this, by the signal: a number, top:10%, fdr:5% or auto",
        check=parse_threshold,
        shown="THRESHOLD",
        usual=True,
    )
    drop_unscorable: bool = option(False, "put rows that could not be scored with the removed instead of the kept")


@dataclass(frozen=True)
class ClassifierSettings:
    """What tells unsafe text by itself."""

    toxicity_classifier: str = option(
        "words",
        "what tells toxic text: words, a word list that comes along; detoxify; or a sequence-classification model, "
        "hub id or folder, as MODEL or MODEL#LABEL",
        shown="MODEL",
    )
    judge: str = option(
        "",
        "a causal language model that judges answers; one made for it judges in its own way, such as Llama Guard",
        shown="MODEL",
    )


@dataclass(frozen=True)
class RivalSettings:
    """Rival filters, to compare with."""

    rivals: str = option(
        "",
        f"also ask these, with commas between: {', '.join(RIVALS)}; then decide --signal NAME decides by one of them",
        check=names_among("rivals", "rival", RIVALS),
        listed=True,
        shown="NAMES",
    )
    guard: str = option(
        "",
        "the guard model that the rival guard asks, as MODEL or MODEL#FAMILY: Llama Guard, Qwen3Guard-Gen, ShieldGemma,"
        " WildGuard, Granite Guardian, gpt-oss-safeguard",
        shown="MODEL",
    )
    guard_policy: str = option(
        "", "file with the policy that gpt-oss-safeguard judges by; empty is one of the package", shown="FILE"
    )


@dataclass(frozen=True)
class FinetuneSettings:
    """The final model, trained from the untouched one on what was kept."""

    finetune: bool = option(False, "also fine-tune the untouched model on the kept rows", usual=True)
    finetune_epochs: float = option(3.0, "passes over the kept rows in that session", above=0)


# As many as are worth reading: the most suspicious rows, those around the threshold, and kept ones.
MOST_EXAMPLES = 8


@dataclass(frozen=True)
class ReportSettings:
    """What people are shown besides the decision."""

    examples: int = option(
        MOST_EXAMPLES,
        "prompts of the data that the model answers before and after the review, once the decision is there, for "
        "people to compare; 0: none",
        least=0,
        most=MOST_EXAMPLES,
        usual=True,
    )


@dataclass(frozen=True)
class Settings:
    """Everything that one run of the filter needs."""

    data: DataSettings = DataSettings()
    sample: SampleSettings = SampleSettings()
    safe: SafeSettings = SafeSettings()
    planted: PlantedSettings = PlantedSettings()
    model: ModelSettings = ModelSettings()
    adapter: AdapterSettings = AdapterSettings()
    tokens: TokenSettings = TokenSettings()
    passes: PassSettings = PassSettings()
    training: TrainingSettings = TrainingSettings()
    sessions: SessionSettings = SessionSettings()
    decision: DecisionSettings = DecisionSettings()
    classifiers: ClassifierSettings = ClassifierSettings()
    rivals: RivalSettings = RivalSettings()
    report: ReportSettings = ReportSettings()
    final: FinetuneSettings = FinetuneSettings()


@dataclass(frozen=True)
class MeasureSettings:
    """What is asked of the model, and how its answers are measured."""

    most_rows: int | None = option(
        None,
        "most rows of each kind: bias, toxicity, harmfulness, SQuAD, instructions; drawn by chance; none is all",
        least=1,
        usual=True,
    )
    max_new_tokens: int = option(128, "longest answer, in tokens", least=1)
    jailbreak: bool = option(False, "ask the harmful prompts also as people do who want an answer nevertheless")
    lm_eval: str = option(
        "",
        "tasks of lm-evaluation-harness to run as well, e.g. squadv2,hellaswag; needs lm_eval",
        shown="TASKS",
        usual=True,
        listed=True,
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """Everything that one evaluation needs."""

    model: ModelSettings = ModelSettings()
    tokens: TokenSettings = TokenSettings()
    passes: PassSettings = PassSettings()
    classifiers: ClassifierSettings = ClassifierSettings()
    measures: MeasureSettings = MeasureSettings()
    held_out: str = option("", "held-out rows: a file, a saved datasets folder or a hub data set", usual=True)
    held_out_split: str = option("train", "split to read of the held-out rows, for data that has splits", shown="SPLIT")
    adapter: str = option(
        "",
        "folder of a LoRA adapter to put on the model, such as RUN/model of filter --finetune",
        shown="FOLDER",
        usual=True,
    )


@dataclass(frozen=True)
class PreviewSettings:
    """What a preview needs: data, model, template."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    tokens: TokenSettings = TokenSettings()


# What further rows can be scored by; `states` adds hidden states to the words.
EVIDENCE = ("words", "states")


@dataclass(frozen=True)
class ApplySettings:
    """How further rows are scored."""

    data: DataSettings = DataSettings()
    evidence: str = option(
        "words",
        "what rows are scored by: words alone; or states, which adds hidden states of the run's model",
        choices=EVIDENCE,
        usual=True,
    )
    threshold: str = option(
        "auto",
        "remove rows above this: a number in the run's unit; top:10% or fdr:5% of the run's own rows; auto: as strict "
        "as the run was decided",
        check=parse_threshold,
        shown="THRESHOLD",
        usual=True,
    )
    device: str | None = option(
        None, "where the model runs that states need; none is where the run was made", shown="DEVICE"
    )
