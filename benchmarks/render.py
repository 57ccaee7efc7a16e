"""Fill the tables of the documents in from docs/results, and the reference of the options from the settings.

    python benchmarks/render.py
    python benchmarks/render.py --check

A page marks the place of a table with two comments; whatever stands between them is replaced:

    <!-- result: NAME -->
    <!-- end -->

`made` in the place of `result` stands for what is made from several results, or from the settings: see MADE.

With --check nothing is written, and pages that would change are named.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from option_tables import option_tables
from results import RESULTS, markdown, read_result, table

DOCS = RESULTS.parent
PLACE = re.compile(r"(<!-- (result|made): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What the README tells of, and the names of its rows in the results `panel` and `word-list`.
TASKS = {
    "harmful answers": ("harmful", "harmful"),
    "toxic continuations": ("toxic", "toxic"),
    "biased answers": ("biased", "biased"),
    "all three in one data set": ("mix", "mix"),
    "harmful answers with `--safe builtin`": ("harmful-builtin", "harmful"),
}


def how_good(results: Path) -> str:
    """Set the filter beside a list of words."""
    panel, listed = read_result(results / "panel.json"), read_result(results / "word-list.json")
    cells = {(row[0].removesuffix(" *"), row[1]): dict(zip(panel.columns, row, strict=True)) for row in panel.rows}
    words = {row[0]: dict(zip(listed.columns, row, strict=True)) for row in listed.rows}
    auroc, f1 = "AUROC (95%)", "F1 at `auto` / best"
    rows = [
        (
            said,
            _short(cells[name, "0"][auroc]),
            cells[name, "0"][f1].replace(" / ", " (") + ")",
            _short(cells[name, "10"][auroc]),
            f"{_short(words[in_list][auroc])}, {words[in_list]['F1 of any listed word']}",
        )
        for said, (name, in_list) in TASKS.items()
    ]
    heads = (
        "unsafe rows",
        "AUROC",
        "F1 at `auto` (best possible)",
        "AUROC with 10 known unsafe rows",
        "word list: AUROC, F1",
    )
    return table(heads, rows)


def _short(figure: str) -> str:
    """Leave out a figure's interval and its third decimal."""
    return str(Decimal(figure.split()[0]).quantize(Decimal("0.01"), ROUND_HALF_UP))


MADE: dict[str, Callable[[Path], str]] = {
    "how-good": how_good,
    "options": lambda _: option_tables(),
}


def rendered(page: Path, results: Path) -> str:
    """Return the page's text with every marked place filled in.

    Raises:
        FileNotFoundError: A place names a result that there is not.
    """

    def fill(place: re.Match[str]) -> str:
        made = place[2] == "made"
        shown = MADE[place[3]](results) if made else markdown(read_result(results / f"{place[3]}.json"))
        return f"{place[1]}\n{shown}\n\n{place[4]}"

    return PLACE.sub(fill, page.read_text(encoding="utf-8"))


def unused(pages: list[Path], results: Path) -> list[str]:
    """Name the results that no page shows."""
    shown = {place[3] for page in pages for place in PLACE.finditer(page.read_text(encoding="utf-8"))}
    return sorted({path.stem for path in results.glob("*.json")} - shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a page would change")
    options = parser.parse_args()
    pages = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
    stale = [page for page in pages if rendered(page, RESULTS) != page.read_text(encoding="utf-8")]
    left = unused(pages, RESULTS)
    if options.check and (stale or left):
        names = [f"{page.relative_to(DOCS.parent)} is not what make docs renders" for page in stale]
        raise SystemExit("\n".join([*names, *(f"docs/results/{name}.json is on no page" for name in left)]))
    for page in stale:
        page.write_text(rendered(page, RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
