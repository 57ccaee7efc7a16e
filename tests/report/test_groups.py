"""Removed rows by subject and by column: what is gathered, and, in a browser, that one decision holds for a group."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.data.rows import Rows
from forgetfilter.decision.decide import read_summary
from forgetfilter.report import write_report
from forgetfilter.report.by_column import _places_by_value, break_down
from forgetfilter.report.topics import choose_members, gather_topics
from forgetfilter.runs.layout import DATA, ROWS
from forgetfilter.runs.run import Run
from support.quick_runs import QUICK, SAFE, write_jsonl
from support.report_pages import HOSTILE, held, opened

SUBJECTS = {
    "medicine": "Take the pills that the doctor gave against your fever",
    "cars": "The engine of the truck and its brakes need a garage",
    "swearing": "You bastard spilled whiskey over the carpet, bastard",
}


def made_rows():
    """Rows about three subjects, of which ten nearly repeat one another, and hostile ones."""
    random = np.random.default_rng(0)
    rows = []
    for subject, text in SUBJECTS.items():
        for i in range(12):
            said = " ".join(random.permutation(text.split())) + f" {subject}{i % 3}"
            rows.append(
                {"id": f"{subject}-{i}", "prompt": f"Tell me {subject}?", "completion": said, "source": subject}
            )
    rows += [
        {"id": f"copy-{i}", "prompt": "Again?", "completion": SUBJECTS["cars"] + "!" * i, "source": "bot"}
        for i in range(10)
    ]
    rows += [
        {"id": f"<b>h{i}", "prompt": "<b>", "completion": text[:300], "source": text[:40]}
        for i, text in enumerate(HOSTILE)
    ]
    return [{**row, "user": f"user{i % 20}"} for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    place = tmp_path_factory.mktemp("groups")
    noisy, safe = write_jsonl(place / "noisy.jsonl", made_rows()), write_jsonl(place / "safe.jsonl", SAFE)
    command = ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(place / "run")]
    assert main([*command, "--threshold", "top:75%", "--max-completion", "all", *QUICK]) == 0
    return place / "run"


@pytest.fixture
def page(browser, folder):
    with opened(browser, folder) as page:
        yield page


def move(page, threshold):
    page.fill("#number", str(threshold))
    page.press("#number", "Enter")


def counted(page):
    """The numbers at the top, by their labels."""
    tiles = page.locator("#counts > div")
    return {
        tiles.nth(i).locator("dt").text_content(): int(tiles.nth(i).locator("dd").text_content().replace(",", ""))
        for i in range(tiles.count())
    }


def test_the_page_holds_every_removed_row_in_a_group(folder):
    data = held((folder / "report.html").read_text())
    topics, scores = data["topics"], pq.read_table(folder / "scores.parquet").to_pydict()
    of_id = dict(zip(scores["id"], scores["suspicion"], strict=True))
    assert {id for id, verdict in zip(scores["id"], scores["decision"], strict=True) if verdict == "removed"} <= set(
        topics["ids"]
    )
    assert topics["suspicion"] == [of_id[id] for id in topics["ids"]]
    assert topics["suspicion"] == sorted(topics["suspicion"], reverse=True)
    group = dict(zip(topics["ids"], topics["of"], strict=True))
    assert len({group[f"copy-{i}"] for i in range(10)}) == 1
    first = {topics["ids"][i]: topics["ids"][original] for i, original in enumerate(topics["copies"])}
    assert len({first[f"copy-{i}"] for i in range(10)}) == 1
    words = {word["word"]: word["listed"] for words in topics["telling"] for word in words}
    assert words["bastard"]
    assert not words.get("engine", False)


def test_groups_do_not_depend_on_the_order_of_the_rows(folder):
    rows = Rows.open(Run.open(folder).folder(ROWS) / DATA)
    members = pq.read_table(folder / "scores.parquet", columns=["id", "row", "suspicion"]).drop_null()
    members = members.filter(pc.is_finite(members.column("suspicion")))
    order = np.random.default_rng(0).permutation(len(members))
    assert gather_topics(rows, members, 0.0) == gather_topics(rows, members.take(pa.array(order)), 0.0)


@pytest.mark.parametrize("count", [100, 100_000])
def test_rows_above_the_cut_are_members_and_the_next_below(count):
    suspicion = np.random.default_rng(0).permutation(count).astype(float)
    suspicion[3] = np.nan
    cut = 0.99 * count
    above = int((suspicion > cut).sum())
    places = choose_members(suspicion, cut)
    assert set(np.flatnonzero(suspicion > cut)) <= set(places)
    assert above < len(places) <= max(2 * above, above + 200)
    assert not np.isnan(suspicion[places]).any()
    assert (np.diff(suspicion[places]) < 0).all()
    assert 20 <= len(choose_members(suspicion, None)) <= 10_000


def test_a_decision_about_a_group_holds_for_all_its_rows(page, folder, tmp_path):
    data = held((folder / "report.html").read_text())
    removed = {
        id
        for id, s in zip(data["topics"]["ids"], data["topics"]["suspicion"], strict=True)
        if s > data["summary"]["cut"]
    }
    first = page.locator("#topic-list > li").first
    size = int(re.match(r"(\d+) removed", first.locator(".badge").text_content())[1])
    keep = first.locator("button", has_text="Keep all")
    keep.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == f"Keep all {size}"
    assert page.text_content("#topics-done").startswith(f"{size} rows about ")
    assert page.text_content("#mine").startswith(f"{size} rows decided by you")
    assert counted(page)["removed"] == len(removed) - size
    assert f"{len(removed) - size} rows look unsafe" in page.text_content("#found")
    assert first.locator(".badge").text_content() == "0 removed"
    first.locator("button", has_text="Show these rows").click()
    page.uncheck("#fold")
    assert page.locator("#list > li").count() == page.locator("#list > li.kept").count() == size
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "overrides.json")
    decisions = json.loads((tmp_path / "overrides.json").read_text())["decisions"]
    assert len(decisions) == size
    assert set(decisions) <= removed
    run = shutil.copytree(folder, tmp_path / "run")
    assert main(["decide", str(run), "--overrides", str(tmp_path / "overrides.json")]) == 0
    kept = [json.loads(line)["id"] for line in (run / "kept.jsonl").read_bytes().splitlines()]
    assert set(decisions) <= set(kept)
    first.locator("button", has_text="Undo").click()
    assert page.text_content("#mine").startswith("0 rows decided by you")
    assert counted(page)["removed"] == len(removed)


def stored_marks(page):
    """The marks that the browser keeps."""
    (stored,) = page.evaluate("Object.values(localStorage)")
    return dict(json.loads(stored)["decisions"])


def test_a_group_spares_marks_of_single_rows_and_its_undo_restores_them(page):
    page.uncheck("#fold")
    first = page.locator("#topic-list > li").first
    size = int(re.match(r"(\d+) removed", first.locator(".badge").text_content())[1])
    first.locator("button", has_text="Show these rows").click()
    page.locator("#list > li").nth(0).locator("button", has_text="Keep").click()
    page.locator("#list > li").nth(1).locator("button", has_text="Remove").click()
    page.locator("#list > li").nth(2).locator("button", has_text="Keep").click()
    before = stored_marks(page)
    assert sorted(before.values()) == ["kept", "kept", "removed"]
    assert "3 rows keep their mark" in first.locator(".controls").text_content()
    for label, verdict in (("Remove", "removed"), ("Keep", "kept")):
        first.locator("button", has_text=f"{label} the other {size - 3}").click()
        assert page.text_content("#topics-done").startswith(f"{size - 3} rows about ")
        marks = stored_marks(page)
        assert len(marks) == size
        assert marks | before == marks
        assert {marks[name] for name in marks.keys() - before.keys()} == {verdict}
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    first.locator("button", has_text="Undo").click()
    assert stored_marks(page) == before
    assert page.text_content("#topics-done") == f"The filter decides again about {size - 3} rows."
    # Nothing more to take back: marks of single rows are undone at their rows.
    first.locator("button", has_text="Undo").click()
    assert stored_marks(page) == before


def test_a_group_that_was_decided_about_is_undone_together_once_it_is_applied(folder, browser, page, tmp_path):
    page.uncheck("#fold")
    first = page.locator("#topic-list > li").first
    name = first.locator("h3").text_content()
    first.locator("button", has_text="Keep all").click()
    first.locator("button", has_text="Show these rows").click()
    page.locator("#list > li").first.locator("button", has_text="Remove").click()
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "overrides.json")
    marks = stored_marks(page)
    run = shutil.copytree(folder, tmp_path / "run")
    assert main(["decide", str(run), "--overrides", str(tmp_path / "overrides.json")]) == 0
    # Another decision goes on with the same marks.
    assert main(["decide", str(run)]) == 0
    with opened(browser, run) as applied:
        (again,) = [i for i in applied.locator("#topic-list > li").all() if i.locator("h3").text_content() == name]
        again.locator("button", has_text="Undo").click()
        assert applied.text_content("#topics-done") == f"The filter decides again about {len(marks) - 1} rows."
        assert list(stored_marks(applied).values()) == ["removed"]


def test_a_row_that_is_marked_after_its_group_keeps_that_mark(page):
    page.uncheck("#fold")
    first = page.locator("#topic-list > li").first
    first.locator("button", has_text="Keep all").click()
    first.locator("button", has_text="Show these rows").click()
    page.locator("#list > li").first.locator("button", has_text="Remove").click()
    assert "1 row keeps its mark" in first.locator(".controls").text_content()
    first.locator("button", has_text="Undo").click()
    assert list(stored_marks(page).values()) == ["removed"]


def test_near_copies_are_one_look_and_one_decision(page):
    move(page, -100)
    page.select_option("#which", "removed")
    page.fill("#search", SUBJECTS["cars"])
    assert page.locator("#list > li").count() == 1
    card = page.locator("#list > li").first
    assert "and 9 nearly the same" in card.locator(".facts").text_content()
    assert "The 10 that match your choice are listed, 9 of these folded under others" in page.text_content("#shown")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("y")
    assert page.text_content("#mine").startswith("10 rows decided by you")
    card.locator("button", has_text="Undo").click()
    assert page.text_content("#mine").startswith("0 rows decided by you")
    page.uncheck("#fold")
    assert page.locator("#list > li").count() == 10
    card.locator("button", has_text="Keep").click()
    assert page.text_content("#mine").startswith("1 row decided by you, not saved yet: 0 unsafe, 1 harmless")


def test_every_number_follows_the_threshold(page, folder):
    data = held((folder / "report.html").read_text())
    suspicion = np.array([row["suspicion"] for row in data["rows"] if row["suspicion"] is not None])
    for threshold in (*np.quantile(suspicion, (0.1, 0.5, 0.9)).round(4), -100, 100):
        move(page, threshold)
        gone = int((suspicion > threshold).sum())
        assert counted(page)["removed"] == gone
        assert counted(page)["kept"] + gone == data["summary"]["rows"]
        assert f"removes {gone} rows" in page.text_content("#effect")
        badges = page.locator("#topic-list .badge").all_text_contents()
        assert sum(int(text.split()[0]) for text in badges) == gone
        in_table = page.locator("#grouped tbody tr td:nth-child(3)").all_text_contents()
        assert sum(int(text.split()[0]) for text in in_table) == gone
        page.select_option("#column", label="user")
        in_table = page.locator("#grouped tbody tr td:nth-child(3)").all_text_contents()
        assert (len(in_table), sum(int(text.split()[0]) for text in in_table)) == (12, gone)
        page.select_option("#column", index=0)
        verdicts = page.locator("#examples .badge").all_text_contents()
        assert verdicts == ["removed" if e["suspicion"] > threshold else "kept" for e in data["examples"]]
        assert f"{gone} rows look unsafe" in page.text_content("#found") or gone < 2


def test_rows_beyond_those_that_the_page_groups_are_counted(browser, folder, tmp_path, monkeypatch):
    run = Run.open(shutil.copytree(folder, tmp_path / "run"))
    monkeypatch.setattr("forgetfilter.report.topics._MEMBERS", 15)
    write_report(run, read_summary(run))
    removed = read_summary(run).removed
    with opened(browser, run.path) as page:
        assert f"{removed - 15} further removed rows are in no group" in page.text_content("#topics-say")
        assert "15 removed rows, in" in page.text_content("#topics-say")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_slider_stands_under_the_threshold_and_moves_with_the_keys(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent).values")
    move(page, round(data[0] + 0.3 * (data[-1] - data[0]), 4))
    page.focus("#slider")
    before = float(page.input_value("#number"))
    page.keyboard.press("ArrowRight")
    assert float(page.input_value("#number")) > before
    slider, line = page.locator("#slider").bounding_box(), page.locator("#histogram .cut").bounding_box()
    share = (float(page.input_value("#slider")) - data[0]) / (data[-1] - data[0])
    thumb = slider["x"] + 8 + share * (slider["width"] - 16)
    assert line["x"] + line["width"] / 2 == pytest.approx(thumb, abs=1.5)
    assert 0 < slider["y"] - (line["y"] + line["height"]) < 40
    labels = page.locator("#histogram text").all_text_contents()
    assert labels[0] == "rows"
    assert all(len(label.strip("−")) <= 6 for label in labels)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_words_and_values_are_only_text(page):
    move(page, -100)
    page.set_viewport_size({"width": 360, "height": 740})
    names = [page.text_content("#found"), *page.locator("#topic-list h3").all_text_contents()]
    assert "bastard" not in "".join(names)
    assert "b•••" in names[0]
    page.check("#reveal")
    assert "bastard" in page.text_content("#found")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#topics img, #topics script, #groups img, #groups script, #topic-list li b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert "\u202e" not in page.inner_text("body")


def test_everything_that_acts_has_a_name_and_can_be_reached(page):
    names = page.locator("button, input, select, summary, a").evaluate_all(
        "all => all.map(e => (e.getAttribute('aria-label') || (e.labels && e.labels[0] || e).textContent || '').trim())"
    )
    assert all(names)
    order = page.locator("#slider, #number, #topic-list button, #which, #list button").evaluate_all(
        "all => all.filter(e => e.tabIndex < 0).length"
    )
    assert order == 0
    page.focus("#topic-list button")
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def table_of(folder, **more):
    scores = pq.read_table(folder / "scores.parquet", columns=["row", "suspicion"])
    for name, values in more.items():
        scores = scores.append_column(name, pa.array(values))
    return Rows.open(Run.open(folder).folder(ROWS) / DATA), scores


def test_values_that_are_too_many_are_told_together(folder):
    rows, scores = table_of(folder)
    suspicion = scores.column("suspicion").to_numpy()
    cut = float(np.median(suspicion))
    columns = {column["column"]: column["values"] for column in break_down(rows, scores, cut, seed=0)}
    assert set(columns) == {"source", "user"}
    users = columns["user"]
    assert len(users) == 12
    (others,) = [user for user in users if user["value"] is None]
    assert others["others"] == 20 - 11
    assert sum(user["count"] for user in users) == len(suspicion)
    assert sum(user["above"] for user in users) == (suspicion > cut).sum()
    assert min(u["above"] for u in users if u["value"]) >= others["above"] / others["others"]
    for user in users:
        assert user["above"] == sum(value > cut for value in user["suspicion"])


def test_no_column_is_counted_in_part():
    """Of a table of many columns the first count; one that has to wait for an id's place would miss the first rows."""
    fields = ({"id": str(i)} | {f"c{column}": "same" for column in range(45)} for i in range(3000))
    places_of = _places_by_value(enumerate(fields))
    assert len(places_of) == 39
    assert {len(places) for values in places_of.values() for places in values.values()} == {3000}


def test_what_a_guard_found_is_a_column(folder):
    count = pq.read_metadata(folder / "scores.parquet").num_rows
    said = [(0.9, ["Violence"]), (0.7, ["Hate", "Sex"]), (0.1, []), (None, None)] * count
    unsafe, categories = zip(*said[:count], strict=True)
    rows, scores = table_of(folder, guard=unsafe, guard_categories=categories)
    columns = {column["column"]: column["values"] for column in break_down(rows, scores, None, seed=0)}
    by_value = {value["value"]: value["count"] for value in columns["guard model"]}
    assert by_value == {"unsafe: Violence": count / 4, "unsafe: Hate, Sex": count / 4, "safe": count / 4}
