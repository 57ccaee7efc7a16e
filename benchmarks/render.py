"""Fill the tables of the documents in from docs/results, and the reference of the options from the settings.

    python benchmarks/render.py
    python benchmarks/render.py --check

A page marks the place of a table with two comments; whatever stands between them is replaced:

    <!-- result: NAME -->
    <!-- end -->

With --check nothing is written, and pages that would change are named.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from results import RESULTS, markdown, read_result

DOCS = RESULTS.parent
PLACE = re.compile(r"(<!-- result: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: Path, results: Path) -> str:
    """Return the page's text with every marked place filled in.

    Raises:
        FileNotFoundError: A place names a result that there is not.
    """

    def fill(place: re.Match[str]) -> str:
        return f"{place[1]}\n{markdown(read_result(results / f'{place[2]}.json'))}\n\n{place[3]}"

    return PLACE.sub(fill, page.read_text(encoding="utf-8"))


def unused(pages: list[Path], results: Path) -> list[str]:
    """Name the results that no page shows."""
    shown = {place[2] for page in pages for place in PLACE.finditer(page.read_text(encoding="utf-8"))}
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
