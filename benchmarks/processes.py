"""Compare the whole filter in one process and in several: whether it decides the same, and how much faster.

    python benchmarks/processes.py --data ../shared/data/normalised --work /tmp/processes

Three ways take turns, each as a separate command: one process that may use one core, one that may use two (whose
passes go side by side), and two processes with one core each, started by `accelerate launch`; with --fsdp a fourth,
two processes with half of the model each. On GPUs (--device cuda) one process on one card takes turns with one process
a card, and with --fsdp with a share of the model on each. Speeds are those of the learning session's steps, without
the first, which warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
import torch

from contest import BATCH, MAX_LENGTH, RATE, choose_rows
from problems import load
from results import Table, add_json


@dataclass(frozen=True)
class Way:
    """One way to run the filter: how many threads a process has, and the words that start it."""

    threads: int
    start: list[str]


def ways(device: str, *, fsdp: bool) -> dict[str, Way]:
    """Return the ways that take turns, by what they are called."""
    if device == "cpu":
        alone = {"one process, one core": Way(1, [sys.executable]), "one process, two cores": Way(2, [sys.executable])}
        processes, threads = 2, 1
        shared, spread = "two processes, one core each", "two processes, half of the model each"
    else:
        processes, threads = torch.cuda.device_count(), 4
        alone = {"one process, one GPU": Way(threads, [sys.executable])}
        shared, spread = f"{processes} processes, one GPU each", f"{processes} processes, a share of the model each"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    # Accelerate calls every launch of several processes multi_gpu, even on a CPU.
    several = {shared: Way(threads, [*launch, "--multi_gpu"])}
    return alone | several | ({spread: Way(threads, [*launch, "--use_fsdp"])} if fsdp else {})


def run_filter(work: Path, name: str, way: Way, options: argparse.Namespace) -> Path:
    """Filter the rows in this way; return the run folder."""
    run = work / name.replace(" ", "-").replace(",", "")
    shutil.rmtree(run, ignore_errors=True)
    arguments = f"--model {options.model} --device {options.device} --dtype {options.dtype} --epochs 2"
    arguments += f" --review-steps 3 --batch-size {BATCH}"
    arguments += f" --learning-rate {RATE} --max-length {MAX_LENGTH} --trusted none --set-aside 0 --threshold top:20%"
    files = [str(work / "rows.jsonl"), "--safe", str(work / "safe.jsonl"), "--output", str(run)]
    command = [*way.start, "-m", "forgetfilter", "filter", *files, *arguments.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": str(way.threads)}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    return run


def speed(run: Path) -> float:
    """Return the tokens per second of learning."""
    steps = json.loads((run / "stages" / "learned" / "history.json").read_text())[1:]
    return float(sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps))


def forgetting(run: Path) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(run / "scores.parquet", columns=["id", "forgetting", "decision"]).sort_by("id")
    return table.column("decision").to_pylist(), table.column("forgetting").to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the normalised data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs; deleted afterwards")
    parser.add_argument("--rows", type=int, default=48, help="a multiple of 3")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--fsdp", action="store_true")
    add_json(parser)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    files = {"rows": choose_rows(options.data, options.rows), "safe": load(options.data, "safety_tuned_llamas")[:48]}
    for name, rows in files.items():
        lines = [json.dumps({"prompt": row["prompt"], "completion": row["completion"]}) for row in rows]
        (options.work / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    chosen = ways(options.device, fsdp=options.fsdp)
    speeds: dict[str, list[float]] = {name: [] for name in chosen}
    results = {}
    for turn in range(options.rounds):
        for name, way in chosen.items():
            run = run_filter(options.work, name, way, options)
            speeds[name].append(speed(run))
            results[name] = forgetting(run)
            print(f"  round {turn + 1}, {name}: {speeds[name][-1]:.0f} tokens/s", flush=True)
    first = next(iter(chosen))
    slowest = median(speeds[first])
    columns = ("tokens/s (median)", "lowest–highest", "against the first", "decided otherwise", "largest difference")
    table = Table("", *columns)
    for name, values in speeds.items():
        otherwise = sum(a != b for a, b in zip(results[name][0], results[first][0], strict=True))
        difference = np.nanmax(np.abs(results[name][1] - results[first][1]))
        speed_ups = (f"{median(values):.0f}", f"{min(values):.0f}–{max(values):.0f}", f"{median(values) / slowest:.2f}")
        table.add(name, *speed_ups, f"{otherwise} of {len(results[name][0])}", f"{difference:.1e}")
    table.keep(options.json, "Learning in several processes")
    shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
