"""A person's decisions: about rows that are not there, and beside what is estimated of the filter."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from forgetfilter.cli import main
from forgetfilter.decision.overrides import Overrides
from forgetfilter.errors import RunError
from support.quick_runs import write_jsonl

HASHED = ["57480114a890b933", "c2c4ca1ee4a9a1c4#2"]
HASH_SAID = "ids here look like 57480114a890b933 (a hash of the text, as there is no column 'id'); scores.parquet lists"


def refused(ids, *decided):
    with pytest.raises(RunError) as error:
        Overrides(decisions=dict.fromkeys(decided, "removed")).find(pa.chunked_array([ids]), Path("run"))
    return str(error.value)


def test_ids_of_ones_own_are_told_from_hashes():
    said = refused(HASHED, "T1015")
    assert said.startswith(f"run: has no row T1015: {HASH_SAID} them")
    assert "hash" not in refused(["n0", "n1"], "T1015")
    assert "ids here look like n0; scores.parquet" in refused(["n0", "n1"], "T1015")


def test_another_run_is_supposed_only_where_no_row_is_found():
    assert refused(HASHED, "T1", "T2").endswith("; were these decisions made about another run?")
    said = refused(HASHED, HASHED[0], "T1", "T2", "T3", "T4")
    assert "has no row T1, T2, T3 and 1 more:" in said
    assert "another run" not in said


def test_ids_are_escaped():
    said = refused(["a\x1b[31m"], "b\x1b[31m")
    assert "\x1b" not in said
    assert "x1b[31m" in said


def test_marks_change_no_estimate_of_the_filter(command, tmp_path):
    trusted = [{"prompt": f"How many is {i}?", "completion": "Forty-three."} for i in range(30)]
    assert main([*command, "--trusted", str(write_jsonl(tmp_path / "trusted.jsonl", trusted))]) == 0
    marks = tmp_path / "overrides.json"
    marks.write_text(json.dumps({"decisions": {f"n{i}": "removed" for i in range(8)}}))
    found = {}
    for threshold in ("top:50%", "top:0%"):
        for marked in ([], ["--overrides", str(marks)]):
            assert main(["decide", str(tmp_path / "run"), "--threshold", threshold, *marked]) == 0
            summary = json.loads((tmp_path / "run" / "summary.json").read_text())
            found[threshold, bool(marked)] = summary["errors"]["precision"]
        assert summary["removed"] >= 8
        assert found[threshold, True] == found[threshold, False]
    assert found["top:50%", True] is not None
    # Nobody's marks make up a precision where the filter removed nothing.
    assert found["top:0%", True] is None
