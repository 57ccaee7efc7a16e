"""The report: what it holds, and, in a real browser where there is one, what a person can do in it."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.console import Console
from forgetfilter.data.rows import Rows
from forgetfilter.data.tokens import _SCHEMA
from forgetfilter.decision.decide import FORGETTING, decide
from forgetfilter.forgetting.measuring import columns_of
from forgetfilter.forgetting.signals import LIKELIHOOD
from forgetfilter.report import write_report
from forgetfilter.report.contents import UNJUDGED, _choose, _drop_long_ids, _first_bytes, _fit_into
from forgetfilter.runs.inputs import find_inputs, make_encoder, read_parts
from forgetfilter.runs.layout import DATA, ROWS, TOKENS
from forgetfilter.runs.run import Run
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import from_mapping
from support.damage import forget_checksums
from support.quick_runs import NOISY, QUICK, SAFE, reviewing, write_jsonl
from support.report_pages import HOSTILE, held, opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """A run of more rows than the page lists at once, some of them hostile."""
    place = tmp_path_factory.mktemp("report")
    hostile = [
        {"id": f"<b>h{i}", "prompt": text[:1000], "completion": text, "label": text[:40], "kind": HOSTILE[i % 4][:40]}
        for i, text in enumerate(HOSTILE)
    ]
    more = [{**row, "id": f"{row['id']}-{i}", "prompt": f"{row['prompt']} ({i})"} for i in range(3) for row in NOISY]
    noisy, safe = (
        write_jsonl(place / "<i>noisy.jsonl", [*NOISY, *more, *hostile]),
        write_jsonl(place / "safe.jsonl", SAFE),
    )
    run = place / "run"
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run)]
    assert main([*command, "--threshold", "top:25%", *QUICK]) == 0
    return run


def test_the_report_carries_the_decision_and_the_rows(folder):
    data = held((folder / "report.html").read_text())
    scores = pq.read_table(folder / "scores.parquet").to_pydict()
    assert [row["id"] for row in data["rows"]][:3] == [
        scores["id"][i] for i in np.argsort(-np.nan_to_num(scores["forgetting"], nan=-np.inf), kind="stable")[:3]
    ]
    by_id = {row["id"]: row for row in data["rows"]}
    assert {i: row["decision"] for i, row in by_id.items()} == dict(zip(scores["id"], scores["decision"], strict=True))
    assert by_id["n0"]["tags"] == {"label": "unsafe"}
    assert "".join(by_id["n0"]["pieces"]).startswith("Yes, do it now.")
    assert len(by_id["n0"]["shades"]) == len(by_id["n0"]["pieces"])
    assert {v["value"] for g in data["groups"] if g["column"] == "label" for v in g["values"]} >= {"unsafe", "task"}
    assert [session["steps"] for session in data["sessions"]] == [14, 2]
    forgotten = pq.read_table(folder / "stages" / "forgetting" / "data.parquet").to_pydict()
    of_removed = [
        forgotten["likelihood-mean.learned"][i] - forgotten["likelihood-mean.reviewed"][i]
        for i, decision in enumerate(scores["decision"])
        if decision == "removed"
    ]
    (removed,) = [v for v in data["curve"]["groups"][0]["values"] if v["value"] == "removed"]
    assert (data["curve"]["steps"], data["curve"]["rows"]) == ([0, 2], data["scored"])
    assert removed["mean"] == pytest.approx([0.0, np.mean(of_removed)], rel=1e-3)
    assert removed["half"][1] == pytest.approx(2.179 * np.std(of_removed, ddof=1) / np.sqrt(13), rel=1e-2)


def test_what_was_not_learned_of_a_long_answer_follows_without_shades(folder):
    rows = {row["id"]: row for row in held((folder / "report.html").read_text())["rows"]}
    said, endless = rows["<b>h0"], rows["<b>h5"]
    assert "".join(said["pieces"]) == HOSTILE[0]
    # 32 tokens are learned, of which the default looks at 24.
    assert [shade == UNJUDGED for shade in said["shades"]] == [False] * 24 + [True] * 9
    assert not said["cut"]
    assert endless["cut"]


@pytest.mark.parametrize(
    ("more", "judged", "in_part", "unjudged"),
    [
        ([], 24, 2, {"longer": "b", "both": "b" + "c" * 16}),
        (["--signal", "likelihood-mean"], 32, 1, {"both": "c" * 8}),
        (["--max-completion", "all"], None, 0, {}),
        (["--max-completion", "20"], 20, 3, {"short": "a" * 4, "longer": "b" * 5, "both": "b" * 5 + "c" * 20}),
        (["--signal", "words"], None, 0, {}),
        (["--max-completion", "all", "--max-length", "70"], None, 1, {"both": "c" * 7}),
    ],
)
def test_the_rest_of_an_answer_that_has_no_say_is_marked_and_counted(
    noisy, safe, model, tmp_path, capsys, more, judged, in_part, unjudged
):
    turns = {"short": ["a" * 24], "longer": ["b" * 25], "both": ["b" * 25, "c" * 40]}
    rows = [
        {
            "id": name,
            "messages": [{"role": r, "content": c} for text in of for r, c in (("user", "Q"), ("assistant", text))],
        }
        for name, of in turns.items()
    ]
    write_jsonl(noisy, rows)
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(tmp_path / "run")]
    assert main([*command, *QUICK, *more]) == 0
    data = held((tmp_path / "run" / "report.html").read_text())
    assert (data["summary"]["judged"], data["summary"]["judged_in_part"]) == (judged, in_part)
    found = {
        row["id"]: "".join(p for p, shade in zip(row["pieces"], row["shades"], strict=True) if shade == UNJUDGED)
        for row in data["rows"]
    }
    assert {name: text.replace("<|end|>", "") for name, text in found.items() if text} == unjudged
    shown = {row["id"]: "".join(row["pieces"]).replace("<|end|>", "").split() for row in data["rows"]}
    assert shown == turns
    counted = "1 row is" if in_part == 1 else f"{in_part} rows are"
    said = f"{counted} judged in part, by the first {judged} tokens" in capsys.readouterr().out
    assert said == (judged is not None)


def test_nothing_of_the_data_is_markup(folder):
    page = (folder / "report.html").read_text()
    assert page.count("<script") == page.count("</script") == 2
    assert "<img" not in page
    assert "<i>noisy" not in page
    assert "49" not in page[: page.index('id="data"')].split("</style>")[1]
    assert len(page) < 300_000
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.split('id="data"')[0])


def test_of_many_rows_the_telling_ones_are_shown():
    forgetting = np.random.default_rng(0).normal(size=200_000)
    forgetting[7] = np.nan
    chosen, said = _choose(forgetting, 2.0, np.array([199_999]), seed=0, most="most suspicious")
    order = np.argsort(-np.nan_to_num(forgetting, nan=-np.inf), kind="stable")
    cut = int((forgetting > 2.0).sum())
    assert set(order[:600]) <= set(chosen)
    assert set(order[cut - 300 : cut + 300]) <= set(chosen)
    assert 199_999 in chosen
    assert 1500 < len(chosen) <= 1801
    assert (np.diff(forgetting[chosen][~np.isnan(forgetting[chosen])]) <= 0).all()
    assert "200,000 rows: 600 most suspicious, 600 around the threshold" in said


def test_a_row_has_its_share_of_the_page_and_no_more():
    assert _fit_into(["word "] * 1000, 200) == ["word "] * 20
    assert _fit_into(["ü" * 60], 10) == ["ü" * 60]
    assert _first_bytes("aü" * 10, 8) == "aüaüa"


def test_rows_with_ids_too_long_to_list_are_counted():
    ids = [*(f"row {i}" for i in range(999)), "x" * 1_750, "x" * 1_751]
    picked, said = _drop_long_ids(pa.table({"id": ids[:1000]}))
    assert (len(picked), said) == (1000, "")
    picked, said = _drop_long_ids(pa.table({"id": ids[1:]}))
    assert picked.column("id").to_pylist() == ids[1:1000]
    assert said == " (1 of them not listed: an id is longer than 1,750 bytes)"
    assert _drop_long_ids(pa.table({"id": pa.array([], pa.string())}))[1] == ""


def decided(folder):
    table = pq.read_table(folder / "scores.parquet").to_pydict()
    return {name: (table["decision"][i], table["decided_by"][i]) for i, name in enumerate(table["id"])}


def test_a_person_decides_against_the_filter(folder, tmp_path, capsys):
    run = shutil.copytree(folder, tmp_path / "run")
    before = decided(run)
    gone = next(i for i, (verdict, _) in before.items() if verdict == "removed" and i.startswith("n"))
    there = next(i for i, (verdict, _) in before.items() if verdict == "kept" and i.startswith("n"))
    file = tmp_path / "overrides.json"
    file.write_text(json.dumps({"reviewer": "Ada", "decisions": {gone: "kept", there: "removed"}}))
    assert main(["decide", str(run), "--overrides", str(file)]) == 0
    after = decided(run)
    assert after[gone] == ("kept", "Ada")
    assert after[there] == ("removed", "Ada")
    assert {i for i in after if after[i] != before[i]} == {gone, there}
    assert there in (run / "removed.jsonl").read_text()
    assert gone in (run / "kept.jsonl").read_text()
    reasons = {r["id"]: r for r in map(json.loads, (run / "reasons.jsonl").read_text().splitlines())}
    assert reasons[there]["reason"].startswith("removed by Ada; the filter said: never learned")
    assert reasons[there]["decided_by"] == "Ada"
    assert json.loads((run / "summary.json").read_text())["overridden"] == 2
    assert held((run / "report.html").read_text())["decided"] == {gone: "kept", there: "removed"}
    assert "2 rows were decided otherwise by Ada" in capsys.readouterr().out


def test_filtering_again_keeps_a_persons_decisions(command, tmp_path, capsys):
    run, file = tmp_path / "run", tmp_path / "mine.json"
    file.write_text(json.dumps({"decisions": {"n0": "removed", "n1": "removed", "n2": "removed"}}))
    assert main([*command, "--threshold", "1000"]) == 0
    assert main(["decide", str(run), "--overrides", str(file)]) == 0
    assert json.loads((run / "summary.json").read_text())["removed"] == 3
    capsys.readouterr()
    assert main([*command, "--threshold", "1000"]) == 0
    assert json.loads((run / "summary.json").read_text())["removed"] == 3
    said = capsys.readouterr().err
    assert "the 3 decisions by person of your last decide stay; " in said
    assert main(shlex.split(said.partition("to decide without: forgetfilter ")[2].splitlines()[0])) == 0
    assert f"--overrides {run}/overrides.json" in capsys.readouterr().err
    assert json.loads((run / "summary.json").read_text())["removed"] == 0
    assert main([*command, "--threshold", "1000"]) == 0
    assert json.loads((run / "summary.json").read_text())["removed"] == 0
    assert main(["decide", str(run), "--overrides", str(run / "overrides.json")]) == 0
    assert json.loads((run / "summary.json").read_text())["removed"] == 3


def test_overrides_keep_the_decision_that_the_person_saw(command, tmp_path, capsys):
    run, file = tmp_path / "run", tmp_path / "mine.json"
    assert main([*command, "--threshold", "1000"]) == 0
    saw = {"threshold": "top:50%", "signal": "likelihood-mean", "drop_unscorable": True}
    file.write_text(json.dumps({"reviewer": "Ada", "decisions": {"n0": "removed"}, **saw}))
    capsys.readouterr()
    again = ["decide", str(run), "--overrides", str(file)]
    assert main(again) == 0
    said = capsys.readouterr()
    assert "threshold top:50%, signal likelihood-mean and rows" in said.err
    assert said.err.strip().endswith("as the overrides were saved with")
    assert said.out.rstrip().endswith("--signal likelihood-mean")
    summary = json.loads((run / "summary.json").read_text())
    assert {name: summary[name] for name in saw} == saw
    assert {name: json.loads((run / "overrides.json").read_text())[name] for name in saw} == saw
    # What the command line says counts more; a file that lacks them leaves them as last decided.
    assert main([*again, "--threshold", "top:25%", "--no-drop-unscorable"]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert [summary[name] for name in saw] == ["top:25%", "likelihood-mean", False]
    file.write_text(json.dumps({"decisions": {"n0": "removed"}}))
    assert main(again) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert [summary[name] for name in saw] == ["top:25%", "likelihood-mean", False]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"decisions": {}, "threshold": "half\\nway"}', "o.json: threshold must be a number"),
        ('{"decisions": {}, "threshold": NaN}', "o.json: threshold must be a number"),
        ('{"decisions": {}, "threshold": 1e999}', "o.json: threshold must be a number"),
        ('{"decisions": {}, "threshold": ["top:10%"]}', "o.json: threshold must be text"),
        ('{"decisions": {}, "threshold": "%s"}' % ("9" * 9999), "o.json: threshold has at most 4,096 characters"),
        ('{"decisions": {}, "signal": "\\u001b[2J"}', "o.json: signal must be one of"),
        ('{"decisions": {}, "drop_unscorable": "perhaps"}', "o.json: drop_unscorable must be true or false"),
        ("not json", "not JSON"),
        ("[]", "no decisions"),
        ('{"decisions": {}, "reviewer": ["Ada"]}', "reviewer must be text"),
        ('{"decisions": {"n1": "perhaps"}}', "row n1: found 'perhaps'"),
        ('{"decisions": {"other": "kept"}}', "no row other"),
        ('{"decisions": {"n1": ["kept"]}}', "row n1"),
        ('{"decisions": {"n1": "kept"}, "by_group": "n1"}', "by_group: found 'n1', expected a list of ids"),
    ],
)
def test_wrong_overrides_change_nothing(folder, tmp_path, capsys, content, said):
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.suffix != ".txt"}
    (tmp_path / "o.json").write_text(content)
    assert main(["decide", str(folder), "--overrides", str(tmp_path / "o.json")]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "\x1b" not in shown
    assert shown.count("\n") == 1
    assert before == {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file() and f.suffix != ".txt"}


@pytest.fixture
def page(browser, folder):
    with opened(browser, folder) as page:
        yield page


def test_moving_the_threshold_moves_counts_list_and_command(page, folder):
    data = held((folder / "report.html").read_text())
    assert f"removes {data['summary']['removed']} rows" in page.text_content("#effect")
    page.fill("#number", "-100")
    page.press("#number", "Enter")
    scored = data["scored"]
    assert f"removes {scored} rows" in page.text_content("#effect")
    page.click("#more")
    assert page.locator("#list li.removed").count() == scored
    assert "--threshold=-100 --signal likelihood" in page.text_content("#command")
    page.click("#back")
    assert "--threshold=top:25%" in page.text_content("#command")


def test_rows_are_filtered_searched_and_ordered(page):
    page.click("#more")
    everything = page.locator("#list li").count()
    page.select_option("#which", "removed")
    removed = page.locator("#list li").count()
    page.select_option("#which", "kept")
    if page.locator("#more").is_visible():
        page.click("#more")
    assert removed + page.locator("#list li").count() == everything == 54
    page.select_option("#which", "all")
    page.fill("#search", "number 4? (2)")
    assert page.locator("#list li").count() == 1
    page.fill("#search", "")
    first = page.locator("#list li").first.text_content()
    page.select_option("#order", "least")
    assert page.locator("#list li").first.text_content() != first


def test_texts_are_veiled_until_asked_for(page):
    veiled = page.locator("#list .veiled").first
    blur = "element => getComputedStyle(element).filter"
    assert "blur" in veiled.evaluate(blur)
    page.check("#reveal")
    assert veiled.evaluate(blur) == "none"


def test_what_is_not_judged_is_marked(page, folder):
    data = held((folder / "report.html").read_text())
    in_part = data["summary"]["judged_in_part"]
    assert in_part == sum(len(text) > 24 for text in HOSTILE)
    assert f"judged in part{in_part}" in page.text_content("#counts")
    assert f"beyond the first 24 tokens of the answer, which alone is judged. {in_part} rows" in page.text_content(
        "#unjudged"
    )
    page.fill("#search", "<b>h1")
    marked = page.locator("#list .unjudged")
    assert set(marked.evaluate_all("all => all.map(one => one.title)")) == {
        "not judged: beyond the first 24 tokens of the answer"
    }
    assert "".join(marked.all_text_contents()) == HOSTILE[1][24:]
    assert "judged in part" in page.locator("#list .facts").first.text_content()
    page.fill("#search", "Forty-two.")
    assert marked.count() == 0
    assert "judged in part" not in page.text_content("#list")


def test_a_review_by_keyboard_is_saved_and_applied(page, folder, tmp_path):
    page.keyboard.press("j")
    assert "removed" in page.locator("#list li").first.get_attribute("class")
    page.keyboard.press("y")
    assert "kept (by you)" in page.locator("#list li").first.text_content()
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("u")
    assert "2 rows decided by you" in page.text_content("#mine")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert "2 rows decided by you, not saved yet" in page.text_content("#mine")
    page.fill("#reviewer", "Ada")
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "overrides.json")
    page.reload()
    assert page.text_content("#mine") == "2 rows decided by you: 1 unsafe, 1 harmless."
    saved = json.loads((tmp_path / "overrides.json").read_text())
    assert (saved["threshold"], saved["signal"], saved["drop_unscorable"]) == ("top:25%", "likelihood", False)
    page.fill("#number", "0.5")
    page.press("#number", "Enter")
    with page.expect_download() as download:
        page.click("#save")
    assert json.loads(download.value.path().read_text())["threshold"] == "0.5"
    page.click("#back")
    page.set_input_files("#load", download.value.path())
    page.wait_for_function("document.getElementById('number').value === '0.5'")
    run = shutil.copytree(folder, tmp_path / "run")
    assert main(["decide", str(run), "--overrides", str(tmp_path / "overrides.json")]) == 0
    first = held((folder / "report.html").read_text())["rows"][0]["id"]
    assert decided(run)[first] == ("kept", "Ada")


def saved_name(page):
    """Save the marks, and return the name of their file."""
    with page.expect_download() as download:
        page.click("#save")
    return download.value.suggested_filename


def test_the_command_names_the_file_that_holds_the_marks(browser, folder, tmp_path, monkeypatch):
    run = shutil.copytree(folder, tmp_path / "run")
    assert main(["decide", str(run), "--threshold", "top:25%"]) == 0
    with opened(browser, run) as page:
        assert "--overrides" not in page.text_content("#command")
        assert not page.is_visible("#save-first")
        page.keyboard.press("j")
        page.keyboard.press("y")
        assert (page.is_visible("#save-first"), page.is_visible("#copy")) == (True, False)
        assert page.text_content("#command") == ""
        before = page.evaluate("Date.now()")
        first = saved_name(page)
        local = page.evaluate("ms => new Date(ms).toString()", before).split()
        assert re.fullmatch(rf"overrides-{local[3]}\d\d{local[2]}-\d{{6}}\.json", first)
        assert page.text_content("#command").endswith(f" --overrides {first}")
        assert not page.is_visible("#save-first")
        assert page.text_content("#saved").startswith(f"Saved as {first}, where this browser puts downloads.")
        page.reload()
        assert page.text_content("#command").endswith(f" --overrides {first}")
        # Another mark: the saved file is stale.
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("x")
        assert page.is_visible("#save-first")
        assert page.text_content("#saved") == ""
        names = [saved_name(page) for _ in range(3)]
        assert len({first, *names}) == 4
        assert page.text_content("#command").endswith(f" --overrides {names[-1]}")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / download.value.suggested_filename)
        command = page.text_content("#command")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    assert len(held((run / "report.html").read_text())["decided"]) == 2


def test_marks_of_the_last_decision_are_read_from_the_runs_own_copy(browser, folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "my run")
    scores = decided(run)
    gone = next(i for i, (verdict, _) in scores.items() if verdict == "removed" and i.startswith("n"))
    (tmp_path / "a.json").write_text(json.dumps({"reviewer": "Ada", "decisions": {gone: "kept"}}))
    assert main(["decide", str(run), "--overrides", str(tmp_path / "a.json")]) == 0
    with opened(browser, run) as page:
        page.fill("#number", "0.5")
        page.press("#number", "Enter")
        command = page.text_content("#command")
        assert shlex.split(command)[-2:] == ["--overrides", str(run / "overrides.json")]
        page.select_option("#which", "mine")
        card = page.locator("#list > li").first
        card.locator("button", has_text="Remove").click()
        assert page.is_visible("#save-first")
        card.locator("button", has_text="Keep").click()
        assert page.text_content("#command") == command
        assert page.text_content("#mine") == "1 row decided by Ada: 0 unsafe, 1 harmless."
        # A file that was loaded is named as it is called.
        (tmp_path / "overrides (1).json").write_text(json.dumps({"decisions": {gone: "removed"}}))
        page.set_input_files("#load", tmp_path / "overrides (1).json")
        page.wait_for_function("document.getElementById('command').textContent.endsWith(\"'overrides (1).json'\")")
    assert main(shlex.split(command)[1:]) == 0
    assert decided(run)[gone] == ("kept", "Ada")
    # Marks that are all taken back are dropped.
    with opened(browser, run) as page:
        page.select_option("#which", "mine")
        page.locator("#list > li").first.locator("button", has_text="Undo").click()
        command = page.text_content("#command")
        assert shlex.split(command)[-2:] == ["--overrides", "none"]
    assert main(shlex.split(command)[1:]) == 0
    assert decided(run)[gone][1] == "filter"


def load(page, file, **decisions):
    """Load a file of decisions, and return what the page then says of them."""
    file.write_text(json.dumps({"reviewer": "Ada", "decisions": decisions}))
    before = page.text_content("#mine")
    page.set_input_files("#load", file)
    page.wait_for_function("before => document.getElementById('mine').textContent !== before", arg=before)
    return page.text_content("#mine")


def test_decisions_of_another_run_are_not_loaded(page, tmp_path):
    other = load(page, tmp_path / "other.json", a="kept", b="removed")
    assert other == "other.json seems to be of another run, which has other rows; nothing was loaded."
    assert "--overrides" not in page.text_content("#command")
    assert page.input_value("#reviewer") == ""
    mixed = load(page, tmp_path / "mixed.json", a="kept", n1="removed")
    assert mixed.startswith("1 row decided by you, not saved yet")
    assert mixed.endswith(" Left out: 1 of mixed.json, as this run has no such rows.")
    # That file would be refused.
    assert page.is_visible("#save-first")


def test_a_page_that_lacks_some_rows_loads_decisions_about_any(browser, folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "run")
    html = (run / "report.html").read_text()
    more = html.replace('"rows": 54', '"rows": 55', 1)
    assert more != html
    (run / "report.html").write_text(more)
    with opened(browser, run) as page:
        assert load(page, tmp_path / "mine.json", a="kept").startswith("1 row decided by you:")
        assert "--overrides mine.json" in page.text_content("#command")


def test_the_keyboard_reaches_every_row_of_a_list_that_decisions_shorten(page):
    page.fill("#number", "-100")
    page.press("#number", "Enter")
    page.select_option("#which", "removed")
    listed = int(re.search(r"The (\d+) that match", page.text_content("#shown"))[1])
    assert listed > 40
    page.locator("h1").click()
    for _ in range(listed):
        page.keyboard.press("j")
        page.keyboard.press("y")
    assert page.text_content("#mine").startswith(f"{listed} rows decided by you")
    page.click("#rows summary")
    page.uncheck("#keys")
    page.keyboard.press("u")
    assert page.text_content("#mine").startswith(f"{listed} rows decided by you")


def test_a_decision_that_removes_nothing_says_so(browser, folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "run")
    assert main(["decide", str(run), "--threshold", "1000"]) == 0
    with opened(browser, run) as page:
        assert "removes 0 rows and keeps 54" in page.text_content("#effect")


def test_the_shares_of_several_safe_sets_are_told(browser, folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "run")
    html, sets = (run / "report.html").read_text(), {"a/s.jsonl": {"count": 20, "removed": 0.1}}
    (run / "report.html").write_text(html.replace('"by_safe_set": {}', f'"by_safe_set": {json.dumps(sets)}'))
    told = "Of the safe rows set aside, these shares would be removed, as decided: 10% of 20 from a/s.jsonl."
    with opened(browser, run) as page:
        assert told in page.text_content("#first")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_rows_neither_run_nor_break_the_page(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    page.check("#reveal")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#list img, #list script, #list b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shown = page.text_content("#list")
    assert "\\u{202e}right to left" in shown
    assert "\\u{1b}[31m" in shown
    assert "</script><script>" in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown


def test_forgetting_along_the_review_is_drawn_and_told(page, folder):
    curve = held((folder / "report.html").read_text())["curve"]
    assert page.locator("#curve-column option").all_text_contents() == ["the decision", "column kind"]
    assert page.locator("#curve-drawn .mark").count() == 4
    assert page.locator("#curve-key li").all_text_contents() == [
        f"{group['value']} ({group['count']} rows)" for group in curve["groups"][0]["values"]
    ]
    page.locator("#curve summary").click()
    assert page.locator("#curve-table tbody tr").all_text_contents()[0].startswith("00.00 ± 0.00")
    last = curve["groups"][0]["values"][0]
    assert f"{last['value']} {last['mean'][-1]:.2f}" in page.locator("#curve-drawn").get_attribute("aria-label")
    page.select_option("#curve-column", label="column kind")
    assert page.locator("#curve-key li").count() == 5
    assert "</script><script>" in page.text_content("#curve-table thead")


def test_what_the_model_says_is_veiled_until_asked_for(page, folder):
    written = [json.loads(line) for line in (folder / "examples.jsonl").read_bytes().splitlines()]
    items = page.locator("#examples li")
    assert items.count() == len(written) == 8
    veiled = items.first.locator(".veiled")
    assert veiled.count() == 4
    assert "blur" in veiled.first.evaluate("element => getComputedStyle(element).filter")
    assert veiled.first.get_attribute("aria-hidden") == "true"
    items.first.locator("button").click()
    assert veiled.first.evaluate("element => getComputedStyle(element).filter") == "none"
    assert veiled.first.get_attribute("aria-hidden") == "false"
    assert "blur" in items.nth(1).locator(".veiled").first.evaluate("element => getComputedStyle(element).filter")


def test_hostile_answers_neither_run_nor_break_the_page(browser, folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "run")
    examples = [json.loads(line) for line in (run / "examples.jsonl").read_bytes().splitlines()]
    said = [{**example, "learned": text[:2000], "reviewed": text[:2000]} for example in examples for text in HOSTILE]
    write_jsonl(run / "examples.jsonl", said)
    forget_checksums(run)
    assert main(["decide", str(run)]) == 0
    with opened(browser, run) as page:
        page.set_viewport_size({"width": 360, "height": 740})
        page.check("#reveal")
        assert page.evaluate("window.hacked") is None
        assert page.locator("#examples img, #examples script, #examples b").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        shown = page.text_content("#examples")
        assert "\\u{202e}right to left" in shown
        assert "\\u{1b}[31m" in shown
        assert "\u202e" not in shown


@pytest.mark.parametrize("content", ["[", "[]", '{"id": "n0"}', '{"id": 1, "prompt": 2}', "\x00"])
def test_examples_that_someone_changed_are_refused(folder, tmp_path, capsys, content):
    run = shutil.copytree(folder, tmp_path / "run")
    (run / "examples.jsonl").write_text(content)
    forget_checksums(run)
    assert main(["decide", str(run)]) == 2
    assert "examples.jsonl: changed since it was written" in capsys.readouterr().err


def test_runs_of_earlier_versions_have_neither(browser, folder, tmp_path):
    run = shutil.copytree(folder, tmp_path / "run")
    (run / "examples.jsonl").unlink()
    forget_checksums(run)
    (run / "stages" / "reviewed" / "points.json").unlink()
    assert main(["decide", str(run)]) == 0
    with opened(browser, run) as page:
        assert not page.locator("#answers").is_visible()
        assert not page.locator("#curve").is_visible()
        assert page.locator("nav a:visible").count() == 5


def test_figures_are_vector_graphics_of_the_run(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["figure", str(folder), "--output", str(tmp_path)]) == 0
    written = capsys.readouterr().out.split()
    assert [file.rsplit("/", 1)[1] for file in written] == [
        *("forgetting.svg", "forgetting.pdf", "review.svg", "review.pdf", "sessions.svg", "sessions.pdf")
    ]
    summary = json.loads((folder / "summary.json").read_text())
    assert f"removed ({summary['removed']})" in (tmp_path / "forgetting.svg").read_text()
    assert f"removed ({summary['removed']})" in (tmp_path / "review.svg").read_text()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert main(["figure", str(folder), "--output", str(tmp_path)]) == 0
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}


def test_a_figure_by_column(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["figure", str(folder), "--output", str(tmp_path), "--by", "nothing"]) == 2
    assert "no column 'nothing'" in capsys.readouterr().err
    assert main(["figure", str(folder), "--output", str(tmp_path), "--by", "label"]) == 2
    assert "more than 6 values" in capsys.readouterr().err


def write_million(run, count):
    """The stages of a run of so many rows, but for the model's: short tokens, and forgetting made up."""
    rows = Rows.open(run.folder(ROWS) / DATA)
    ids, positions = rows.ids(), np.arange(count)
    lists = {
        "input_ids": pa.array([[1, 2, 3]], pa.list_(pa.int32())),
        "spans": pa.array([[1, 3]], pa.list_(pa.int32())),
        "prompt_ends": pa.array([[1]], pa.list_(pa.int32())),
        "pieces": pa.array([["a", "b"]], pa.list_(pa.string())),
    }
    path = run.partial(TOKENS) / f"{DATA}.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for start in range(0, count, 1000):
            here = positions[start : start + 1000]
            same = {name: one.take(np.zeros(len(here), dtype=int)) for name, one in lists.items()}
            plain = {"id": ids[start : start + len(here)].combine_chunks(), "row": here}
            columns = (
                plain
                | same
                | {
                    "truncated": np.zeros(len(here), dtype=bool),
                    "longest_answer": np.full(len(here), 2, np.int32),
                    "answers_cut": np.zeros(len(here), dtype=bool),
                }
            )
            writer.write_batch(pa.record_batch([pa.array(columns[n]) for n in _SCHEMA.names], schema=_SCHEMA))
    run.finish(TOKENS)
    learned, reviewed, said = columns_of(LIKELIHOOD)
    rng = np.random.default_rng(0)
    table = {
        "id": ids,
        "row": positions,
        "tokens": np.full(count, 2),
        "truncated": np.zeros(count, dtype=bool),
        "never_learned": np.zeros(count, dtype=bool),
        learned: np.full(count, -1.0),
        reviewed: -1.0 - rng.normal(size=count) - 4 * (positions % 50 == 0),
        said: lists["pieces"].take(np.zeros(count, dtype=int)),
    }
    pq.write_table(pa.table(table), run.partial(FORGETTING) / f"{DATA}.parquet")
    run.finish(FORGETTING)


@pytest.mark.slow
def test_the_page_of_a_million_rows_is_small_and_opens(browser, safe, model, tmp_path):
    count = 1_000_000
    noisy = tmp_path / "noisy.jsonl"
    with noisy.open("w") as file:
        file.writelines(f'{{"prompt": "Say {i}.", "completion": "{i}"}}\n' for i in range(count))
    given = {"data": str(noisy), "safe": str(safe), "model": str(model), "trusted": "none", "threshold": "top:2%"}
    given["signal"] = "likelihood"
    settings = from_mapping(Settings, given)
    run = Run.start(tmp_path / "run", settings, {})
    inputs = find_inputs(settings)
    read_parts(run, inputs, make_encoder(inputs.model, settings), Console(quiet=True))
    write_million(run, count)
    summary = decide(run, settings.decision)
    write_report(run, summary)
    assert (summary.kept, summary.removed) == (980_000, 20_000)
    assert (run.path / "report.html").stat().st_size < 10_000_000
    with opened(browser, run.path) as page:
        assert "1,000,000" in page.locator("#counts").inner_text()
        assert page.locator("#list > li").count() > 10


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, model):
    """A run of preferences, hostile ones among them, some of which look swapped."""
    place = tmp_path_factory.mktemp("pairs")
    rejected = [text[:2000] for text in HOSTILE] + [f"Rejected {i}." for i in range(6)]
    rows = [
        {"id": row["id"], "prompt": row["prompt"], "chosen": row["completion"], "rejected": text}
        for row, text in zip(NOISY, rejected, strict=True)
    ]
    noisy, safe = write_jsonl(place / "pairs.jsonl", rows), write_jsonl(place / "safe.jsonl", SAFE)
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(place / "run")]
    assert main([*command, "--threshold=-9", *QUICK]) == 0
    return place / "run"


def test_the_report_carries_both_answers_of_a_pair(pairs):
    data = held((pairs / "report.html").read_text())
    found = {row["id"]: row for row in data["rows"]}
    scores = pq.read_table(pairs / "scores.parquet").to_pydict()
    assert data["summary"]["swapped"] == sum(scores["looks_swapped"]) > 0
    for i, id in enumerate(scores["id"]):
        pair = found[id]["pair"]
        assert pair["forgetting"] == scores["rejected_forgetting"][i]
        assert pair["swapped"] == scores["looks_swapped"][i]
    assert "".join(found["n7"]["pieces"]).startswith(NOISY[7]["completion"])
    assert found["n7"]["pair"]["text"] == "Rejected 1."
    assert (found["n5"]["pair"]["cut"], found["n7"]["pair"]["cut"]) == (True, False)
    assert not {"chosen", "rejected", "prompt"} & set(found["n7"]["tags"])


def test_both_answers_are_shown_and_pairs_that_look_swapped_alone(browser, pairs):
    data = held((pairs / "report.html").read_text())
    swapped = data["summary"]["swapped"]
    with opened(browser, pairs) as page:
        page.set_viewport_size({"width": 360, "height": 740})
        assert f"{swapped} of 12 pairs look swapped" in page.text_content("#first")
        assert "blur" in page.locator("#list .rejected").first.evaluate("e => getComputedStyle(e).filter")
        page.check("#reveal")
        page.select_option("#which", "swapped")
        assert page.locator("#list > li").count() == page.locator("#list .badge.swapped").count() == swapped
        page.select_option("#which", "all")
        page.fill("#search", "rejected 1.")
        only = page.locator("#list > li")
        assert only.count() == 1
        assert "Rejected: Rejected 1." in only.locator(".rejected").text_content()
        assert "rejected answer forgotten by" in only.locator(".facts").text_content()
        page.fill("#search", "")
        assert page.evaluate("window.hacked") is None
        assert page.locator("#list img, #list script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_page_without_pairs_does_not_speak_of_them(page):
    assert page.locator("#which [value=swapped]").count() == 0
    assert page.locator("#list .rejected").count() == 0


@pytest.fixture(scope="module")
def suspects(tmp_path_factory, model):
    """A run in which all evidence together decides, with rows known to be harmless, one of which looks unsafe."""
    place = tmp_path_factory.mktemp("suspects")
    more = [{**row, "id": f"{row['id']}-{i}", "prompt": f"{row['prompt']} ({i})"} for i in range(5) for row in NOISY]
    hostile = [{"id": f"<b>h{i}", "prompt": text[:99], "completion": text[:999]} for i, text in enumerate(HOSTILE)]
    noisy = write_jsonl(place / "noisy.jsonl", [*NOISY, *more, *hostile])
    safe = write_jsonl(place / "safe.jsonl", SAFE)
    harmless = [{"prompt": f"How many are {i}?", "completion": f"There are {i} of them, or so."} for i in range(40)]
    trusted = write_jsonl(place / "trusted.jsonl", [*harmless, {"prompt": "Now?", "completion": "Yes, do it now."}])
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(place / "run")]
    command += [
        *QUICK,
        "--signal",
        "suspicion",
        "--trusted",
        str(trusted),
        "--rivals",
        "base-loss",
        "--threshold",
        "top:25%",
    ]
    return command


@pytest.fixture(scope="module")
def looked(suspects):
    """The same, ended after the first look."""
    assert main([*suspects, "--no-training"]) == 0
    run = Path(suspects[suspects.index("--output") + 1])
    return shutil.copytree(run, run.with_name("looked"))


@pytest.fixture(scope="module")
def suspected(suspects, looked):
    """The same, gone on with."""
    assert looked.exists()
    assert main(suspects) == 0
    return Path(suspects[suspects.index("--output") + 1])


KINDS = ["its words", "what the model makes of it", "likeness to the package's unsafe examples"]


def test_each_row_says_what_speaks_for_it(suspected, browser):
    data = held((suspected / "report.html").read_text())
    scores = {row["id"]: row for row in pq.read_table(suspected / "scores.parquet").to_pylist()}
    assert data["evidence"] == [*KINDS, "forgetting", "base-loss"]
    for row in data["rows"]:
        assert sum(row["evidence"]) == pytest.approx(scores[row["id"]]["suspicion"], abs=1e-3)
        assert row["forgetting"] == scores[row["id"]]["forgetting"]
    with opened(browser, suspected) as page:
        first, row = page.locator("#list > li").first, data["rows"][0]
        assert f"suspicious by {row['suspicion']:.4g}" in first.locator(".facts").text_content()
        assert f"forgotten by {row['forgetting']:.4g}: " in first.locator(".facts").text_content()
        bars = first.locator(".evidence li")
        assert [text.rstrip("0123456789.+−") for text in bars.all_text_contents()] == data["evidence"]
        assert bars.first.locator(".value").text_content() == f"{row['evidence'][0]:+.1f}".replace("-", "−")
        assert "Rows more suspicious than the threshold" in page.text_content("#threshold")
        assert "Rows by suspicion, in deviations above trusted rows" in page.text_content("#histogram-says")
        assert page.text_content("#order option") == "most suspicious first"
        assert "suspicious by" in page.text_content("#examples")
        assert page.evaluate("window.hacked") is None
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_other_evidence_the_page_speaks_of_forgetting(folder, page):
    data = held((folder / "report.html").read_text())
    assert (data["evidence"], data["proposed"], data["training"]) == ([], {}, "")
    assert not page.locator("#look").is_visible()
    assert page.locator("#list .evidence, #which [value=look]").count() == 0
    assert "Rows forgotten more than the threshold" in page.text_content("#threshold")
    assert "forgotten by" in page.locator("#list .facts").first.text_content()
    assert "suspici" not in page.inner_text("body").lower()


def test_a_rivals_rows_are_suspicious(suspected, browser, tmp_path):
    run = shutil.copytree(suspected, tmp_path / "run")
    assert main(["decide", str(run), "--signal", "base-loss"]) == 0
    with opened(browser, run) as page:
        assert "What the rival filter “base-loss” suspects" in page.text_content("h1")
        assert "suspicious by" in page.locator("#list .facts").first.text_content()
        assert page.locator("#list .evidence").count() == 0
        assert not page.locator("#look").is_visible()


def test_rows_to_look_at_first_are_proposed_until_decided(suspected, browser, tmp_path):
    run = shutil.copytree(suspected, tmp_path / "run")
    assert main(["decide", str(run)]) == 0
    before = held((run / "report.html").read_text())
    proposed = list(before["proposed"])
    assert set(before["proposed"].values()) > {"near the threshold"}
    assert 2 < len(proposed) <= 20
    with opened(browser, run) as page:
        assert f"these {len(proposed)} rows" in page.text_content("#look-says")
        assert "save your decisions, and run the command that the page then shows" in page.text_content("#look-says")
        page.click("#look-show")
        assert page.locator("#list > li").count() == len(proposed)
        assert page.locator("#list .look").count() == len(proposed)
        page.keyboard.press("j")
        page.keyboard.press("x")
        page.keyboard.press("j")
        page.keyboard.press("y")
        assert page.text_content("#look-done") == "2 of them decided."
        with page.expect_download() as download:
            page.click("#save")
        name = download.value.suggested_filename
        assert page.text_content("#look-says code").endswith(f" --overrides {name}")
        download.value.save_as(tmp_path / "overrides.json")
    decisions = json.loads((tmp_path / "overrides.json").read_text())["decisions"]
    assert len(decisions) == 2
    assert main(["decide", str(run), "--overrides", str(tmp_path / "overrides.json")]) == 0
    after = held((run / "report.html").read_text())
    assert not set(decisions) & set(after["proposed"])
    # All other rows are ranked anew.
    old, new = ({row["id"]: row["suspicion"] for row in of["rows"]} for of in (before, after))
    assert sum(abs(old[name] - new[name]) > 1e-6 for name in old) > len(old) / 2


def test_every_command_of_the_page_decides_as_it_shows(suspected, browser, tmp_path, monkeypatch):
    run, file = shutil.copytree(suspected, tmp_path / "run"), tmp_path / "ov.json"
    assert main(["decide", str(run), "--threshold", "top:25%"]) == 0
    saw = {"threshold": "top:0%", "signal": "base-loss", "drop_unscorable": True}
    file.write_text(json.dumps({"reviewer": "Ada", "decisions": {"n0": "removed"}, **saw}))
    with opened(browser, run) as page:
        page.set_input_files("#load", file)
        page.wait_for_function("document.getElementById('saved').textContent")
        assert page.text_content("#saved").startswith("Loaded from ov.json. To apply: ")
        page.on("dialog", lambda dialog: dialog.accept())
        page.reload()
        assert page.text_content("#saved").endswith(", in the folder of that file.")
        assert "downloads" not in page.text_content("#saved")
        applied = page.text_content("#command")
        assert shlex.split(applied)[3:] == shlex.split(
            "--threshold=top:25% --signal suspicion --no-drop-unscorable --overrides ov.json"
        )
        assert page.text_content("#saved code") == page.text_content("#look-says code") == applied
        name = saved_name(page)
        page.fill("#number", "1.5")
        page.press("#number", "Enter")
        command = page.text_content("#command")
        assert "--threshold=1.5 " in command
        assert page.text_content("#saved").startswith(f"Saved as {name}, where this browser puts downloads.")
        assert page.text_content("#saved code") == page.text_content("#look-says code") == command
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(applied)[1:]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert [summary[of] for of in saw] == ["top:25%", "suspicion", False]


def first_look(suspects, place, safe, *more):
    """A first look at the same data with other safe examples, half of which are set aside."""
    file = write_jsonl(
        place / "safe.jsonl", [{"prompt": f"What of {i}?", "completion": safe.format(i)} for i in range(60)]
    )
    command = [*reviewing(suspects, file), "--set-aside", "0.5", "--no-training", *more]
    assert main([*command, "--output", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture(scope="module")
def of_two_kinds(suspects, tmp_path_factory):
    """One with two kinds of trusted rows, safe examples among them, and known unsafe rows."""
    place = tmp_path_factory.mktemp("two-kinds")
    unsafe = [{**row, "prompt": f"{row['prompt']} {i}"} for i in range(4) for row in NOISY[:4]]
    known = write_jsonl(place / "unsafe.jsonl", unsafe)
    return first_look(suspects, place, "I'd rather not say more about {}.", "--known-unsafe", str(known))


@pytest.fixture(scope="module")
def of_unlike(suspects, tmp_path_factory):
    """One whose trusted rows are safe examples of another kind than the data."""
    return first_look(suspects, tmp_path_factory.mktemp("unlike"), "7 * 8 = 56, {} + 3", "--trusted", "none")


def test_estimates_that_cannot_be_told_are_not_shown(suspected, of_two_kinds, of_unlike, browser, tmp_path, capsys):
    doubts, kinds = set(), set()
    for name, of in (("one", suspected), ("two", of_two_kinds), ("unlike", of_unlike)):
        run = shutil.copytree(of, tmp_path / name)
        for threshold in ("top:2%", "top:5%", "-0.5"):
            capsys.readouterr()
            assert main(["decide", str(run), "--threshold", threshold]) == 0
            summary, said = json.loads((run / "summary.json").read_text()), capsys.readouterr().out
            doubts.add(bool(summary["doubt"]))
            assert summary["doubt"].startswith("the safe examples are hardly like") == (name == "unlike")
            kinds.add(len(held((run / "report.html").read_text())["kinds"]))
            warned = any(warning.startswith(summary["doubt"] or "none") for warning in summary["warnings"])
            assert warned == bool(summary["doubt"])
            with opened(browser, run) as page:
                here = page.text_content("#errors")
                check_estimates(summary, said, here)
                # The page finds the same by itself where the threshold is moved there.
                page.fill("#number", "1000")
                page.press("#number", "Enter")
                moved = float(f"{summary['cut'] + 1e-5:.6g}")
                page.fill("#number", str(moved))
                page.press("#number", "Enter")
                assert here.split(": ", 1)[1].rstrip(".") in page.text_content("#effect")
    assert doubts == {True, False}
    assert kinds == {0, 2}


def test_where_hardly_a_row_is_kept_no_precision_is_told(of_two_kinds, browser, tmp_path, capsys):
    run = shutil.copytree(of_two_kinds, tmp_path / "run")
    why = "the kept rows are too few to show whether the trusted rows are like the harmless rows of the data"
    for threshold in ("-1000", "top:100%", "top:95%"):
        capsys.readouterr()
        assert main(["decide", str(run), "--threshold", threshold]) == 0
        summary, said = json.loads((run / "summary.json").read_text()), capsys.readouterr().out
        assert summary["doubt"] == why
        with opened(browser, run) as page:
            check_estimates(summary, said, page.text_content("#errors"))
            assert f"harmless cannot be told: {why}." in page.text_content("#sure")
            # The page finds the same by itself.
            page.fill("#number", "-999")
            page.press("#number", "Enter")
            assert f"precision cannot be told ({why})" in page.text_content("#effect")


def check_estimates(summary, said, here):
    """What the page says of errors is what was decided."""
    if summary["doubt"]:
        assert summary["errors"]["precision"] is summary["errors"]["harmless_removed"] is None
        assert f"precision cannot be told: {summary['doubt']}" in said
        assert f"precision cannot be told ({summary['doubt']})" in here
    for name in ("precision", "recall"):
        found = summary["errors"][name]
        assert (found is None) == (bool(summary["doubt"]) if name == "precision" else not summary["known_unsafe"])
        if found:
            interval = f"{found['low']:.0%} to {found['high']:.0%}"
            vague = found["high"] - found["low"] >= 0.8
            assert (f"{name} unknown: {interval}" if vague else f"{name} {found['value']:.0%} ({interval})") in here


def test_a_run_that_trained_nothing_says_so_and_how_to_go_on(looked, browser, tmp_path, capsys):
    run = shutil.copytree(looked, tmp_path / "run")
    assert main(["decide", str(run)]) == 0
    said = capsys.readouterr().out
    assert "nothing was trained: rows were judged by what they say" in said
    assert "Most suspicious, in deviations above trusted rows:" in said
    assert "never learned" not in said
    data = held((run / "report.html").read_text())
    assert (data["summary"]["trained"], data["sessions"], data["examples"], data["curve"]) == (False, [], [], None)
    assert data["evidence"] == [*KINDS, "base-loss"]
    with opened(browser, run) as page:
        assert "Nothing was trained" in page.text_content("#first")
        assert "without --no-training" in page.text_content("#first")
        for hidden in ("#course", "#answers", "#shades"):
            assert not page.locator(hidden).is_visible()
        assert page.locator("#list .evidence").count() > 10
        assert "forgotten" not in page.inner_text("#list")
        assert page.locator("nav a:visible").all_text_contents() == [
            "The threshold",
            "The rows",
            "By column",
            "How it works",
        ]
        assert page.locator("#look").is_visible()


def test_a_run_that_trained_nothing_says_what_it_takes_to_decide_by_forgetting(looked, capsys):
    assert main(["decide", str(looked), "--signal", "likelihood"]) == 2
    said = capsys.readouterr().err
    assert "no scores for the signal 'likelihood', as nothing was trained" in said
    assert "without --no-training" in said


def test_the_figure_of_a_run_that_trained_nothing(looked, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["figure", str(looked), "--output", str(tmp_path)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["suspicion.pdf", "suspicion.svg"]
