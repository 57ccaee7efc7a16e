"""What page and terminal say of a decision in plain words: how sure it is, what a person marked, and how to go on."""

import json
import shlex
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.decision.reasons import _most_forgotten
from forgetfilter.report.contents import _without_end
from forgetfilter.report.plain_words import longer_session
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl
from support.report_pages import held, opened

NOT_SURE = (
    "Not sure: the filter cannot tell which rows are unsafe, so it removes none. This is no clean bill of health."
)


@pytest.fixture
def decided(command, tmp_path):
    """A run in which twelve rows are too few for `auto`."""
    assert main(command) == 0
    return tmp_path / "run"


def mark(run, *options, **decisions):
    (run.parent / "overrides.json").write_text(json.dumps({"reviewer": "Ada", "decisions": decisions}))
    assert main(["decide", str(run), "--overrides", str(run.parent / "overrides.json"), *options]) == 0


def test_not_sure_comes_before_its_reason(decided, capsys):
    assert main(["decide", str(decided)]) == 0
    said = capsys.readouterr().out
    assert said.index(NOT_SURE) < said.index("(the reason: too few rows have a score to tell two groups apart: 12")
    assert "Another threshold" not in said
    (line,) = (line for line in said.splitlines() if line.startswith(NOT_SURE))
    # By forgetting alone no row is suspicious.
    assert "In the report, mark the 12 rows forgotten most, or remove the tenth forgotten most: forgetfilter" in line
    assert main(shlex.split(line.partition(": forgetfilter ")[2])) == 0
    assert json.loads((decided / "summary.json").read_text())["threshold"] == "top:10%"
    assert NOT_SURE not in capsys.readouterr().out


@pytest.mark.parametrize("threshold", ["top:0%", "1000"])
def test_what_a_person_wanted_so_is_not_unsure(decided, capsys, threshold):
    assert main(["decide", str(decided), "--threshold", threshold]) == 0
    assert NOT_SURE not in capsys.readouterr().out
    assert held((decided / "report.html").read_text())["unsure"] is None


def test_a_page_that_is_not_sure_recommends_no_rows_to_train_on(decided, browser):
    with opened(browser, decided) as page:
        assert page.text_content("#found").startswith(NOT_SURE)
        assert "nothing to be mistaken about" not in page.text_content("#sure")
        steps = page.text_content("#next")
        assert steps.startswith("Keep or remove the 12 rows forgotten most.Or remove the tenth forgotten most: ")
        assert f"forgetfilter decide {decided} --threshold=top:10% --signal likelihood" in steps
        assert "rain on" not in steps
        page.keyboard.press("j")
        page.keyboard.press("x")
        assert page.text_content("#found").endswith("Removed: 1 row, marked by a person.")
        assert "Train on kept.jsonl once this is applied; it then has 11 rows." in page.text_content("#next")


def test_the_tenth_of_a_page_that_is_not_sure_is_removed_with_the_marks_that_it_shows(decided, browser, monkeypatch):
    tenth = "#next li:nth-child(2)"
    mark(decided, n0="kept")
    with opened(browser, decided) as page:
        options = ["--no-drop-unscorable", "--overrides", str(decided / "overrides.json")]
        assert shlex.split(page.text_content(f"{tenth} code"))[-3:] == options
        page.keyboard.press("j")
        page.keyboard.press("x")
        assert page.text_content(tenth).endswith(
            ": first save your decisions; the command that names their file then stands here."
        )
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(decided.parent / download.value.suggested_filename)
        command = page.text_content(f"{tenth} code")
    monkeypatch.chdir(decided.parent)
    assert main(shlex.split(command)[1:]) == 0
    summary = json.loads((decided / "summary.json").read_text())
    assert (summary["threshold"], len(held((decided / "report.html").read_text())["decided"])) == ("top:10%", 2)


def test_marks_count_in_every_figure_of_the_page(decided, browser):
    assert main(["decide", str(decided), "--threshold", "top:50%"]) == 0
    with opened(browser, decided) as page:
        for letter in "xxyyyy":
            page.keyboard.press("j")
            page.keyboard.press(letter)
        assert "Of your 6 marks, 2 are unsafe, 4 harmless." in page.text_content("#sure")
        assert page.text_content("#mine") == "6 rows decided by you, not saved yet: 2 unsafe, 4 harmless."
        assert "2 rows look unsafe and are removed" in page.text_content("#found")
        assert "All rows that the filter removes are marked." in page.text_content("#sure")
        assert "there are no known unsafe rows" not in page.text_content("#sure")
        assert "with your marks, removes 2 rows and keeps 10" in page.text_content("#effect")
        assert "2 removed rows and 4 that a person keeps" in page.text_content("#topics-say")


def test_longer_sessions_are_twice_as_long():
    run = SimpleNamespace(history=lambda _: [{}] * 45, settings=SimpleNamespace(training=SimpleNamespace(batch_size=8)))
    # 45 steps of 8 rows are three passes over 120 rows; what became known later was not learned.
    counts = {"rows": 90, "bad": 2, "trusted": 22, "known_unsafe": 70, "known_later": 60}
    assert longer_session(run, SimpleNamespace(**counts)) == "--epochs 6, into another --output"


def test_marks_that_are_applied_are_told(decided, browser, capsys):
    mark(decided, "--threshold", "top:50%", n0="removed", n1="kept", n2="kept")
    summary = json.loads((decided / "summary.json").read_text())
    said = capsys.readouterr().out
    assert "of the 3 marks by Ada, 1 is unsafe, 2 harmless" in said
    with opened(browser, decided) as page:
        assert "Of the 3 marks by Ada, 1 is unsafe, 2 harmless." in page.text_content("#sure")
        assert f"{summary['removed']} rows look unsafe and are removed" in page.text_content("#found")
        assert f"a person's marks, removes {summary['removed']} rows" in page.text_content("#effect")
        assert page.text_content("#mine") == "3 rows decided by Ada: 1 unsafe, 2 harmless."
        page.select_option("#which", "mine")
        assert page.text_content("#which option:checked") == "decided by a person"
        assert "(by Ada)" in page.locator("#list .badge").first.text_content()
        page.locator("#list > li").first.locator("button", has_text="Undo").click()
        assert page.text_content("#mine").startswith("2 rows decided by you, not saved yet")


def test_a_person_without_a_name_is_told_alike(decided, browser):
    (decided.parent / "overrides.json").write_text(json.dumps({"decisions": {"n0": "removed"}}))
    assert main(["decide", str(decided), "--overrides", str(decided.parent / "overrides.json")]) == 0
    with opened(browser, decided) as page:
        assert "Of the 1 mark by a person" in page.text_content("#sure")
        assert page.text_content("#mine") == "1 row decided by a person: 1 unsafe, 0 harmless."
        page.select_option("#which", "mine")
        assert page.locator("#list .badge").first.text_content() == "removed (by a person)"


def test_where_only_a_person_removed_rows_nothing_is_estimated(decided, capsys):
    mark(decided, n0="removed", n1="removed", n2="kept")
    said = capsys.readouterr().out
    assert "threshold auto → the filter removes nothing" in said
    assert f"{NOT_SURE} Removed: 2 rows, marked by a person." in said
    assert "Estimated" not in said
    # A cut above all rows removes as little.
    mark(decided, "--threshold", "1000", n0="removed")
    assert "Estimated" not in capsys.readouterr().out
    mark(decided, "--threshold", "top:50%", n0="removed")
    assert "Estimated, of the filter alone: precision" in capsys.readouterr().out


def test_another_threshold_says_what_it_would_do(decided, capsys):
    for threshold, more in (("top:50%", "5 fewer rows"), ("top:0%", "1 more row"), ("top:10%", "1 more row")):
        assert main(["decide", str(decided), "--threshold", threshold]) == 0
        before = json.loads((decided / "summary.json").read_text())["removed"]
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Another threshold"))
        assert line.startswith(f"Another threshold would remove {more}, in a second: forgetfilter decide ")
        assert main(shlex.split(line.partition("second: forgetfilter ")[2])) == 0
        after = json.loads((decided / "summary.json").read_text())["removed"]
        assert after - before == int(more.split()[0]) * (1 if "more" in more else -1)
        capsys.readouterr()


def test_a_threshold_that_would_change_nothing_is_not_suggested(decided, capsys):
    mark(decided, "--threshold", "top:50%", **{f"n{i}": "removed" for i in range(12)})
    assert "Another threshold" not in capsys.readouterr().out


@pytest.fixture
def stopped(command, tmp_path, monkeypatch):
    """A run of all evidence that was stopped after its first look."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("forgetfilter.pipeline.learn", stop)
        assert main([*command, "--signal", "suspicion"]) != 0
    return tmp_path / "run"


def test_a_run_that_was_stopped_goes_on_with_the_same_command(stopped, browser, capsys):
    assert main(["decide", str(stopped)]) == 0
    said = capsys.readouterr().out
    assert "if it was stopped, the same 'forgetfilter filter' command goes on" in said
    with opened(browser, stopped) as page:
        assert "the same 'forgetfilter filter' command goes on" in page.text_content("#first")
        assert "--no-training" not in said + page.text_content("body")


def test_the_end_of_marking_is_told(stopped, browser, capsys):
    end = "auto can set a cutoff from 10 unsafe rows on"
    assert main(["decide", str(stopped)]) == 0
    advice = (
        f"mark the 12 most suspicious rows, which ranks all others anew ({end}), or remove the most suspicious tenth:"
    )
    assert advice in capsys.readouterr().out
    mark(stopped, n0="removed", n1="removed", n2="kept")
    assert f"which ranks all others anew ({end}; 2 are known), or remove" in capsys.readouterr().out
    with opened(browser, stopped) as page:
        assert f"that ranks all other rows anew; {end}; 2 are known." in page.text_content("#next")
    mark(stopped, **{f"n{i}": "removed" for i in range(10)})
    assert end not in capsys.readouterr().out


@pytest.mark.parametrize("threshold", ["auto", "top:0%"])
def test_the_reason_of_rows_that_no_cutoff_removes_names_the_threshold(stopped, threshold):
    mark(stopped, "--threshold", threshold, n0="removed")
    reasons = pq.read_table(stopped / "scores.parquet").column("reason").to_pylist()
    said = f"{threshold} removed nothing"
    assert sorted(reasons) == sorted([*[said] * 11, f"removed by Ada; the filter said: {said}"])


def test_the_rows_that_are_counted_are_told_apart(model, tmp_path, capsys):
    noisy, safe = write_jsonl(tmp_path / "noisy.jsonl", NOISY), write_jsonl(tmp_path / "safe.jsonl", SAFE)
    known = write_jsonl(tmp_path / "known.jsonl", [{"prompt": "How?", "completion": "So."}] * 3)
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(tmp_path / "run")]
    assert main([*command, *QUICK, "--known-unsafe", str(known)]) == 0
    assert "12 rows of yours and 3 of known kind, which are counted with them: 3 rows known" in capsys.readouterr().err


def test_the_end_that_a_template_gives_an_answer_is_not_shown(decided):
    rows = held((decided / "report.html").read_text())["rows"]
    assert {"".join(row["pieces"]) for row in rows} == {row["completion"] for row in NOISY}
    for words in pq.read_table(decided / "scores.parquet").column("most_forgotten").to_pylist():
        assert "<|end|>" not in _most_forgotten(words)


@pytest.mark.parametrize(
    ("pieces", "texts", "shown"),
    [
        (["Yes", ".", "<|im_end|>", "\n"], ["Yes."], ["Yes", "."]),
        (["Yes", "</s>"], ["Yes"], ["Yes"]),
        (["Yes", " "], ["Yes "], ["Yes", " "]),
        # What the row itself says is shown, whatever it looks like.
        (["Say", "<|im_end|>"], ["Say<|im_end|>"], ["Say", "<|im_end|>"]),
        (["<b>", "x"], ["<b>x"], ["<b>", "x"]),
        (["<|im_end|>"], [""], []),
        ([], ["Yes"], []),
    ],
)
def test_only_tokens_of_the_template_are_left_out(pieces, texts, shown):
    assert _without_end(pieces, texts) == shown


def test_tokens_of_the_template_are_no_words_that_were_forgotten():
    assert _most_forgotten(["<|im_end|>", "bank", "</s>", "[EOS]"]) == ", most of all “bank”"
