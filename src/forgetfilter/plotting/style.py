"""Save figures of runs, comparisons and studies in one style, as vector graphics that also print in black and white."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import printable
from ..errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf")
WIDTH, HEIGHT = 3.5, 2.2  # inches: one column of a two-column paper
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = "osD^vx+*"
_NAME_WIDTH = 32
_STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    # Names come from the data, where a dollar sign does not start a formula.
    "text.parse_math": False,
    # A fixed salt makes the same run give the same bytes.
    "svg.hashsalt": "forgetfilter",
}


def check_matplotlib() -> None:
    """Raise SettingsError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise SettingsError("figures need matplotlib: pip install 'forgetfilter[figures]'") from error


def save_figure(draw: Callable[[Figure], None], folder: Path, name: str, size: tuple[float, float]) -> list[Path]:
    """Draw a figure, save it as SVG and PDF, and return the files.

    Args:
        draw: Draws into an empty figure.
        folder: The folder of the files.
        name: The name of the files, without their endings.
        size: Width and height, in inches.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    written = []
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for kind in FORMATS:
            path = folder / f"{name}.{kind}"
            figure.savefig(path, metadata={"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind])
            written.append(path)
    return written


def shown(name: str) -> str:
    """Make a name from the data fit for a label; matplotlib hides labels that begin with an underscore."""
    legal = "".join(c for c in printable(name, _NAME_WIDTH) if c not in "\ufffe\uffff")
    return f" {legal}" if legal.startswith("_") else legal
