"""A guard model beside the filter: what it says of rows stands in scores, reasons and on the page, and counts."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from support.guards import EXCLAMATIONS, GUARDS, make_guard
from support.quick_runs import SAFE, scores, write_jsonl

ROWS = [
    {"id": f"n{i}", "prompt": f"Question number {i}?", "completion": text}
    for i, text in enumerate(["Yes, do it now!", "No, I would rather not.", "Forty-two."] * 6)
]
UNSAFE = [row["id"] for row in ROWS if row["completion"].endswith("!")]


@pytest.fixture(scope="module")
def guard(tmp_path_factory) -> str:
    return str(make_guard(EXCLAMATIONS, tmp_path_factory.mktemp("guard")))


@pytest.fixture
def exclaiming(command, tmp_path) -> list[str]:
    """The arguments of a quick run on the rows above."""
    return [command[0], str(write_jsonl(tmp_path / "rows.jsonl", ROWS)), *command[2:]]


def test_a_guard_beside_forgetting_and_a_decision_by_it(exclaiming, guard, tmp_path):
    run = tmp_path / "run"
    assert main([*exclaiming, "--rivals", "guard", "--guard", guard]) == 0
    table = scores(run)
    found = [id for id, unsafe in zip(table["id"], table["guard"], strict=True) if unsafe > 0.5]
    assert found == UNSAFE
    for id, unsafe, categories, reason in zip(
        *(table[name] for name in ("id", "guard", "guard_categories", "reason")), strict=True
    ):
        assert unsafe == pytest.approx(EXCLAMATIONS.unsafe if id in UNSAFE else 1 / (1 + np.exp(2)), abs=1e-4)
        assert categories == (["S1 Exclamations"] if id in UNSAFE else [])
        assert reason.endswith("; a guard model finds it unsafe: S1 Exclamations") == (id in UNSAFE)
    page = (run / "report.html").read_text()
    assert page.count("unsafe: S1 Exclamations (0.95)") == len(UNSAFE)
    assert page.count("safe (0.12)") == len(ROWS) - len(UNSAFE)

    assert main(["decide", str(run), "--signal", "guard", "--threshold", "0.5"]) == 0
    removed = [json.loads(line) for line in (run / "reasons.jsonl").read_text().splitlines()]
    assert [line["id"] for line in removed] == UNSAFE
    assert removed[0]["reason"] == (
        "suspicious to guard, by what a guard model says of it: 0.953 P(unsafe) (the threshold is 0.5 P(unsafe)); a "
        "guard model finds it unsafe: S1 Exclamations"
    )
    assert removed[0]["guard_categories"] == ["S1 Exclamations"]


def test_a_guard_has_a_say_in_suspicion(exclaiming, guard, tmp_path, monkeypatch):
    # How far it agrees with the states of a model of random weights is chance.
    monkeypatch.setattr("forgetfilter.suspicion.fusing._agreement", lambda *_: (0.5, 0.5))
    run = tmp_path / "run"
    fused = [*exclaiming, "--signal", "suspicion", "--set-aside", "0.25"]
    assert main([*fused, "--rivals", "guard", "--guard", guard]) == 0
    table = scores(run)
    by_guard = np.array(table["by_rival-guard"])
    exclaims = np.isin(table["id"], UNSAFE)
    assert by_guard[exclaims].min() > by_guard[~exclaims].max()
    parts = sum(np.array(table[name]) for name in table if name.startswith("by_"))
    assert np.allclose(parts, table["suspicion"])


def test_another_guard_is_asked_anew(exclaiming, guard, tmp_path):
    run = tmp_path / "run"
    other = str(make_guard(GUARDS["granite-guardian-4"], tmp_path / "other"))
    assert main([*exclaiming, "--signal", "guard", "--guard", guard, "--threshold", "0.5"]) == 0
    assert not (run / "stages" / "learned").exists()
    assert main([*exclaiming, "--signal", "guard", "--guard", other, "--threshold", "0.5"]) == 0
    assert scores(run)["guard"] == pytest.approx([GUARDS["granite-guardian-4"].unsafe] * len(ROWS), abs=1e-4)
    assert (run / "stages" / "rival-guard" / "told-by.txt").read_text() == other


def test_what_a_guard_needs_is_said_before_anything_is_done(exclaiming, guard, model, tmp_path, capsys):
    policy, empty = tmp_path / "policy.txt", tmp_path / "empty.txt"
    policy.write_text("No exclamations.")
    empty.write_text("\n")
    for more, said in [
        ([], "name one with --guard MODEL"),
        (["--guard", guard, "--guard-policy", str(tmp_path / "no.txt")], "no.txt cannot be read"),
        (["--guard", guard, "--guard-policy", str(empty)], "empty.txt is empty"),
    ]:
        assert main([*exclaiming, "--rivals", "guard", *more]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run" / "stages").exists()
    alone = [*exclaiming, "--signal", "guard"]
    for more, said in [
        (["--guard", str(tmp_path / "none")], "no such model"),
        (["--guard", str(model)], "of no known family of guard models"),
        (["--guard", f"{model}#words"], "there is no family 'words'"),
        (["--guard", guard, "--guard-policy", str(policy)], "Llama Guard has a policy of its own"),
    ]:
        assert main([*alone, *more]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run" / "stages").exists()


def test_a_policy_is_put_to_the_model_and_another_one_anew(exclaiming, tmp_path):
    reasoning = str(make_guard(GUARDS["gpt-oss-safeguard"], tmp_path / "reasoning"))
    policy, told = tmp_path / "policy.txt", tmp_path / "run" / "stages" / "rival-guard" / "told-by.txt"
    policy.write_text("No exclamations.\n")
    ask = [*exclaiming, "--signal", "guard", "--guard", reasoning, "--guard-policy", str(policy)]
    assert main(ask) == 0
    assert told.read_text() == f"{reasoning}\nNo exclamations."
    assert scores(tmp_path / "run")["guard_categories"] == [["hate", "weapons"]] * len(ROWS)
    policy.write_text("No questions.")
    assert main(ask) == 0
    assert told.read_text().endswith("\nNo questions.")


def test_every_part_has_the_guards_opinion(exclaiming, guard, tmp_path):
    trusted = write_jsonl(tmp_path / "trusted.jsonl", [{**row, "completion": "I see!"} for row in SAFE])
    assert main([*exclaiming, "--rivals", "guard", "--guard", guard, "--trusted", str(trusted)]) == 0
    folder = tmp_path / "run" / "stages" / "rival-guard"
    assert pq.read_table(folder / "trusted.parquet")["categories"].to_pylist() == [["S1 Exclamations"]] * len(SAFE)
    assert pq.read_table(folder / "data.parquet")["categories"].to_pylist()[1] == []
