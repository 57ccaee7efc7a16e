"""Run the steps of `gpu/steps.py` on a GPU, the most valuable first, each in a process of its own with a time limit.

    python -m gpu.measure --data /tmp/gpu/data --models /tmp/gpu --results /tmp/gpu-results --work /tmp/gpu-work
    python -m gpu.measure --data … --models … --results … --work … --minutes 9 --only training answers

After each step, STEP.step.json in the results folder says how it ended; its output is in STEP.log, and what it measured
in `gpu-*.json`, which go to `docs/results` as they are. A step that is done is not done again. Called again, steps that
were never tried come first, then those that failed or ran out of time; runs and studies go on from where they were.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from gpu.models import MODELS
from gpu.steps import Bench, Step, steps
from results import current_commit, table

BENCHMARKS = Path(__file__).resolve().parents[1]
DONE, FAILED, OUT_OF_TIME = "done", "failed", "out of time"
# No step but the first is begun with less than this.
_LEAST_SECONDS = 20
_SHOWN = 400


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Attributes:
        step: Its name.
        state: DONE, FAILED or OUT_OF_TIME.
        seconds: How long it ran.
        commands: What was run.
        commit: The commit of the code.
        end: The end of its output.
    """

    step: str
    state: str
    seconds: float
    commands: list[str]
    commit: str
    end: str


def measure(todo: list[Step], results: Path, seconds: float) -> list[Outcome]:
    """Run as many steps as the time allows, and write after each how it ended."""
    results.mkdir(parents=True, exist_ok=True)
    ends, outcomes = time.monotonic() + seconds, list[Outcome]()
    for step in in_order(todo, results):
        left = ends - time.monotonic()
        if outcomes and left < _LEAST_SECONDS:
            break
        print(f"{step.name}: at most {min(step.minutes * 60, left):.0f} s", flush=True)
        outcomes.append(run(step, results, min(step.minutes * 60, left)))
        text = json.dumps(asdict(outcomes[-1]), indent=1, ensure_ascii=False)
        _place(results, step).write_text(text + "\n", encoding="utf-8")
        print(f"{step.name}: {outcomes[-1].state}, {outcomes[-1].seconds:.0f} s", flush=True)
    return outcomes


def in_order(todo: list[Step], results: Path) -> list[Step]:
    """Put steps that were never tried first, and leave out those that are done."""
    states = [_state(results, step) for step in todo]
    untried = [step for step, state in zip(todo, states, strict=True) if state is None]
    return untried + [step for step, state in zip(todo, states, strict=True) if state not in (None, DONE)]


def run(step: Step, results: Path, seconds: float) -> Outcome:
    """Run a step's commands one after the other, until one fails or the time is up."""
    began, log, state = time.monotonic(), results / f"{step.name}.log", DONE
    commit = current_commit()
    environment = {**os.environ, "COMMIT": commit, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w", encoding="utf-8") as output:
        for command in step.commands:
            left = seconds - (time.monotonic() - began)
            process = subprocess.Popen(
                command, cwd=BENCHMARKS, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                state = FAILED if process.wait(timeout=max(left, 0)) else DONE
            except subprocess.TimeoutExpired:
                state = OUT_OF_TIME
            finally:
                if process.poll() is None:
                    # With what it has started, as its session is a process group.
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if state != DONE:
                break
    if state == DONE:
        for name, file in step.kept.items():
            shutil.copyfile(file, results / name)
    commands = [" ".join(map(str, command)) for command in step.commands]
    end = log.read_text(encoding="utf-8", errors="replace")[-_SHOWN:]
    return Outcome(step.name, state, round(time.monotonic() - began, 1), commands, commit, end)


def _place(results: Path, step: Step) -> Path:
    return results / f"{step.name}.step.json"


def _state(results: Path, step: Step) -> str | None:
    place = _place(results, step)
    return str(json.loads(place.read_text(encoding="utf-8"))["state"]) if place.exists() else None


def find_models(folder: Path) -> tuple[str, ...]:
    """Find the models that were unpacked into a folder, smallest first."""
    files = [folder / f"{model.name}.gguf" for model in MODELS]
    return tuple(str(file) for file in files if file.exists())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with data sets, normalised and original")
    parser.add_argument("--models", type=Path, required=True, help="folder with GGUF files, or one model's folder")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs; finished ones are used again")
    parser.add_argument("--minutes", type=float, default=28, help="for all steps together")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--vllm", default=sys.executable, metavar="PYTHON", help="the interpreter that has vLLM")
    parser.add_argument("--tiny", action="store_true", help="as small as can be, to see that all of it works")
    options = parser.parse_args()
    models = find_models(options.models) or (str(options.models),)
    cards = torch.cuda.device_count() if options.device == "cuda" else 0
    data, work, results = (path.resolve() for path in (options.data, options.work, options.results))
    bench = Bench(data, work, results, models, options.device, cards, options.vllm, options.tiny)
    todo = list(steps(bench))
    if unknown := set(options.only) - {step.name for step in todo}:
        raise SystemExit(f"there is no step {sorted(unknown)}; there are {', '.join(step.name for step in todo)}")
    chosen = [step for step in todo if not options.only or step.name in options.only]
    outcomes = measure(chosen, results, options.minutes * 60)
    print("\n" + table(("step", "state", "seconds"), [(o.step, o.state, f"{o.seconds:.0f}") for o in outcomes]))
    not_done = [step.name for step in in_order(chosen, results)]
    print(f"\nnot done: {', '.join(not_done)}" if not_done else "\nall is done")


if __name__ == "__main__":
    main()
