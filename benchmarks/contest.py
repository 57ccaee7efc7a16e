"""Shared by the speed benchmarks: rows, the model, contestants that take turns, and the machine's own speed."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.models.activation_cache import keep_states, known_table
from forgetfilter.models.loading import Hardware, load_tokenizer, quiet_libraries
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import from_mapping
from problems import Row, load, shuffled
from results import Table

RATE, MAX_LENGTH, BATCH = 1e-3, 512, 16
Result = TypeVar("Result")
SOURCES = ("bbq_official", "task_alpaca_demo", "squad_v2_cs224n_dev")


@dataclass(frozen=True)
class Workload:
    """The rows, the model and the settings, the same for all contestants.

    Attributes:
        rows: Prompts and completions.
        tokens: The file of their tokens.
        table: The tokens.
        model: Our model, with its adapter.
        tokenizer: Its tokenizer.
        settings: Ours.
        weights: The folder that stock parts load the same weights from.
    """

    rows: list[Row]
    tokens: Path
    table: TokenTable
    model: TrainableModel
    tokenizer: Any
    settings: Settings
    weights: str

    def stock_model(self, *, lora: bool) -> Any:
        """Load the same weights with transformers, with the same kind of adapter from peft."""
        from peft import get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(self.weights, dtype=self.model.hardware.dtype)
        base = base.to(self.model.hardware.device)
        return get_peft_model(base, self.stock_lora()) if lora else base

    def stock_lora(self) -> Any:
        """Configure the same adapter for peft, on the same blocks."""
        from peft import LoraConfig

        count = int(self.model.model.config.num_hidden_layers)
        top = math.ceil((self.settings.adapter.top_blocks or 1) * count)
        return LoraConfig(
            r=8,
            lora_alpha=16,
            lora_dropout=0.0,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            layers_to_transform=list(range(count - top, count)),
            task_type="CAUSAL_LM",
        )

    @property
    def on_gpu(self) -> bool:
        """Whether the contest runs on a GPU."""
        return self.model.hardware.device.type == "cuda"

    @contextmanager
    def read(self) -> Iterator[TokenTable]:
        """Read the tokens, with the cached activations of the frozen blocks; reading them takes time."""
        if not self.model.scorer.skips:
            yield self.table
            return
        with TemporaryDirectory() as folder:
            keep_states(self.model, self.tokens, Path(folder), 2 * self.model.token_budget(None))
            yield known_table(self.model, [self.tokens], [Path(folder)])


def choose_rows(folder: Path, count: int) -> list[Row]:
    """Choose rows of BBQ, Alpaca and SQuAD in equal parts."""
    rng = random.Random(0)
    return shuffled([row for name in SOURCES for row in rng.sample(load(folder, name), count // len(SOURCES))], rng)


@contextmanager
def prepared(
    data: Path,
    count: int,
    dtype: str = "float32",
    top_blocks: float = 1.0,
    device: str = "cpu",
    model: str = "smollm2-135m",
) -> Iterator[Workload]:
    """Prepare this many rows and the model, for as long as the contest lasts.

    Args:
        data: The folder of the normalised data sets.
        count: How many rows.
        dtype: The number format of the model.
        top_blocks: The share of its blocks, from the top, that have an adapter.
        device: Where it is.
        model: Which it is.
    """
    quiet_libraries()
    chosen = {
        "model": model,
        "learning_rate": RATE,
        "device": device,
        "dtype": dtype,
        "max_length": MAX_LENGTH,
        "top_blocks": top_blocks,
    }
    settings = from_mapping(Settings, chosen)
    source = find_model(settings.model.model)
    trainable, tokenizer = TrainableModel(source, settings.model, settings.adapter, 0), load_tokenizer(source)
    rows = choose_rows(data, count)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.arrow"
        chats = [(str(i), i, Chat.of(r["prompt"], r["completion"])) for i, r in enumerate(rows)]
        for _ in write_tokens(chats, Encoder(tokenizer, "auto", MAX_LENGTH), path):
            pass
        table = TokenTable(path)
        print(f"{len(rows)} rows, {int(table.lengths.sum()):,} tokens, {int(table.counts.sum()):,} of completions")
        loaded = str(Path(trainable.model.get_base_model().config._name_or_path))
        yield Workload(rows, path, table, trainable, tokenizer, settings, loaded)


def compete(
    contestants: dict[str, Callable[[], tuple[float, Result]]], rounds: int
) -> dict[str, list[tuple[float, Result]]]:
    """Run the contestants in turns, and return the seconds and the result of each turn."""
    measured: dict[str, list[tuple[float, Result]]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, run in contestants.items():
            measured[name].append(run())
            print(f"  round {turn + 1}, {name}: {measured[name][-1][0]:.1f} s", flush=True)
    return measured


def timed(work: Callable[[], Result]) -> Callable[[], tuple[float, Result]]:
    """Make the work also return the seconds that it took."""

    def run() -> tuple[float, Result]:
        began = time.perf_counter()
        result = work()
        finish()
        return time.perf_counter() - began, result

    return run


def finish() -> None:
    """Wait until the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def show_speeds(
    measured: dict[str, list[tuple[float, Any]]], amount: int, unit: str, title: str, results: dict[str, str]
) -> Table:
    """Print a table of medians, the speed-up of the first contestant over each, and the result of each."""
    first = median(seconds for seconds, _ in next(iter(measured.values())))
    table = Table("contestant", f"{unit}/s (median)", "lowest–highest", "ours is faster by", title)
    for name, turns in measured.items():
        speeds = sorted(amount / seconds for seconds, _ in turns)
        ratio = median(seconds for seconds, _ in turns) / first
        spread = f"{speeds[0]:,.1f}–{speeds[-1]:,.1f}"
        table.add(name, f"{median(speeds):,.1f}", spread, f"{ratio:.2f}", results[name])
    return table


def matrix_rate(hardware: Hardware) -> float:
    """Measure floating-point operations per second of a large matrix product on this machine, now (median of 20)."""
    size = 2048 if hardware.device.type == "cpu" else 8192
    a, b = (torch.randn(size, size).to(hardware.device, hardware.dtype) for _ in range(2))
    product = timed(lambda: torch.mm(a, b))
    return 2 * size**3 / median(product()[0] for _ in range(20))
