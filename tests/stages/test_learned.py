"""A run whose M1 was trained elsewhere: what the review makes of it, and what is refused."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from support.quick_runs import scores


def learned_scores(run):
    tables = [pq.read_table(file) for file in sorted((run / "stages" / "learned-scores" / "data").glob("*.parquet"))]
    return {row["id"]: row["logprobs"] for table in tables for row in table.to_pylist()}


def alike(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for id in one:
        np.testing.assert_allclose(one[id], other[id], atol=tolerance)


@pytest.mark.parametrize("kind", [["--lora-rank", "4", "--top-blocks", "1"], ["--full-finetuning"]])
def test_what_an_ordinary_run_learned_gives_the_same_when_it_is_given(kind, command, tmp_path):
    assert main([*command, *kind]) == 0
    earlier, given = tmp_path / "run", tmp_path / "given"
    learned = earlier / "stages" / "learned"
    own = kind if "--full-finetuning" in kind else []
    assert main([*command, *own, "--learned", str(learned), "--output", str(given)]) == 0
    alike(learned_scores(earlier), learned_scores(given))
    assert not (given / "stages" / "learned" / "history.json").exists()
    np.testing.assert_allclose(scores(given)["forgetting"], scores(earlier)["forgetting"], atol=1e-5)
    assert json.loads((given / "summary.json").read_text())["planted_unlearned"]


@pytest.fixture
def learned(command, tmp_path):
    """The M1 of an ordinary run, which stands for one that somebody else trained."""
    assert main([*command, "--output", str(tmp_path / "earlier")]) == 0
    return tmp_path / "earlier" / "stages" / "learned"


def test_a_whole_model_is_reviewed_with_an_adapter_and_the_final_model_begins_with_m0(command, model, tmp_path):
    assert main([*command, "--full-finetuning", "--output", str(tmp_path / "earlier")]) == 0
    whole = tmp_path / "earlier" / "stages" / "learned"
    given = tmp_path / "run"
    # Of all evidence together, likeness caches what the lower blocks of M0 make of the rows; those of M1 differ.
    assert main([*command, "--signal", "suspicion", "--learned", str(whole), "--finetune"]) == 0
    alike(learned_scores(tmp_path / "earlier"), learned_scores(given))
    assert np.nanmax(np.abs(scores(given)["forgetting"])) > 0
    for folder, base in ((given / "stages" / "reviewed", whole), (given / "model", model)):
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)


def test_all_evidence_together_tells_no_errors_of_rows_that_were_not_learned(command, learned, tmp_path, capsys):
    fused = [*command, "--signal", "suspicion", "--trusted", "builtin", "--set-aside", "0.5", "--learned", str(learned)]
    assert main(fused) == 0
    said = " ".join(capsys.readouterr().out.split())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["errors"] == {"precision": None, "recall": None, "harmless_removed": None}
    assert (summary["trusted"], summary["known_unsafe"]) == (0, 0)
    assert "precision cannot be told with --learned" in said
    assert "the learned model was trained elsewhere" in said
    assert "the learned model was trained elsewhere" in (tmp_path / "run" / "report.html").read_text()
    assert not pq.read_table(tmp_path / "run" / "planted.parquet").num_rows
    # All of the safe rows are reviewed, as nothing would learn those set aside.
    assert not list((tmp_path / "run" / "stages" / "tokens").glob("set-aside*"))
    assert main(["decide", str(tmp_path / "run"), "--threshold", "fdr:10%"]) == 2
    assert "with --learned none were" in capsys.readouterr().err


def test_another_model_beneath_is_warned_of_by_its_name_alone(command, model, learned, tmp_path):
    config = learned / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "/home/ada/other"}))
    assert main([*command, "--learned", str(learned)]) == 0
    (told,) = [w for w in json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"] if "account" in w]
    # The cards of what is published repeat warnings.
    assert told.startswith(f"the learned model was trained from other, by its own account, and not from {model.name};")


def test_another_checkpoint_is_another_run(command, learned, tmp_path, capsys):
    given = [*command, "--learned", str(learned)]
    assert main(given) == 0
    assert main(given) == 0
    assert main(command) == 2
    assert "learned: its content is not what the run was made from" in capsys.readouterr().err
    assert main([*given, "--full-finetuning", "--output", str(tmp_path / "full")]) == 2
    assert "is an adapter, with which the review goes on" in capsys.readouterr().err
    assert main([*given, "--threshold", "fdr:5%", "--output", str(tmp_path / "fdr")]) == 2
    assert "with --learned none were" in capsys.readouterr().err
