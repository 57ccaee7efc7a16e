"""Two processes decide, and measure, as one does."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from forgetfilter.cli import main
from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.models.sources import find_model
from forgetfilter.models.trainable_model import TrainableModel
from forgetfilter.settings.groups import AdapterSettings, ModelSettings
from forgetfilter.stages.examples import read_examples
from support import plain_path
from support.held_out import QUICK, ROWS
from support.interrupted import SECONDS, take_signals
from support.quick_runs import NOISY, write_jsonl
from support.quick_runs import QUICK as QUICK_FILTER
from support.spread_session import train

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def launch(arguments, how="--multi_gpu", what=()):
    # accelerate calls every launch of several processes multi_gpu; with --cpu alone it starts a single one.
    command = [sys.executable, "-m", "accelerate.commands.launch", how, "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    return [*command, *(what or plain_path.COMMAND), *arguments]


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def launched(*how):
    done = run(launch(*how))
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def our_lines(stderr):
    return [line for line in stderr.splitlines() if "forgetfilter: " in line]


def test_two_processes_measure_as_one(model, tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    command = ["evaluate", str(rows), "--model", str(model), *QUICK, "--judge", str(model), "--output"]
    assert main([*command, str(tmp_path / "one")]) == 0
    done = launched([*command, str(tmp_path / "two")])
    assert done.stdout.count("harmfulness.refusals") == 1
    one, two = (json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("one", "two"))
    first, second = ({m["name"]: m["value"] for m in found["measures"]} for found in (one, two))
    unknown = [name for name, value in first.items() if value is None]
    assert [name for name, value in second.items() if value is None] == unknown
    assert len(first) > len(unknown)
    for name in first.keys() - set(unknown):
        assert second[name] == pytest.approx(first[name], rel=1e-4)
    assert second.keys() == first.keys()


def test_two_processes_decide_as_one(command, tmp_path):
    # Sessions that end by themselves have to end at the same step in both processes.
    fixed = command.index("--epochs")
    command = [
        *command[:fixed],
        *command[fixed + 4 :],
        "--threshold",
        "top:25%",
        "--finetune",
        "--finetune-epochs",
        "1",
    ]
    assert main(command) == 0
    two = [str(tmp_path / "two") if part == str(tmp_path / "run") else part for part in command]
    done = launched(two)
    assert "2 processes share the work" in done.stderr
    assert done.stdout.count("removed.jsonl") == 1
    one, other = (pq.read_table(tmp_path / name / "scores.parquet").to_pydict() for name in ("run", "two"))
    assert other["id"] == one["id"]
    assert other["decision"] == one["decision"]
    assert other["learned"] == pytest.approx(one["learned"], abs=1e-4)
    assert other["forgetting"] == pytest.approx(one["forgetting"], abs=1e-4)
    assert (tmp_path / "two" / "model" / "adapter_model.safetensors").exists()
    assert [len(read_examples(tmp_path / name / "examples.jsonl")) for name in ("run", "two")] == [7, 7]


def test_deepspeed_is_refused(command, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert main(command) == 2
    assert "DeepSpeed is not supported" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--rivals", "gradient,neighbours"], ["--full-finetuning"], ["--signal", "rouge"]])
def test_two_processes_with_half_the_model_each_decide_as_one(command, tmp_path, more):
    command = [*command, "--threshold", "top:25%", "--finetune", "--finetune-epochs", "1", *more]
    assert main(command) == 0
    two = [str(tmp_path / "two") if part == str(tmp_path / "run") else part for part in command]
    done = launched(two, "--use_fsdp")
    assert "2 processes share the work, each with a part of the model" in done.stderr
    one, other = (pq.read_table(tmp_path / name / "scores.parquet").to_pydict() for name in ("run", "two"))
    assert other["id"] == one["id"]
    assert other["decision"] == one["decision"]
    assert other["learned"] == pytest.approx(one["learned"], abs=1e-4)
    assert other["forgetting"] == pytest.approx(one["forgetting"], abs=1e-4)
    kinds = {path.name for path in (tmp_path / "run" / "model").iterdir()}
    assert {path.name for path in (tmp_path / "two" / "model").iterdir()} == kinds
    for file in (tmp_path / "run" / "model").glob("config.json"):
        assert json.loads(file.read_text()) == json.loads((tmp_path / "two" / "model" / file.name).read_text())
    for file in (tmp_path / "run" / "model").glob("*.safetensors"):
        ours, theirs = load_file(file), load_file(tmp_path / "two" / "model" / file.name)
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)


def test_a_spread_session_goes_on_from_its_checkpoint(model, tokenizer, tmp_path):
    texts = ["Yes.", "No, I would rather not do that.", "Perhaps", "It depends.", "42"] * 3
    rows = [(f"r{i}", i, Chat.of(f"{i}?", text)) for i, text in enumerate(texts)]
    list(write_tokens(rows, Encoder(tokenizer, "auto", 64), tmp_path / "t.arrow"))
    script = [str(Path(__file__).parent / "support" / "spread_session.py")]
    done = launched([str(model), str(tmp_path / "t.arrow"), str(tmp_path)], "--use_fsdp", script)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["held"] == pytest.approx(found["of"] / 2, rel=0.01)
    assert found["resumed"] == found["losses"]
    assert found["losses"][-1] < found["losses"][0]
    settings = ModelSettings(device="cpu", dtype="float32")
    alone = TrainableModel(find_model(str(model)), settings, AdapterSettings(lora_rank=4), seed=0)
    history = train(alone, TokenTable(tmp_path / "t.arrow"), tmp_path / "alone")
    assert found["losses"] == pytest.approx([step.loss for step in history], rel=1e-4)


def test_a_mistake_is_told_once(command, tmp_path):
    done = run(launch([*command, "--known-unsafe", str(tmp_path / "none.jsonl")]))
    assert our_lines(done.stderr) == [f"forgetfilter: {tmp_path / 'none.jsonl'}: there is no such file or folder"]
    assert done.returncode != 0


@pytest.mark.slow
def test_processes_that_a_signal_ends_say_one_line_and_go_on_to_the_same_bytes(model, safe, tmp_path):
    noisy = write_jsonl(tmp_path / "noisy.jsonl", [{**row, "id": f"{i}"} for i, row in enumerate(NOISY * 40)])
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), *QUICK_FILTER, "--epochs", "3"]
    launched([*command, "--output", str(tmp_path / "whole")])
    for number, to in [(signal.SIGTERM, None), (signal.SIGINT, None), (signal.SIGTERM, 0), (signal.SIGKILL, 1)]:
        place = tmp_path / f"{number.name}-{to}"
        going = [*command, "--output", str(place)]
        launcher = subprocess.Popen(
            launch(going),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            preexec_fn=take_signals,
        )
        for line in launcher.stderr:
            if "learning the data" in line:
                break
        workers = psutil.Process(launcher.pid).children(recursive=True)
        by_rank = {worker.environ().get("RANK"): worker for worker in workers}
        (launcher if to is None else by_rank[str(to)]).send_signal(number)
        _, said = launcher.communicate(timeout=SECONDS)
        assert launcher.returncode != 0
        # Of the launcher's own words nothing is asked.
        name = "SIGTERM" if to == 1 else number.name
        assert our_lines(said) == [
            f"forgetfilter: interrupted by {name}; what is finished in {place} is kept, and the same command goes on "
            "from there"
        ]
        assert "unexpected" not in said
        assert not psutil.wait_procs(workers, timeout=SECONDS)[1]
        launched(going)
        for file in ("kept.jsonl", "removed.jsonl", "scores.parquet", "reasons.jsonl", "examples.jsonl"):
            assert (place / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
