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
