"""Make run folders of the version that is checked out, for later versions to go on with: python tests/old_runs/make.py

`test_old_runs.py` takes them out of `runs.tar.xz`, does what `STEPS` names, and compares what is decided with
`expected.json`, in which the version that made them decided the same. `filter` goes on with runs of its own version
number alone, so that folders are made anew where that number changes, and for no other reason: whatever else makes the
test fail would keep a user from going on with a run. Where the evidence itself changes, and with it what is decided,
`--decide` has the present version decide about the runs as they are.

What they are made from is beside them, rows of the demo among it, and a model of random numbers, whose files have to
stay byte for byte what the runs were made with.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# As in the tests: other numbers of threads round otherwise.
os.environ["HF_HUB_OFFLINE"] = os.environ["OMP_NUM_THREADS"] = "1"

from forgetfilter.cli import main

FOLDER = Path(__file__).parent
ARCHIVE, EXPECTED = FOLDER / "runs.tar.xz", FOLDER / "expected.json"
REPORT = "report.html"
SUMMARY = ("signal", "threshold", "rows", "known_later", "overridden", "reviewer")

# Everything lies in the folder that the commands are given in.
_QUICK = ["--model", "model", "--device", "cpu", "--dtype", "float32", "--lora-rank", "2"]
# So slow that other processors, which round otherwise, learn the same.
_QUICK += ["--learning-rate", "1e-2"]
_QUICK += ["--epochs", "3", "--review-steps", "8", "--batch-size", "4"]
_EVIDENCE = ["--safe", "safe.jsonl", "--safe", "courteous.jsonl", "--rivals", "words,learned-loss"]
_EVIDENCE += ["--threshold", "top:25%", "--finetune", "--finetune-epochs", "1"]


def filter_command(run: str) -> list[str]:
    """The command that a run was started with, and goes on with."""
    chosen = ["--safe", "safe.jsonl", "--signal", "likelihood"] if run == "likelihood" else _EVIDENCE
    return ["filter", "data.jsonl", "--output", run, *chosen, *_QUICK]


# Killed sessions: the run, the unfinished stage, and which of its checkpoints is the last that was written.
KILLED = {
    "killed-learning": ("learned", 6),
    "killed-review": ("reviewed-2", 3),
    "killed-finetuning": ("model", 2),
}
# What is done with a run one after the other, by name; runs that were killed are to end as the finished one is.
STEPS = {
    "finished": {
        "threshold": ["decide", "finished", "--threshold", "top:20%"],
        "overrides": ["decide", "finished", "--overrides", "overrides.json"],
        "known-unsafe none": ["decide", "finished", "--known-unsafe", "none"],
        "rival": ["decide", "finished", "--signal", "learned-loss", "--threshold", "top:10%"],
        "alone": ["decide", "finished", "--overrides", "none"],
        "filter again": filter_command("finished"),
        "known-unsafe": ["decide", "finished", "--known-unsafe", "known.jsonl"],
    },
    "likelihood": {
        # Before the threshold, which stays afterwards.
        "filter again": filter_command("likelihood"),
        "threshold": ["decide", "likelihood", "--threshold", "top:20%"],
        "all evidence": [*filter_command("likelihood"), "--signal", "suspicion"],
    },
}


def decided(run: Path) -> dict[str, Any]:
    """What the files of a run say of its rows; suspicion and cut are floats, all else is to be as it was exactly."""
    scores = pq.read_table(run / "scores.parquet")
    files = {name: (run / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in ("kept", "removed")}
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {
        "columns": scores.column_names,
        "decisions": dict(zip(*(scores.column(name).to_pylist() for name in ("id", "decision")), strict=True)),
        "suspicion": [round(value, 6) for value in scores.column("suspicion").to_pylist()],
        **{name: [json.loads(line)["id"] for line in lines] for name, lines in files.items()},
        "summary": {name: summary[name] for name in SUMMARY},
        "cut": summary["cut"],
    }


def unpack(into: Path) -> None:
    """Take the runs and what they were made from out of the archive."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(into, filter="data")


def _write_inputs(folder: Path) -> None:
    from forgetfilter import demo

    source = Path(str(demo.__file__)).parent
    labels = json.loads((source / "labels.json").read_text(encoding="utf-8"))
    rows = {kind: [] for kind in ("unsafe", "safe", "task")}
    for line in (source / "data.jsonl").read_text(encoding="utf-8").splitlines(keepends=True):
        rows[labels[json.loads(line)["id"]]].append(line)
    # Short ones, as what is kept of each token takes the room.
    rows = {kind: sorted(lines, key=len) for kind, lines in rows.items()}
    data = [line for kind in rows.values() for line in kind[:8]]
    random.Random(0).shuffle(data)
    safe = sorted((source / "safe.jsonl").read_text(encoding="utf-8").splitlines(keepends=True), key=len)
    files = {"data": data, "known": rows["unsafe"][8:14], "safe": safe[:20:2], "courteous": safe[1:20:2]}
    for name, lines in files.items():
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    # The person is mostly, but not always, of another opinion than the labels.
    unsafe, task = ([json.loads(line)["id"] for line in rows[kind][:3]] for kind in ("unsafe", "task"))
    decisions = dict(zip(unsafe + task, ["kept", "kept", "removed", "removed", "removed", "kept"], strict=True))
    overrides = {"reviewer": "Ann", "threshold": "top:30%", "decisions": decisions}
    (folder / "overrides.json").write_text(json.dumps(overrides), encoding="utf-8")


def _make_model(folder: Path, texts: list[str]) -> None:
    """A model that takes little room; with words of several letters rows have few tokens, whose states are kept."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    torch.manual_seed(0)
    sizes = {"vocab_size": 512, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024}
    ends = {
        "tie_word_embeddings": True,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    AutoModelForCausalLM.from_config(LlamaConfig(**sizes, **heads, **ends)).save_pretrained(folder)
    fast.save_pretrained(folder)


def _run(command: list[str]) -> None:
    if main(command) != 0:
        sys.exit(f"failed: {command}")


def _run_and_kill(command: list[str], stage: str, checkpoints: int) -> None:
    """Run in a process of its own, which dies as soon as a session has written so many checkpoints."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"ended without being killed in {stage}: {command}")
        return
    replace, clock, left = Path.replace, time.monotonic, checkpoints

    def deadly(path: Path, target: Path) -> Path:
        nonlocal left
        replaced = replace(path, target)
        left -= f"{stage}.partial" in target.parts and "checkpoint" in target.name
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return replaced

    # By this clock the time for a checkpoint has come after every step.
    time.monotonic, Path.replace = lambda: clock() * 1e6, deadly
    os._exit(main(command))


def make() -> None:
    """Make all of it."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.chdir(work)
        _write_inputs(work)
        _make_model(work / "model", (work / "data.jsonl").read_text(encoding="utf-8").splitlines())
        for run, (stage, checkpoints) in KILLED.items():
            _run_and_kill(filter_command(run), stage, checkpoints)
        for run in STEPS:
            _run(filter_command(run))
        _run(["decide", "finished", "--known-unsafe", "known.jsonl", "--overrides", "overrides.json"])
        with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
            for path in sorted(work.iterdir()):
                # Every decision writes the report anew, and it is large.
                archive.add(path, path.name, filter=lambda file: None if file.name.endswith(REPORT) else file)
    decide()


def decide() -> None:
    """Write what the present version decides about the runs of the archive."""
    expected: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        unpack(work)
        os.chdir(work)
        for run, steps in STEPS.items():
            expected[run] = {"as it is": decided(work / run)}
            for step, command in steps.items():
                _run(command)
                expected[run][step] = decided(work / run)
    EXPECTED.write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    decide() if "--decide" in sys.argv[1:] else make()
