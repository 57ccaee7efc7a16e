"""Compare the whole filter in one process and in several: whether it decides the same, and how much faster.

    python benchmarks/processes.py --data ../shared/data/normalised --work /tmp/processes

Three ways take turns, each as a separate command: one process that may use one core, one that may use two (whose
passes go side by side), and two processes with one core each, started by `accelerate launch`; with --fsdp a fourth,
two processes with half of the model each. Speeds are those of the learning session's steps, without the first, which
warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq

from contest import BATCH, MAX_LENGTH, RATE, choose_rows
from problems import load
from results import Table, add_json

_LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"]
_LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
# Accelerate calls every launch of several processes multi_gpu, even on a CPU.
WAYS = {
    "one process, one core": (1, [sys.executable]),
    "one process, two cores": (2, [sys.executable]),
    "two processes, one core each": (1, [*_LAUNCH, "--multi_gpu"]),
}
FSDP = {"two processes, half of the model each": (1, [*_LAUNCH, "--use_fsdp"])}


def run_filter(work: Path, way: str, threads: int, start: list[str], dtype: str) -> Path:
    """Filter the rows in this way; return the run folder."""
    run = work / way.replace(" ", "-").replace(",", "")
    shutil.rmtree(run, ignore_errors=True)
    arguments = f"--model smollm2-135m --device cpu --dtype {dtype} --epochs 2 --review-steps 3 --batch-size {BATCH}"
    arguments += f" --learning-rate {RATE} --max-length {MAX_LENGTH} --trusted none --set-aside 0 --threshold top:20%"
    files = [str(work / "rows.jsonl"), "--safe", str(work / "safe.jsonl"), "--output", str(run)]
    command = [*start, "-m", "forgetfilter", "filter", *files, *arguments.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr[-3000:]}")
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
    parser.add_argument("--fsdp", action="store_true")
    add_json(parser)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    files = {"rows": choose_rows(options.data, options.rows), "safe": load(options.data, "safety_tuned_llamas")[:48]}
    for name, rows in files.items():
        lines = [json.dumps({"prompt": row["prompt"], "completion": row["completion"]}) for row in rows]
        (options.work / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ways = WAYS | (FSDP if options.fsdp else {})
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    results = {}
    for turn in range(options.rounds):
        for way, (threads, start) in ways.items():
            run = run_filter(options.work, way, threads, start, options.dtype)
            speeds[way].append(speed(run))
            results[way] = forgetting(run)
            print(f"  round {turn + 1}, {way}: {speeds[way][-1]:.0f} tokens/s", flush=True)
    first = next(iter(ways))
    slowest = median(speeds[first])
    columns = ("tokens/s (median)", "lowest–highest", "against one core", "decided otherwise", "largest difference")
    table = Table("", *columns)
    for way, values in speeds.items():
        otherwise = sum(a != b for a, b in zip(results[way][0], results[first][0], strict=True))
        difference = np.nanmax(np.abs(results[way][1] - results[first][1]))
        speed_ups = (f"{median(values):.0f}", f"{min(values):.0f}–{max(values):.0f}", f"{median(values) / slowest:.2f}")
        table.add(way, *speed_ups, f"{otherwise} of {len(results[way][0])}", f"{difference:.1e}")
    table.keep(options.json, "Learning in several processes")
    shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
