"""summary.json as other programs read it: what the page on it says is what is there."""

import json
import re

from support.documents import ROOT
from support.quick_runs import run


def test_the_page_names_the_keys_that_are_written_with_their_types(command, tmp_path):
    assert run(command) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    page = (ROOT / "docs/reference/summary.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([\w ]+) \|", page, re.MULTILINE)
    told = {name: kind for names, kind in lines for name in re.findall(r"\w+", names)}
    assert told.keys() == summary.keys()
    assert summary["version"] == 1
    kinds = {"integer": int, "number": float, "string": str, "boolean": bool, "object": dict, "null": type(None)}
    kinds |= {"array of strings": list}
    for name, value in summary.items():
        assert type(value) in [kinds[kind] for kind in told[name].split(" or ")], name
