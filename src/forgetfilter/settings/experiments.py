"""Settings of the commands for experiments: mixes of published data, comparisons and studies."""

from __future__ import annotations

from dataclasses import dataclass

from ..console import printable
from ..errors import SettingsError
from ..forgetting.signals import SIGNALS
from .groups import EvaluationSettings, MeasureSettings, Settings, names_among
from .option import option, split_names

_SHOWN = 60


@dataclass(frozen=True)
class SourceSettings:
    """How published data sets are read."""

    split: str = option("train", "split to read, for data that has splits", shown="SPLIT", usual=True)
    unsafe_above: float = option(0.9, "toxicity score above which a sentence is unsafe", least=0, most=1, shown="SCORE")
    safe_below: float = option(0.1, "toxicity score below which a sentence is safe", least=0, most=1, shown="SCORE")
    text_column: str = option("text", "column of the text, for text with a toxicity score", shown="COLUMN")
    score_column: str = option("score", "column of the toxicity score, 0 to 1", shown="COLUMN")
    rows_notion: str = option(
        "", "notion of labelled rows that have no column for it: bias, toxicity or harmfulness", shown="NOTION"
    )


@dataclass(frozen=True)
class MixSettings:
    """What is drawn. The defaults are the paper's."""

    sources: SourceSettings = SourceSettings()
    notion: str = option(
        "mix",
        "bias, toxicity or harmfulness, or several joined by commas; mix: all that the sources have",
        shown="NOTION",
        usual=True,
    )
    size: int = option(5000, "rows of the noisy set", least=1, usual=True)
    unsafe_share: float = option(
        0.5,
        "share of them that is unsafe, 0 to 1; the rest is in equal parts safe and of each task source",
        least=0,
        most=1,
        shown="SHARE",
        usual=True,
    )
    safe_size: int = option(7000, "safe rows for the review", least=0, usual=True)
    held_out: int = option(
        5000,
        "rows for an evaluation, in equal parts safe rows of each notion and rows of each task source",
        least=0,
        usual=True,
    )
    seed: int = option(0, "seed of the draw", least=0, most=2**32 - 1)


STRATEGIES = (
    "aligned",
    "none",
    "safety-review",
    "re-alignment",
    "replay",
    "self-correction",
    "forgetfilter",
    "forgetfilter+self-correction",
)


@dataclass(frozen=True)
class CompareSettings(Settings):
    """What is compared, and how models are trained and asked."""

    measures: MeasureSettings = MeasureSettings()
    filters: str = option(
        "likelihood,likelihood-top5,likelihood-mean,judge,toxicity,words,base-loss,learned-loss,second-split,confidence,"
        "variability,forgetting-events,neighbours,direction,gradient,random",
        "filters to compare, with commas between: signals of forgetting and rivals",
        check=names_among("filters", "filter", SIGNALS),
        listed=True,
        shown="NAMES",
        usual=True,
    )
    strategies: str = option(
        ",".join(STRATEGIES),
        "strategies to compare, with commas between; empty for none of them",
        check=names_among("strategies", "strategy", STRATEGIES),
        listed=True,
        shown="NAMES",
        usual=True,
    )
    align: bool = option(False, "fine-tune the model on the safe examples first, as the paper makes its aligned model")
    thought_through: str = option(
        "",
        "rows whose completions think step by step, on which the self-correction strategies train as well",
        shown="FILE",
    )


def _shares(value: str) -> list[float]:
    try:
        shares = [float(share) for share in split_names(value)]
    except ValueError:
        shares = []
    if not shares or not all(0 < share < 1 for share in shares):
        raise SettingsError(
            f"unsafe_shares: expected numbers between 0 and 1 with commas between, found {printable(value, _SHOWN)}"
        )
    return shares


@dataclass(frozen=True)
class StudySettings(Settings):
    """What a study varies, beside what it trains and asks with."""

    measures: MeasureSettings = MeasureSettings()
    models: str = option(
        "",
        "models to study, with commas between, the smallest first; empty is --model alone",
        shown="MODELS",
        usual=True,
        listed=True,
    )
    rounds: int = option(3, "rounds of noisy and safe sessions in the study interleaved", least=1)
    unsafe_shares: str = option(
        "0.02,0.05,0.1",
        "shares of unsafe rows in the study realistic, with commas between",
        check=_shares,
        listed=True,
        shown="SHARES",
    )


# The settings of the commands that put held-out rows to a model.
MeasuringSettings = EvaluationSettings | CompareSettings | StudySettings

STUDIES = (
    "learning",
    "forgetting",
    "scale",
    "partial",
    "sensitivity",
    "interleaved",
    "domain-shift",
    "symmetry",
    "attributes",
    "why",
    "transfer",
    "jailbreak",
    "realistic",
)
# Options by preset: what two cores do in a quarter of an hour with SmolLM2-135M and mixes of 120 rows, and what the
# paper used with mixes of its sizes.
PRESETS: dict[str, dict[str, str | int | float]] = {
    "small": {"epochs": 4, "review_steps": 20, "most_rows": 30, "max_new_tokens": 48, "max_length": 256, "rounds": 2},
    "paper": {
        "learning_rate": 2e-4,
        "batch_size": 32,
        "lora_targets": "query-value",
        "lora_dropout": 0.05,
        "review_steps": 1000,
    },
}
