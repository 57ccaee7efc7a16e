"""The tables of the documents are what was measured, and how."""

import json
import re
import subprocess
import sys

import pytest

from support.documents import ROOT

RESULTS = sorted((ROOT / "docs/results").glob("*.json"))
# What these pages say in tables was measured.
MEASURED = ["evidence", "appendix", "performance", "studies"]


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import results

    return results


@pytest.fixture
def render(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import render

    return render


def test_the_pages_are_what_the_results_render():
    check = [sys.executable, "benchmarks/render.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", MEASURED)
def test_every_table_of_a_page_of_measurements_is_a_result(page, render):
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    assert "<!-- result: " in text
    assert not re.search(r"^ *\|.*\|$", render.PLACE.sub("", text), re.MULTILINE)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_result_says_how_it_was_measured(path, results):
    result = results.read_result(path)
    assert re.match(r"20\d\d-\d\d-\d\d", result.date)
    assert result.command or result.note


def test_a_changed_figure_is_a_stale_page(render, tmp_path):
    fields = {"title": "A", "columns": ["b"], "rows": [["0.5"]], "command": "python a.py", "commit": "abc", "note": ""}
    fields |= {"date": "2026-11-29", "processor": None}
    (tmp_path / "a.json").write_text(json.dumps(fields))
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- result: a -->\n<!-- end -->\n\nAfter.\n")
    page.write_text(render.rendered(page, tmp_path))
    assert "| 0.5 |" in page.read_text()
    assert "$ python a.py" in page.read_text()
    assert render.rendered(page, tmp_path) == page.read_text()
    (tmp_path / "a.json").write_text(json.dumps(fields | {"rows": [["0.6"]]}))
    assert render.rendered(page, tmp_path) == page.read_text().replace("0.5", "0.6")


def test_a_result_of_unknown_code_says_so_in_its_title(results):
    with pytest.raises(ValueError, match="earlier code"):
        results.Result("A", ("b",), (("1",),), None, None, "2026-11-29", None)


def test_a_benchmark_writes_what_it_measured_and_how(results, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks/panel.py", "--half", "reported", "--json", "x.json"])
    results.write_result(tmp_path / "x.json", "A", ["b"], [["1"]], "A note.")
    result = results.read_result(tmp_path / "x.json")
    assert (result.command, result.rows, result.note) == ("python panel.py --half reported", (("1",),), "A note.")
    assert result.commit
    assert result.date
