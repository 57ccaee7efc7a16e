"""Tables that are damaged by design, if `../shared/cases` lies beside the project: refused in one line, or read."""

from pathlib import Path

import pytest

from forgetfilter.cli import main
from forgetfilter.data.containers import open_container
from forgetfilter.data.rows import ReadOptions, read_rows

FAULTS = Path(__file__).parents[2] / "shared" / "cases" / "faults"
pytestmark = pytest.mark.skipif(not FAULTS.is_dir(), reason="../shared/cases is not there")


@pytest.mark.parametrize("name", ["hc.parquet", "enc2.parquet"])
@pytest.mark.parametrize("part", ["data", "safe"])
def test_a_damaged_table_is_refused_while_reading(name, part, tmp_path, capsys):
    data, safe = (FAULTS / name, "safe.jsonl") if part == "data" else ("mgood.jsonl", FAULTS / name)
    model = ["--model", str(FAULTS / "model_good"), "--device", "cpu"]
    assert (
        main(["filter", str(FAULTS / data), "--safe", str(FAULTS / safe), *model, "--output", str(tmp_path / "r")]) == 2
    )
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith(f"forgetfilter: {FAULTS / name}: holds something that cannot be read")


def test_a_list_of_views_is_read(tmp_path):
    assert read_rows(open_container(str(FAULTS / "lbv.parquet")), ReadOptions(), tmp_path).count == 10
