"""Reporting a run to experiment trackers, by way of one of our own."""

import json

import pytest
from accelerate import tracking

from forgetfilter import ForgetFilter, ForgetFilterError
from forgetfilter.cli import main
from support.quick_runs import run


class Kept(tracking.GeneralTracker):
    """Keeps what it is told in a file, as soon as it is told."""

    name = "kept"
    requires_logging_directory = True
    fails_at = None

    def __init__(self, project, folder):
        super().__init__()
        assert project == "forgetfilter"
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.count = folder / "kept.jsonl", 0

    @property
    def tracker(self):
        return self.file

    def _keep(self, *told):
        if self.count == self.fails_at:
            raise ConnectionError("gone\nfar away")
        self.count += 1
        with self.file.open("a") as file:
            file.write(json.dumps(told) + "\n")

    def store_init_configuration(self, values):
        self._keep("settings", values)

    def log(self, values, step=None, **_):
        self._keep(step, values)

    def finish(self):
        self._keep("finish", {})


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "kept", Kept)
    file = tmp_path / "run" / "tracking" / "kept.jsonl"
    return lambda: [json.loads(line) for line in file.read_text().splitlines()]


def test_sessions_and_result_are_reported(command, kept, tmp_path):
    more = ["--threshold", "top:25%", "--finetune", "--finetune-epochs", "1", "--report-to", "kept"]
    assert run(command, *more) == 0
    (name, settings), *steps, (_, result), finish = kept()
    assert (name, settings["review_steps"], settings["epochs"]) == ("settings", 2, 1.0)
    assert finish == ["finish", {}]
    histories = {
        session: json.loads((tmp_path / "run" / place / "history.json").read_text())
        for session, place in (("learned", "stages/learned"), ("reviewed", "stages/reviewed"), ("model", "model"))
    }
    expected = [
        {
            f"{session}/loss": step["loss"],
            f"{session}/learning_rate": step["learning_rate"],
            f"{session}/tokens_per_second": step["tokens"] / step["seconds"],
        }
        for session, history in histories.items()
        for step in history
    ]
    assert [values for _, values in steps] == expected
    assert [step for step, _ in steps] == list(range(1, len(expected) + 1))
    assert (result["summary/rows"], result["summary/removed"], result["summary/kept"]) == (12, 3, 9)


@pytest.mark.usefixtures("kept")
def test_so_is_a_later_decision(command, tmp_path):
    assert run(command, "--finetune-epochs", "1") == 0
    again = ["decide", str(tmp_path / "run"), "--threshold", "top:25%", "--finetune", "--report-to", "kept"]
    assert main(again) == 0
    (file,) = (tmp_path / "run" / "tracking").glob("decide-*/kept.jsonl")
    (name, _), *steps, (_, result), finish = [json.loads(line) for line in file.read_text().splitlines()]
    history = json.loads((tmp_path / "run" / "model" / "history.json").read_text())
    assert (name, finish) == ("settings", ["finish", {}])
    assert [values["model/loss"] for _, values in steps] == [step["loss"] for step in history]
    assert result["summary/removed"] == 3
    assert main([*again, "--report-to", "nothing"]) == 2


def test_from_python_as_well(noisy, safe, model, kept, tmp_path):
    settings = {"device": "cpu", "dtype": "float32", "epochs": 1, "review_steps": 2, "signal": "likelihood"}
    filtering = ForgetFilter(model=str(model), quiet=True, trusted="none", set_aside=0, **settings)
    filtering.run(str(noisy), str(safe), output=tmp_path / "run", report_to=["kept"])
    assert [told[0] for told in kept()] == ["settings", 1, 2, 3, 4, "finish"]
    with pytest.raises(ForgetFilterError, match="there is no tracker 'nope'"):
        filtering.run(str(noisy), str(safe), output=tmp_path / "other", report_to=["nope"])


@pytest.mark.parametrize("at", [0, 3])
def test_a_tracker_that_fails_ends_no_run(command, kept, monkeypatch, capsys, at):
    monkeypatch.setattr(Kept, "fails_at", at)
    assert run(command, "--report-to", "kept") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kept:")]
    assert said == ["kept: nothing is reported there from now on: gone"]
    if at:
        assert len(kept()) == at


@pytest.mark.parametrize(
    ("names", "said"), [("nope", "there is no tracker 'nope'; there are "), ("kept,aim", "aim is not installed")]
)
@pytest.mark.usefixtures("kept")
def test_a_tracker_that_is_not_there_is_told_before_any_work(command, tmp_path, capsys, names, said):
    assert main([*command, "--report-to", names]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
