"""What is measured on a GPU: the steps, in order of worth, each as the commands that do it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# The largest mixes that the data at hand gives, as no template or question is in two parts; the paper has 5,000 and
# 7,000. Unsafe shares, and rows of the noisy, the safe and the held-out set.
PAPER_MIXES = {
    "bias": ((0.5, 0.25, 0.75), (3600, 5400, 1500)),
    "toxicity": ((0.5,), (2400, 1000, 900)),
    "harmfulness": ((0.5,), (1200, 600, 600)),
}
Command = tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """Where the steps run, and how large they are.

    Attributes:
        data: Folder with the data sets, as published (`original`) and normalised.
        work: Folder for runs; what is finished there is used again.
        results: Folder for results.
        models: Models, smallest first.
        device: Where models are.
        cards: How many GPUs there are.
        vllm: The interpreter that has vLLM.
        tiny: Whether everything is as small as it can be, to see that it works.
    """

    data: Path
    work: Path
    results: Path
    models: tuple[str, ...]
    device: str
    cards: int
    vllm: str = sys.executable
    tiny: bool = False

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows of the contests of speed."""
        return ("--rows", "48" if self.tiny else "480")

    @property
    def rounds(self) -> tuple[str, ...]:
        """Rounds of the contests of speed; the first warms up."""
        return ("--rounds", "1" if self.tiny else "3")

    @property
    def normalised(self) -> tuple[str, ...]:
        """The option that names the normalised data."""
        return ("--data", str(self.data / "normalised"))

    def placed(self, model: str) -> tuple[str, ...]:
        """Return the options of a contest of speed with a model."""
        return (*self.normalised, "--model", model, "--device", self.device)

    def json(self, name: str) -> tuple[str, ...]:
        """Return the option of a benchmark's result."""
        return ("--json", str(self.results / f"{name}.json"))


@dataclass(frozen=True)
class Step:
    """One thing to measure.

    Attributes:
        name: Its name, and that of its results.
        minutes: How long it may take; it is ended then, and goes on in the next call as far as its commands can.
        commands: What to run, one after the other, in `benchmarks`.
        kept: Files to keep from the work folder once all is done, by the name that they get.
    """

    name: str
    minutes: float
    commands: tuple[Command, ...]
    kept: dict[str, Path] = field(default_factory=dict)


def steps(bench: Bench) -> Iterator[Step]:
    """Name all steps, the most valuable first."""
    small, large = bench.models[0], bench.models[-1]
    yield Step("tests", 4, (_python("-m", "pytest", "-m", "gpu", "-n", "0", "../tests"),))
    yield _decisions(bench, small)
    yield from _speed(bench, small, "")
    yield from _detection(bench)
    yield from _groups(bench)
    yield _scale(bench)
    yield from _speed_of_3b(bench)
    yield from _paper(bench, small, ("bias",), "small")
    yield from _paper(bench, large, tuple(PAPER_MIXES), "large")
    if bench.cards > 1:
        yield from _several_cards(bench, large)


def _python(*words: str) -> Command:
    return (sys.executable, *words)


def _forgetfilter(*words: str) -> Command:
    return _python("-m", "forgetfilter", *words)


def _decisions(bench: Bench, model: str) -> Step:
    work = ("--work", str(bench.work / "decisions"))
    words = (*bench.placed(model), *work, "--problem", "harmful" if bench.tiny else "mix", *_set_quick(bench))
    return Step("decisions", 5, (_python("decisions.py", *words, *bench.json("gpu-decisions")),))


def _speed(bench: Bench, model: str, of: str) -> Iterator[Step]:
    """Training, scoring and answers beside stock parts and vLLM, and the whole filter."""
    contest = (*bench.placed(model), *bench.rows, *bench.rounds, "--dtype", "bfloat16")
    training = _python("training.py", *contest, *bench.json(f"gpu-training{of}"))
    yield Step(f"training{of}", 4, (training,))
    half = ("--top-blocks", "0.5", "--passes", "3", *bench.json(f"gpu-training-half{of}"))
    yield Step(f"training-half{of}", 4, (_python("training.py", *contest, *half),))
    yield Step(f"scoring{of}", 3, (_python("scoring.py", "likelihood", *contest, *bench.json(f"gpu-scoring{of}")),))
    work = ("--work", str(bench.work / f"decoding{of}"), "--vllm", bench.vllm)
    answers = ("--new-tokens", "8") if bench.tiny else ()
    yield Step(f"answers{of}", 5, (_python("decoding.py", *contest, *work, *answers, *bench.json(f"gpu-answers{of}")),))
    if not bench.tiny:
        # Stock parts write 500 tokens for every row, which takes a CPU minutes however small the model.
        generate = _python("scoring.py", "answers", *contest, *bench.json(f"gpu-generate{of}"))
        yield Step(f"generate{of}", 4, (generate,))
        whole = (*bench.placed(model), *bench.rows, "--work", str(bench.work / f"whole{of}"))
        yield Step(f"whole{of}", 6, (_python("whole.py", *whole, *bench.json(f"gpu-whole{of}")),))


def _speed_of_3b(bench: Bench) -> Iterator[Step]:
    folder = bench.work / "random-3b"
    make = _python("-m", "gpu.random_model", "--to", str(folder), *(("--tiny",) if bench.tiny else ()))
    yield Step("random-3b", 3, (make,))
    yield from (step for step in _speed(bench, str(folder), "-3b") if step.name.startswith(("training-3b", "scoring")))


def _detection(bench: Bench) -> Iterator[Step]:
    """How well each model finds unsafe rows of sources that nothing was tuned on."""
    problems = ("harmful",) if bench.tiny else ("harmful", "toxic", "biased", "mix", "rare")
    for model in bench.models:
        name = f"panel-{Path(model).stem}"
        # With a work folder for each model, as runs of another model are not gone on with.
        words = ("--work", str(bench.work / name), "--half", "reported", "--problems", *problems)
        # Where all is tiny, other steps have trained enough.
        words += ("--trained", *(() if bench.tiny else problems))
        words += (*bench.normalised, "--model", model, *bench.json(f"gpu-{name}"))
        yield Step(name, 5, (_python("panel.py", *words),))


def _groups(bench: Bench) -> Iterator[Step]:
    """Whether task rows are forgotten less than unsafe ones: forgetting alone, against safe and against task rows."""
    notions = ("toxicity",) if bench.tiny else ("harmfulness", "toxicity", "bias")
    for model in bench.models:
        name = f"groups-{Path(model).stem}"
        words = (*notions, *bench.normalised, "--work", str(bench.work / name), "--model", model)
        words += (*_set_quick(bench), "--json", str(bench.results / f"gpu-{name}"))
        yield Step(name, 4, (_python("detection.py", *words),))


def _mix(bench: Bench, notion: str, share: float, seed: int) -> tuple[Path, Command]:
    """Return the folder of a mix, and the command that draws it."""
    folder, original = bench.work / "mixes" / f"{notion}-{share:g}-{seed}", bench.data / "original"
    sizes = (24, 12, 12) if bench.tiny else PAPER_MIXES[notion][1]
    normalised = {"toxicity": "davidson", "harmfulness": "gptfuzz_train"}
    bbq = f"bbq={original / 'bbq_official'}"
    unsafe = f"rows={bench.data / 'normalised' / normalised[notion]}.jsonl" if notion in normalised else bbq
    squad, alpaca = original / "squad_v2_cs224n_dev" / "dev-v2.0.json.gz", bench.data / "alpaca"
    sources = [word for source in (unsafe, f"squad={squad}", f"alpaca={alpaca}") for word in ("--source", source)]
    words = (
        *sources,
        "--notion",
        notion,
        "--size",
        str(sizes[0]),
        "--safe-size",
        str(sizes[1]),
        "--held-out",
        str(sizes[2]),
    )
    words += ("--unsafe-share", str(share), "--seed", str(seed), "--output", str(folder), "--overwrite")
    return folder, _forgetfilter("data", "mix", *words)


def _scale(bench: Bench) -> Step:
    mixes = [_mix(bench, notion, 0.5, 0) for notion in ("harmfulness", "bias")]
    models = bench.models if len(bench.models) > 1 else (bench.models[0],) * 2
    return _study(bench, "scale", 8, mixes, "small", ("--models", ",".join(models)), bench.models[0])


def _study(
    bench: Bench,
    study: str,
    minutes: float,
    mixes: list[tuple[Path, Command]],
    preset: str,
    more: Command,
    model: str,
    name: str = "",
) -> Step:
    # Sessions with other settings lie elsewhere.
    output, name = bench.work / f"studies-{preset}-{Path(model).stem}", name or study
    words = [word for folder, _ in mixes for word in ("--mix", str(folder))]
    words += ["--model", model, "--device", bench.device, "--preset", preset, "--output", str(output)]
    words += [*more, *_quick(bench)]
    kept = {f"gpu-{name}.md": output / study / "finding.md", f"gpu-{name}.json": output / study / "data.json"}
    return Step(name, minutes, (*(command for _, command in mixes), _forgetfilter("study", study, *words)), kept)


def _quick(bench: Bench) -> Command:
    """Return options with which the least is trained and asked, where all is tiny."""
    words = "--epochs 1 --finetune-epochs 1 --review-steps 2 --batch-size 8 --most-rows 3 --max-new-tokens 4"
    return tuple(f"{words} --trusted none --set-aside 0".split()) if bench.tiny else ()


def _set_quick(bench: Bench) -> Command:
    """Return the same for the benchmarks that take settings."""
    words = "--set epochs=1 --set review_steps=2 --set examples=0"
    return tuple(words.split()) if bench.tiny else ()


def _paper(bench: Bench, model: str, notions: tuple[str, ...], size: str) -> Iterator[Step]:
    """Tables 1 and 2 and Figures 3 and 5 at the paper's sizes, then further shares and draws."""
    first = [_mix(bench, notion, 0.5, 0) for notion in notions]
    for notion, drawn in zip(notions, first, strict=True):
        yield _tables(bench, model, *drawn, f"tables-{notion}-0.5-0-{size}")
    yield _study(bench, "forgetting", 9, first, "paper", (), model, f"forgetting-{size}")
    if size == "large":
        yield _study(bench, "interleaved", 9, first[:1], "paper", (), model)
        yield _study(bench, "domain-shift", 9, first, "paper", (), model)
    shares = [(notion, share, 0) for notion in notions for share in PAPER_MIXES[notion][0][1:]]
    draws = [(notion, 0.5, seed) for seed in (1, 2) for notion in notions]
    for notion, share, seed in [] if bench.tiny else shares + draws:
        yield _tables(bench, model, *_mix(bench, notion, share, seed), f"tables-{notion}-{share:g}-{seed}-{size}")


def _tables(bench: Bench, model: str, mix: Path, draw: Command, name: str) -> Step:
    output = bench.work / f"{name}-{Path(model).stem}"
    words = (str(mix), "--model", model, "--device", bench.device, "--output", str(output), *_quick(bench))
    words += ("--filters", "likelihood,likelihood-top5,words,base-loss,random")
    compare = _forgetfilter("compare", *words, *(("--strategies", "aligned,none,forgetfilter") if bench.tiny else ()))
    kept = {f"gpu-{name}.md": output / "tables.md", f"gpu-{name}.jsonl": output / "records.jsonl"}
    return Step(name, 9, (draw, compare), kept)


def _several_cards(bench: Bench, model: str) -> Iterator[Step]:
    words = (*bench.placed(model), *bench.rows, *bench.rounds, "--dtype", "bfloat16", "--fsdp")
    words += ("--work", str(bench.work / "processes"), *bench.json("gpu-processes"))
    yield Step("processes", 6, (_python("processes.py", *words),))
