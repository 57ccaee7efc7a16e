"""Write the report's page. Text from data sets enters it only as JSON, which the page's script inserts as text."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from .. import __version__
from ..console import escaped
from ..decision.decide import Summary
from ..forgetting.signals import RIVAL, SIGNALS, Signal
from ..runs.layout import REPORT
from ..runs.run import Run
from .contents import gather

# `page.js` comes last: it begins to act as soon as it is read.
_SCRIPTS = ("charts.js", "header.js", "groups.js", "page.js")


def write_report(run: Run, summary: Summary) -> None:
    """Write `report.html` into the folder of a decided run."""
    contents = gather(run, summary)
    data = json.dumps(asdict(contents), ensure_ascii=False, allow_nan=False)
    page = _render(data, contents.name, SIGNALS[summary.signal])
    run.write_file(REPORT, lambda path: _write(page, path))


def _write(page: str, path: Path) -> None:
    path.write_bytes(page.encode("utf-8", "replace"))


def _render(data: str, name: str, signal: Signal) -> str:
    style, template = _read_part("page.css"), _read_part("page.html")
    script = "".join(_read_part(name) for name in _SCRIPTS)
    environment = Environment(autoescape=True)
    return environment.from_string(template).render(
        name=escaped(name),
        signal=signal,
        rival=signal.scoring == RIVAL,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(_inert(data)),
    )


def _read_part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Hash a text as a content-security policy names it, so that no other text may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inert(data: str) -> str:
    """Escape JSON so that its value stays the same but no markup can begin in it."""
    return data.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
